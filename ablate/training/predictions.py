"""What one evaluation gave of each example: collected on its device batch by batch, and read when all of it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ablate.records.schema import PREDICTIONS, with_metrics
from ablate.records.writer import write_table
from ablate.training.distributed import Ranks

Columns = dict[str, NDArray[Any]]


class Kept:
    """Fed by `evaluate`. A metric that has another number of values than the examples have items is not of examples, and is
    left out whole; so is one that is called like a column which every table has."""

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._items: list[int] = []
        self._values: dict[str, list[torch.Tensor]] = {}
        self._left_out = set(PREDICTIONS.names)

    def add(self, positions: Sequence[int], items: Sequence[int] | None, measured: Mapping[str, torch.Tensor]) -> None:
        """One batch. items: values of each example; None for one each. The host does not wait for the values."""
        counts = [1] * len(positions) if items is None else [int(count) for count in items]
        self._positions += positions
        self._items += counts
        for name, values in measured.items():
            if len(counts) != len(positions) or values.dim() != 1 or values.numel() != sum(counts):
                self._left_out.add(name)
            if name not in self._left_out:
                values = values.detach().double()
                self._values.setdefault(name, []).append(values if items is None else _sums(values, counts))

    def columns(
        self, ranks: Ranks, ids: Sequence[int] | None = None, groups: Sequence[int] | None = None
    ) -> Columns | None:
        """The table, in the order of the positions; None where no metric is of examples. ids, groups: as in `Evaluation`.

        Waits for the device and for the other processes, which must all ask.
        """
        values = {name: torch.cat(parts).cpu().numpy() for name, parts in self._values.items()}
        parts = ranks.gather((self._positions, self._items, values, self._left_out))
        left_out = set().union(*(part[3] for part in parts))
        names = [name for name in dict.fromkeys(name for part in parts for name in part[2]) if name not in left_out]
        if not names:
            return None
        position = np.concatenate([np.asarray(part[0], dtype=np.int64) for part in parts])
        order = np.argsort(position, kind="stable")
        named = _column(ids, position[order])
        return {
            "id": named,
            "group": named if groups is None else _column(groups, position[order]),
            "items": np.concatenate([np.asarray(part[1], dtype=np.int64) for part in parts])[order],
            **{name: np.concatenate([part[2][name] for part in parts if name in part[2]])[order] for name in names},
        }


def _sums(values: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Over each example's own values, which stand one after the other."""
    lengths = torch.tensor(counts)
    if values.device.type == "cuda":
        lengths = lengths.pin_memory().to(values.device, non_blocking=True)
    return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)  # they were counted on the host


def _column(given: Sequence[int] | None, position: NDArray[np.int64]) -> NDArray[np.int64]:
    return position if given is None else np.asarray(given, dtype=np.int64)[position]


def write_predictions(path: Path, columns: Columns, *, step: int, split: str) -> None:
    """The table on disk, whole or not at all. step: after which it was evaluated."""
    schema = with_metrics(name for name in columns if name not in PREDICTIONS.names)
    write_table(path, columns, schema.with_metadata({"step": str(step), "split": split}))

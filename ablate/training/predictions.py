"""Metrics of each example in one evaluation: collected on the device batch by batch, and read when all are there."""

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


class Predictions:
    """Collects the metrics of each example.

    A metric with another number of values than the examples have items is not per example and is left out; so is one with the
    name of a column that every table has.
    """

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._items: list[int] = []
        self._values: dict[str, list[torch.Tensor]] = {}
        self._left_out = set(PREDICTIONS.names)

    def add(self, indices: Sequence[int], items: Sequence[int] | None, metrics: Mapping[str, torch.Tensor]) -> None:
        """Add one batch. items: number of values of each example; None for one each. The host does not wait for the values."""
        counts = [1] * len(indices) if items is None else [int(count) for count in items]
        self._indices += indices
        self._items += counts
        for name, values in metrics.items():
            if len(counts) != len(indices) or values.dim() != 1 or values.numel() != sum(counts):
                self._left_out.add(name)
            if name not in self._left_out:
                values = values.detach().double()
                self._values.setdefault(name, []).append(values if items is None else _sums(values, counts))

    def columns(
        self, ranks: Ranks, ids: Sequence[int] | None = None, groups: Sequence[int] | None = None
    ) -> Columns | None:
        """Return the table in the order of the indices; None where no metric is per example.

        ids, groups: as in `Evaluation`. Waits for the device; every process must call this.
        """
        values = {name: torch.cat(parts).cpu().numpy() for name, parts in self._values.items()}
        parts = ranks.gather((self._indices, self._items, values, self._left_out))
        left_out = set().union(*(part[3] for part in parts))
        names = [name for name in dict.fromkeys(name for part in parts for name in part[2]) if name not in left_out]
        if not names:
            return None
        index = np.concatenate([np.asarray(part[0], dtype=np.int64) for part in parts])
        order = np.argsort(index, kind="stable")
        named = _column(ids, index[order])
        return {
            "id": named,
            "group": named if groups is None else _column(groups, index[order]),
            "items": np.concatenate([np.asarray(part[1], dtype=np.int64) for part in parts])[order],
            **{name: np.concatenate([part[2][name] for part in parts if name in part[2]])[order] for name in names},
        }


def _sums(values: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Sum each example's own values, which follow one another."""
    lengths = torch.tensor(counts)
    if values.device.type == "cuda":
        lengths = lengths.pin_memory().to(values.device, non_blocking=True)
    return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)  # they were counted on the host


def _column(values: Sequence[int] | None, index: NDArray[np.int64]) -> NDArray[np.int64]:
    return index if values is None else np.asarray(values, dtype=np.int64)[index]


def write_predictions(path: Path, columns: Columns, *, step: int, split: str) -> None:
    """Write the table to disk, whole or not at all. step: after which it was evaluated."""
    schema = with_metrics(name for name in columns if name not in PREDICTIONS.names)
    write_table(path, columns, schema.with_metadata({"step": str(step), "split": split}))

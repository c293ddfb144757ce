"""Signs of trouble in a run's gradient norms: spikes, vanishing, exploding. Arrays in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

WINDOW = 50
"""Steps that a step is compared with."""
SPIKE = 5.0
"""A spike is a norm above this many times the median of the `WINDOW` applied steps before it."""
VANISHED, EXPLODED = 1e-4, 1e3
"""A norm has vanished, or exploded, at this share of its own median over the first `WINDOW` applied steps."""

COLUMNS = ("applied", "grad_norm", "group_norms")
"""Columns of the trace from which the flags are computed."""

_FEWEST = 10
_CHUNK = 8192


def spikes(norms: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return a mask of the spikes, [steps]. norms: of the applied steps, in order. The first ten steps are none."""
    mask = np.zeros(len(norms), dtype=bool)
    if len(norms) <= _FEWEST:
        return mask
    for start in range(_FEWEST, min(WINDOW, len(norms))):
        mask[start] = norms[start] > SPIKE * np.median(norms[:start])
    windows = np.lib.stride_tricks.sliding_window_view(norms, min(WINDOW, len(norms)))[:-1]
    # In pieces: the medians of a million windows at once would need a copy of all of them.
    for start in range(0, len(windows), _CHUNK):
        chunk = windows[start : start + _CHUNK]
        steps = slice(start + WINDOW, start + WINDOW + len(chunk))
        mask[steps] = norms[steps] > SPIKE * np.median(chunk, axis=1)
    return mask


class Ends:
    """The first and the last `WINDOW` rows of a long array, [rows, groups], collected block by block."""

    def __init__(self) -> None:
        self._first: list[NDArray[np.floating[Any]]] = []
        self._last = np.empty((0, 0))
        self._count = 0

    def add(self, rows: NDArray[np.floating[Any]]) -> None:
        """Add the next rows, [rows, groups]."""
        if self._count < WINDOW:
            self._first.append(rows[: WINDOW - self._count])
        self._last = np.concatenate([self._last.reshape(-1, rows.shape[1]), rows])[-WINDOW:]
        self._count += len(rows)

    def share(self) -> NDArray[np.floating[Any]]:
        """Return the median over the last rows divided by that over the first ones, [groups]; 1 for too few rows."""
        if self._count < 2 * _FEWEST:
            return np.ones(self._last.shape[1])
        size = min(WINDOW, self._count // 2)
        first, last = np.median(np.concatenate(self._first)[:size], axis=0), np.median(self._last[-size:], axis=0)
        return np.asarray(np.where(first > 0, last / np.where(first > 0, first, 1), 1.0))


def gradient_flags(
    blocks: Iterable[tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]], groups: Sequence[str]
) -> dict[str, Any]:
    """Return `spikes` (number of steps), `vanished` (names of groups) and `exploded` (bool).

    blocks: (global norms [steps], group norms [steps, groups]) of the applied steps, in order, block by block to bound the
    memory. Failed fine-tunes of BERT are gradients that vanish early in all layers but the top ones (Mosbach et
    al. 2021, 2006.04884), so vanishing is checked for each group.
    """
    norms: list[NDArray[np.floating[Any]]] = []
    ends = Ends()
    for some, by_group in blocks:
        norms.append(some)
        ends.add(np.column_stack([some, by_group]))
    if not norms:
        return {"spikes": 0, "vanished": [], "exploded": False}
    whole, *shares = ends.share().tolist()
    return {
        "spikes": int(spikes(np.concatenate(norms)).sum()),
        "vanished": [name for name, share in zip(groups, shares, strict=True) if share < VANISHED],
        "exploded": whole > EXPLODED,
    }


def flags_of_trace(blocks: Iterable[pa.RecordBatch], groups: Sequence[str]) -> dict[str, Any]:
    """Return `gradient_flags` of a trace. blocks: with the columns `COLUMNS`."""
    return gradient_flags((_applied(block, len(groups)) for block in blocks if block.num_rows), groups)


def _applied(block: pa.RecordBatch, num_groups: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    keep = block["applied"].to_numpy(zero_copy_only=False)
    by_group = np.asarray(block["group_norms"].flatten(), dtype=np.float32).reshape(block.num_rows, num_groups)
    return block["grad_norm"].to_numpy()[keep], by_group[keep]

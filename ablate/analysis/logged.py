"""What a logger that writes a row every so many samples shows of a per-step trace."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.curves import falling
from ablate.record.reader import Trace

BLOCK_SAMPLES = 64
"""The training loss is averaged over so many samples before its fall is measured: single small batches are mostly noise."""


def rows(trace: Trace, due: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the step after which each row is written. due: samples seen, shape [rows]."""
    return np.searchsorted(trace["samples"], due)


def logged(
    trace: Trace, due: NDArray[np.int64], column: str, how: Literal["mean", "last", "max"]
) -> NDArray[np.float64]:
    """What the rows show of a column: the `mean` or `max` over the steps since the row before, or the `last` step's value.

    Shape [rows].
    """
    values, ends = trace[column], rows(trace, due)
    if how == "last":
        return np.asarray(values[ends])
    starts = np.concatenate([[0], ends[:-1] + 1])
    windows = [values[start : end + 1] for start, end in zip(starts, ends, strict=True)]
    return np.asarray([np.mean(window) if how == "mean" else np.max(window) for window in windows])


def share_of_train_loss(trace: Trace, first: int) -> float | None:
    """Part of the training loss's total fall that had happened by the step of index `first`; None as `train_loss_fallen`."""
    fallen = train_loss_fallen(trace)
    return None if fallen is None else float(fallen[first])


def train_loss_fallen(trace: Trace) -> NDArray[np.float64] | None:
    """Part of the training loss's total fall that had happened by each step, shape [steps].

    Read from the never-rising curve nearest to the mean loss of every 64 samples. None where that curve does not fall
    or the loss was not finite.
    """
    blocks = np.floor((trace["samples"] - 1) / BLOCK_SAMPLES).astype(np.int64)
    used, number, count = np.unique(blocks, return_inverse=True, return_counts=True)
    means = np.bincount(number, weights=trace["loss"], minlength=len(used)) / count
    if not np.isfinite(means).all():
        return None
    fit = falling(means, weights=count.astype(np.float64))
    fall = float(fit[0] - fit[-1])
    return np.asarray((fit[0] - fit[number]) / fall) if fall > 0 else None

"""Fewer points for a long curve without losing a spike."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def thin(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Which points to draw, in order.

    values: shape [points]. Returns indices of shape [kept], kept <= most (at least 6). The first and the last point
    stay, and so do the lowest, the highest and the first non-finite point of every bucket: no spike and no gap
    disappears, as they would from a random or an every-nth sample.
    """
    count = len(values)
    if count <= max(most, 6):
        return np.arange(count)
    buckets = max(1, (most - 2) // 3)
    edges = np.linspace(0, count, buckets + 1).astype(np.int64)
    kept = {0, count - 1}
    for start, stop in pairwise(edges):
        kept.update(_extremes(values[start:stop], int(start)))
    return np.asarray(sorted(kept), dtype=np.int64)


def _extremes(bucket: NDArray[np.float64], start: int) -> set[int]:
    finite = np.isfinite(bucket)
    kept = set() if finite.all() else {start + int(np.argmin(finite))}
    if finite.any():
        kept.add(start + int(np.argmin(np.where(finite, bucket, np.inf))))
        kept.add(start + int(np.argmax(np.where(finite, bucket, -np.inf))))
    return kept


def rounded(values: NDArray[np.float64], digits: int = 5) -> list[float | None]:
    """To so many significant digits, as JSON numbers; None where a value is not finite (a gap in the curve)."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]

"""The exact sign-flip test: without an effect, every paired difference could as well have been its negative."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

MOST_PAIRS = 40


def signflip_p(differences: Values) -> float:
    """Exact two-sided p of the mean of `differences`, shape [pairs], over all 2^pairs signs.

    Sums of one half of the pairs are counted against the sorted sums of the other, so 40 pairs are still exact. Raises
    ValueError above; NaN without a pair. Source: Fisher 1935, ch. 3.
    """
    if len(differences) > MOST_PAIRS:
        raise ValueError(f"{len(differences)} pairs: all signs are counted for up to {MOST_PAIRS}; use the t interval")
    if not len(differences) or not np.all(np.isfinite(differences)):
        return float("nan")
    size = np.abs(differences)
    seen = abs(float(np.sum(differences))) - 1e-12 * float(np.sum(size))
    left, right = _sums(size[::2]), np.sort(_sums(size[1::2]))
    above = len(right) - np.searchsorted(right, seen - left, side="left")
    below = np.searchsorted(right, -seen - left, side="right")
    return float(min(1.0, (np.sum(above) + np.sum(below)) / 2.0 ** len(differences)))


def smallest_p(pairs: int) -> float:
    """The smallest p that `pairs` differences other than zero can reach: .25 for 3, .0625 for 5, .031 for 6."""
    return min(1.0, 2.0 ** (1 - pairs))


def _sums(sizes: Values) -> Values:
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums

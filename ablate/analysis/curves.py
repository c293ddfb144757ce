"""Shapes fitted to a curve: the monotone and the valley-shaped one that lie nearest to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def falling(values: Values, weights: Values | None = None) -> Values:
    """The never-rising sequence nearest to `values` in (weighted) squares. Shape [looks]."""
    from scipy.optimize import isotonic_regression  # slow to import, and planning fits nothing

    return np.asarray(isotonic_regression(values, weights=weights, increasing=False).x, dtype=np.float64)


def valley(values: Values) -> Values:
    """The sequence nearest to `values` in squares that falls, then rises; either part may be empty. Shape [looks]."""
    fits = [
        np.concatenate([falling(values[:turn]), -falling(-values[turn:])])
        for turn in range(1, len(values) + 1)
        if turn < len(values)
    ]
    fits.append(falling(values))
    return min(fits, key=lambda fit: float(np.sum((values - fit) ** 2)))


def rms(values: Values) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))

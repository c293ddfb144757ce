"""Shapes fitted to a curve: the nearest monotone and the nearest valley-shaped one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def falling(values: Values, weights: Values | None = None) -> Values:
    """Return the never-rising sequence nearest to `values` in (weighted) squares. Shape [values]."""
    from scipy.optimize import isotonic_regression  # slow to import, and planning fits nothing

    return np.asarray(isotonic_regression(values, weights=weights, increasing=False).x, dtype=np.float64)


def valley(values: Values) -> Values:
    """Return the sequence nearest to `values` in squares that falls, then rises; either part may be empty. Shape [values]."""
    fall = _errors_of_starts(values)
    rise = _errors_of_starts(values[::-1])[::-1]
    turn = int(np.argmin(fall + rise))
    return np.concatenate([falling(values[:turn]), -falling(-values[turn:])]) if turn else -falling(-values)


def _errors_of_starts(values: Values) -> Values:
    """Sum of squares between the first 0, 1, 2, ... values and the never-rising sequence nearest to them. Shape [values + 1].

    Pools adjacent violators value by value, so that all of them together cost no more than the last one.
    """
    blocks: list[tuple[int, float, float, float]] = []  # count, mean, squares inside the block, squares before it
    errors = [0.0]
    for value in values.tolist():
        count, mean, inside, before = 1, value, 0.0, errors[-1]
        while blocks and blocks[-1][1] < mean:
            other, other_mean, other_inside, before = blocks.pop()
            inside += other_inside + (mean - other_mean) ** 2 * count * other / (count + other)
            mean = (mean * count + other_mean * other) / (count + other)
            count += other
        blocks.append((count, mean, inside, before))
        errors.append(before + inside)
    return np.asarray(errors)


def rms(values: Values) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))

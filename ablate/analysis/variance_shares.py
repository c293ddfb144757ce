"""How sure the shares are that two streams of chance and the rest have of a variance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 20_000


def share_intervals(values: Values, level: float = 0.95) -> tuple[Interval, Interval, Interval]:
    """Of the first stream (rows of `values`), the second (columns), and the rest; from runs of every pair.

    Generalized confidence intervals (Weerahandi 1993): each sum of squares over its chi-square, drawn often enough; a component
    below zero is none. The draws are the same on every machine.
    """
    rows, columns = values.shape
    centred = values - np.mean(values)
    by_row, by_column = np.mean(centred, axis=1), np.mean(centred, axis=0)
    rest = centred - by_row[:, None] - by_column[None, :]
    rng = np.random.default_rng(1993)
    free = (rows - 1, columns - 1, (rows - 1) * (columns - 1))
    squares = (columns * np.sum(by_row**2), rows * np.sum(by_column**2), np.sum(rest**2))
    first, second, own = (square / rng.chisquare(df, DRAWS) for square, df in zip(squares, free, strict=True))
    parts = np.stack([np.maximum(first - own, 0) / columns, np.maximum(second - own, 0) / rows, own])
    shares = parts / parts.sum(axis=0)
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])), (float(low[2]), float(high[2])))


def seen_from(draws: int, chance: float = 0.8, level: float = 0.95) -> float:
    """The share from which on a stream is shown to add variance with this chance, if the other adds none."""
    free = (draws - 1, (draws - 1) ** 2)
    ratio = (float(stats.f.isf(1 - level, *free) / stats.f.ppf(1 - chance, *free)) - 1) / draws
    return ratio / (1 + ratio)

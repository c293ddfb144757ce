"""Variance components of two random streams, from runs of one config under every pair of their seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """A variance component in the squared unit of the metric.

    estimate: not clipped; a negative one means that the stream adds less than the error of its estimate. low, high: interval.
    share: of the sum of all components, each taken as 0 where negative. p_value: F test that it is zero.
    """

    name: str
    estimate: float
    low: float
    high: float
    share: float
    p_value: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decomposition:
    """Components of the two streams and of the rest: their interaction, and nondeterminism.

    noisiest: the significant stream that adds the most variance, None where none is significant.
    """

    init: Component
    order: Component
    rest: Component
    noisiest: str | None


def decompose(values: Values, confidence: float = 0.95) -> Decomposition | None:
    """Return the components of the variance of `values` [init seeds, order seeds], one run each, all present.

    Two crossed random effects without replication. Intervals: Ting, Burdick, Graybill, Jeyaratnam and Lu 1990 for the
    streams, chi-square for the rest. None below two seeds of either, with a run missing, or without spread.
    """
    if values.ndim != 2 or min(values.shape) < 2 or not np.all(np.isfinite(values)):
        return None
    inits, orders = values.shape
    mean = float(np.mean(values))
    by_init, by_order = np.mean(values, axis=1) - mean, np.mean(values, axis=0) - mean
    rest = values - mean - by_init[:, None] - by_order[None, :]
    if float(np.max(np.abs(rest))) <= 1e-13 * float(np.max(np.abs(values))):
        return None
    rest_df = (inits - 1) * (orders - 1)
    rest_square = float(np.sum(rest**2)) / rest_df
    init_square = orders * float(np.sum(by_init**2)) / (inits - 1)
    order_square = inits * float(np.sum(by_order**2)) / (orders - 1)
    estimates = [(init_square - rest_square) / orders, (order_square - rest_square) / inits, rest_square]
    total = sum(max(estimate, 0.0) for estimate in estimates)
    shares = [max(estimate, 0.0) / total for estimate in estimates]
    init = _stream("init", init_square, inits - 1, rest_square, rest_df, orders, shares[0], confidence)
    order = _stream("order", order_square, orders - 1, rest_square, rest_df, inits, shares[1], confidence)
    tail = (1 - confidence) / 2
    own = Component(
        name="rest",
        estimate=rest_square,
        low=rest_square * rest_df / float(stats.chi2.isf(tail, rest_df)),
        high=rest_square * rest_df / float(stats.chi2.ppf(tail, rest_df)),
        share=shares[2],
        p_value=None,
    )
    shown = [one for one in (init, order) if one.p_value is not None and one.p_value < 1 - confidence]
    noisiest = max(shown, key=lambda one: one.estimate).name if shown else None
    return Decomposition(init=init, order=order, rest=own, noisiest=noisiest)


def _stream(
    name: str, square: float, df: int, rest: float, rest_df: int, runs: int, share: float, confidence: float
) -> Component:
    """(square - rest) / runs, with the interval for a difference of two mean squares; bounds below 0 mean 0."""
    tail = (1 - confidence) / 2
    estimate = (square - rest) / runs
    upper, lower = _reach(df, tail)
    rest_upper, rest_lower = _reach(rest_df, tail)
    high_f, low_f = float(stats.f.isf(tail, df, rest_df)), float(stats.f.ppf(tail, df, rest_df))
    low_cross = ((high_f - 1) ** 2 - lower**2 * high_f**2 - rest_upper**2) / high_f
    high_cross = ((1 - low_f) ** 2 - upper**2 * low_f**2 - rest_lower**2) / low_f
    below = lower**2 * square**2 + rest_upper**2 * rest**2 + low_cross * square * rest
    above = upper**2 * square**2 + rest_lower**2 * rest**2 + high_cross * square * rest
    return Component(
        name=name,
        estimate=estimate,
        low=max(0.0, estimate - max(below, 0.0) ** 0.5 / runs),
        high=max(0.0, estimate + max(above, 0.0) ** 0.5 / runs),
        share=share,
        p_value=float(stats.f.sf(square / rest, df, rest_df)),
    )


def _reach(df: int, tail: float) -> tuple[float, float]:
    """Bounds of a mean square's true value above and below it, as shares of it."""
    return df / float(stats.chi2.ppf(tail, df)) - 1, 1 - df / float(stats.chi2.isf(tail, df))


Interval = tuple[float, float]

DRAWS = 20_000


def share_intervals(values: Values, confidence: float = 0.95) -> tuple[Interval, Interval, Interval]:
    """Return intervals of the shares of the first stream (rows of `values`), the second (columns), and the rest.

    Generalized confidence intervals (Weerahandi 1993): each sum of squares over draws of its chi-square; a component below
    zero counts as 0. The draws are the same on every machine.
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
    low, high = np.quantile(shares, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])), (float(low[2]), float(high[2])))


def detectable_share(draws: int, power: float = 0.8, confidence: float = 0.95) -> float:
    """Return the smallest share of a stream that is significant with this power, if the other stream adds none."""
    free = (draws - 1, (draws - 1) ** 2)
    ratio = (float(stats.f.isf(1 - confidence, *free) / stats.f.ppf(1 - power, *free)) - 1) / draws
    return ratio / (1 + ratio)

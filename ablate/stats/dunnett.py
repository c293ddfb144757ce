"""Dunnett's distribution: the largest of several |t| against one baseline, for any degrees of freedom and correlation.

`scipy.stats.dunnett` knows one-way layouts only, and the cdf of `scipy.stats.multivariate_t` is drawn at random. Contrasts
with one baseline are correlated through it alone, rho_ij = l_i * l_j, and then two sums over one dimension each are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Values = NDArray[np.float64]

DIRECTIONS = 1 << 12
"""Unit vectors over which a correlation that is not a product is averaged: about four digits."""


def simultaneous_p(statistic: float, df: float, correlation: Values) -> float:
    """Return the probability that at least one of the |t| exceeds `statistic` when no variant differs from the baseline.

    correlation: [variants, variants] of the estimates. This is the adjusted p of a contrast whose |t| is `statistic`
    (Dunnett 1955, single step). NaN for NaN.
    """
    if not np.isfinite(statistic) or df <= 0:
        return float("nan")
    return _exceeds(abs(float(statistic)), float(df), _layout(correlation))


def critical_value(level: float, df: float, correlation: Values) -> float:
    """Return the |t| that all contrasts stay below with probability `level`. NaN without degrees of freedom.

    Raises ValueError for a level outside (0, 1).
    """
    return _checked(level, df, correlation, sides=2)


def equivalence_value(level: float, df: float, correlation: Values) -> float:
    """Return the t that keeps any false claim of equivalence below 1 - level, when every effect is at its margin.

    A claim is false on one side only, the side of the margin at which the true effect sits; which side that is differs
    from variant to variant, and the worst case is taken: half of them on either side, where they are least alike. NaN
    without degrees of freedom. Raises ValueError for a level outside (0, 1).
    """
    return _checked(level, df, correlation, sides=1)


def _checked(level: float, df: float, correlation: Values, sides: int) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level {level}: a number between 0 and 1 is needed, such as 0.95")
    if df <= 0 or not len(correlation):
        return float("nan")
    return _critical(float(level), float(df), _layout(correlation), sides)


def complete(variants: int) -> Values:
    """Return the correlation of `variants` contrasts in a layout without gaps: one half."""
    return 0.5 * (np.eye(variants) + np.ones((variants, variants)))


Factors = tuple[tuple[float, int], ...]


@dataclass(frozen=True, slots=True)
class _Layout:
    """A correlation as a small key, rounded to 1e-12 so that equal layouts share their critical value.

    factors: (l, how many variants have it) of rho_ij = l_i * l_j. rows: only where it does not factor so, which is rare: the
    rows of a hundred variants would take 300 KB in every entry of a cache.
    """

    size: int
    factors: Factors | None
    rows: tuple[tuple[float, ...], ...] = ()


def _layout(correlation: Values) -> _Layout:
    matrix: Values = np.atleast_2d(np.asarray(correlation, dtype=np.float64)).round(12)
    factors = _factors(matrix) if len(matrix) > 1 else ()
    return _Layout(len(matrix), factors, () if factors is not None else tuple(map(tuple, matrix.tolist())))


@lru_cache(maxsize=4096)
def _critical(level: float, df: float, layout: _Layout, sides: int) -> float:
    low = float(stats.t.isf((1 - level) / sides, df))
    high = float(stats.t.isf((1 - level) / sides / layout.size, df))  # Bonferroni is never too low
    if layout.size == 1:
        return low
    found = optimize.brentq(lambda c: _exceeds(c, df, layout, sides) - (1 - level), low - 0.01, high + 0.01, xtol=1e-9)
    return float(found)


@lru_cache(maxsize=4096)
def _exceeds(statistic: float, df: float, layout: _Layout, sides: int = 2) -> float:
    if layout.size == 1:
        return float(sides * stats.t.sf(statistic, df))
    if layout.factors is None:
        return _by_directions(statistic, df, layout, sides)
    return _by_quadrature(statistic, df, layout.factors if sides == 2 else _opposed(layout.factors), sides)


def _factors(matrix: Values) -> Factors | None:
    """(l, how many variants have it) of rho_ij = l_i * l_j; None where the correlation does not factor so."""
    if len(matrix) == 2:
        root = float(np.sqrt(abs(matrix[0, 1])))
        factors = np.asarray([root, np.copysign(root, matrix[0, 1])])
    elif np.allclose(matrix, np.eye(len(matrix)), atol=1e-9):
        factors = np.zeros(len(matrix))
    else:
        if np.min(matrix) <= 0:
            return None
        i = np.arange(len(matrix))
        j, k = (i + 1) % len(matrix), (i + 2) % len(matrix)
        factors = np.sqrt(matrix[i, j] * matrix[i, k] / matrix[j, k])
    product = np.outer(factors, factors)
    np.fill_diagonal(product, 1.0)
    if np.max(np.abs(product - matrix)) > 1e-9 or np.max(np.abs(factors)) > 0.99:
        return None
    kinds, counts = np.unique(np.round(factors, 10), return_counts=True)
    return tuple(zip(kinds.tolist(), counts.tolist(), strict=True))


def _opposed(factors: Factors) -> Factors:
    """Half of the variants of each kind with the opposite sign."""
    halves = [(factor, count - count // 2) for factor, count in factors]
    return (*halves, *((-factor, count // 2) for factor, count in factors if count > 1))


def _by_quadrature(statistic: float, df: float, factors: Factors, sides: int) -> float:
    """Given the baseline's error z and the residual sd s, the variants are independent. Trapezoids over z and log s.

    Both integrands are analytic and vanish at the ends, where the trapezoid rule converges faster than any power.
    """
    z = np.linspace(-8.5, 8.5, 121)
    scale, weight = _residual_sd(df)
    log_inside = np.zeros((len(scale), len(z)))
    for factor, count in factors:
        own = np.sqrt(1 - factor**2)
        reach = statistic * scale[:, None]
        outside = special.ndtr((factor * z - reach) / own)
        outside += special.ndtr(-(factor * z + reach) / own) if sides == 2 else 0.0
        log_inside += count * np.log1p(-np.minimum(outside, 1 - 1e-16))
    some_outside = -np.expm1(log_inside)
    density = np.exp(-0.5 * z**2)
    return float(np.clip(weight @ (some_outside @ (density / density.sum())), 0.0, 1.0))


@lru_cache(maxsize=256)
def _residual_sd(df: float) -> tuple[Values, Values]:
    """Nodes and weights for the residual sd over the true one: a chi over the root of its degrees of freedom."""
    tail = 1e-15
    low, high = stats.chi2.ppf(tail, df), stats.chi2.isf(tail, df)
    log_s = np.linspace(0.5 * np.log(low / df), 0.5 * np.log(high / df), 161)
    s = np.exp(log_s)
    log_density = df * log_s - 0.5 * df * s**2
    weight = np.exp(log_density - np.max(log_density))
    return s, weight / weight.sum()


def _by_directions(statistic: float, df: float, layout: _Layout, sides: int) -> float:
    """Any correlation: a mean over fixed directions u of the exact chance along u, which is that of an F ratio (Deák 1980).

    Smooth and monotone in the statistic, and the same on every machine: the directions come from a seeded Sobol sequence.
    """
    reach, variants = _reach(layout, sides), layout.size
    if statistic == 0:
        return float(np.mean(reach > 1e-99))
    return float(np.mean(stats.f.sf(statistic**2 / (variants * reach**2), variants, df)))


@lru_cache(maxsize=32)
def _reach(layout: _Layout, sides: int) -> Values:
    """How far a step of one along each direction carries the variant that it carries furthest; shape [DIRECTIONS]."""
    matrix = np.asarray(layout.rows)
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    points = special.ndtri(stats.qmc.Sobol(len(matrix), rng=np.random.default_rng(1955)).random(DIRECTIONS))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    moved = points @ root.T
    if sides == 2:
        return np.asarray(np.max(np.abs(moved), axis=1))
    return np.asarray(np.maximum(np.max(moved * np.where(np.arange(len(matrix)) % 2, -1, 1), axis=1), 1e-100))

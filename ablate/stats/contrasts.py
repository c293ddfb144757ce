"""Contrasts: weighted sums of cell means, each with one error, one interval and one decision.

Every design asks about contrasts of its cells: variants against a baseline, main effects and interactions of a factorial,
an arm alone and with another one, the contributions to the difference between two configs. One rule decides them all:

    effect    the least-squares difference of the seed-blocked model, value = cell + seed + residual
    error     error^2 = w * pooled^2 + (1 - w) * own^2, from the residual of all cells and from the contrast in each seed
    weight    w = (1 + 2 cbrt(p)) / 3, where p is that of Bartlett's test that the own errors are alike; (1 + 2 p) / 3 below
              five seeds, and 0 where an F test finds that the baseline or the arm varies more than the others; in tenths, so
              that few critical values are computed
    interval  effect +- Dunnett's critical value * error, simultaneous over the family
    decision  Dunnett's step-down test with the same error

Pooling makes three to five seeds informative, and is wrong for an arm that varies more than the others. Own errors are
right for every arm, and have few degrees of freedom. The simulations behind the weights: docs/explain/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.dunnett import critical_value, equivalence_value, simultaneous_p
from ablate.stats.linear_model import ENOUGH_SEEDS, Blocked, blocked, many_to_one
from ablate.stats.paired import PairedT, paired_t

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

CONFIDENCE = 0.95
"""Of the simultaneous intervals, and of all claims of equivalence together: both error rates are counted over the family."""

LEAST_WEIGHT = 1 / 3
"""Of the pooled error, where the own errors differ clearly."""

ALARM, EARLY_ALARM = 0.1, 0.15
"""Level of the F test on a cell that every contrast needs, such as the baseline, from five seeds on and below; on any other
cell in proportion to the contrasts that need it."""


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Estimates of shape [..., contrasts] unless said; NaN where the runs do not give one. Unit of the values.

    weights: [contrasts, cells].
    df: degrees of freedom of the error (Satterthwaite).
    pool_weight: of the pooled error in `errors`, from 0 to 1.
    pool: the seed-blocked model. own: the paired t of every contrast.
    """

    weights: Values
    effects: Values
    errors: Values
    df: Values
    pool_weight: Values
    pool: Blocked
    own: PairedT


def estimate(values: Values, weights: Values | None = None, rounding: float = 0.0) -> Contrasts:
    """Estimate the contrasts `weights` [contrasts, cells] of `values` [..., cells, seeds]; NaN where a run has no value.

    weights: default every cell minus the first, the baseline. rounding: step of a discrete metric, in the values' unit; its
    variance, step^2 / 12 of a run, is the least that an error is based on.

    Raises ValueError where a row does not add up to 0.
    """
    cells = values.shape[-2]
    weights = many_to_one(cells) if weights is None else weights
    if weights.shape[1] != cells or np.any(np.abs(weights.sum(axis=1)) > 1e-9):
        raise ValueError(
            f"weights of shape {weights.shape}: expected one column per cell of {cells}, each row adding up to 0"
        )
    weights = np.where(np.abs(weights) > 1e-12, weights, 0.0)
    needs = weights != 0
    pool, present = blocked(values, weights), np.isfinite(values)
    filled = np.where(present, values, 0.0)
    size = np.max(np.abs(filled), axis=(-2, -1), initial=0.0)
    own = paired_t(np.where(needs @ ~present, np.nan, weights @ filled), size[..., None])
    usable = (own.pairs > 1).astype(np.float64)
    needed = usable @ needs / np.maximum(np.sum(usable, axis=-1, keepdims=True), 1)
    noisy = _noisy_cells(values, needed) @ needs.T
    noisy &= ~np.all(needs, axis=1)  # of all cells, both errors have their mean variance
    w = _pool_weight(pool, own, noisy, 1.0 if cells == 2 else LEAST_WEIGHT)
    least = rounding**2 / 12 * np.sum(weights**2, axis=1) / np.maximum(own.pairs, 1)
    squares = w * np.nan_to_num(pool.errors) ** 2 + (1 - w) * np.nan_to_num(own.errors) ** 2
    squares = np.maximum(squares, least)
    df = satterthwaite(w, pool.df[..., None], own.df)
    usable = (own.pairs > 1) & np.isfinite(pool.effects) & (squares > 0)
    return Contrasts(
        weights=weights,
        effects=pool.effects,
        errors=np.where(usable, np.sqrt(squares), np.nan),
        df=np.where(usable, df, 0.0),
        pool_weight=w,
        pool=pool,
        own=own,
    )


def _pool_weight(pool: Blocked, own: PairedT, noisy: Flags, single: float) -> Values:
    """Return the weight of the pooled error [..., contrasts], in tenths.

    noisy: [..., contrasts], that need a cell that varies more than the others. single: weight where there is one contrast.
    """
    known = (pool.errors > 0) & (own.df > 0)
    ratios = np.where(known, np.nan_to_num(own.errors) / np.where(known, pool.errors, 1.0), np.nan) ** 2
    count, pairs = np.sum(known, axis=-1, keepdims=True), np.max(own.pairs, axis=-1, initial=0, keepdims=True)
    p_equal = _p_of_equal_variances(ratios, own.df, known, pool.correlation)[..., None]
    weight = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * np.where(pairs < ENOUGH_SEEDS, p_equal, np.cbrt(p_equal))
    weight = np.where(count > 1, weight, single)
    return np.asarray(np.round(np.where(noisy & (count > 1), 0.0, weight), 1))


def _noisy_cells(values: Values, needed: Values) -> Flags:
    """Return the cells [..., cells] that an F test finds to vary more than the others.

    needed: [..., cells], share of the contrasts that need the cell.
    """
    if values.shape[-2] < 3:
        return np.zeros(values.shape[:-1], dtype=bool)
    level = EARLY_ALARM if values.shape[-1] < ENOUGH_SEEDS else ALARM
    return np.asarray(stats.f.sf(*variance_ratios(values)) < level * needed)


def variance_ratios(values: Values) -> tuple[Values, Values, Values]:
    """Return F of every cell's variance against that of the others, and its two degrees of freedom; [..., cells].

    F is what a cell's runs add to the residual sum of squares of the model without that cell, over the residual variance of
    that model. Exact in a complete layout of at least three cells.
    """
    present = np.isfinite(values)
    filled = np.where(present, values, 0.0)
    in_seed = np.sum(present, axis=-2, keepdims=True)
    runs = np.sum(present, axis=-1)
    cells = np.maximum(np.sum(runs > 0, axis=-1, keepdims=True), 2)
    centred = np.where(present, filled - np.sum(filled, axis=-2, keepdims=True) / np.maximum(in_seed, 1), 0.0)
    means = np.sum(centred, axis=-1) / np.maximum(runs, 1)
    squares = np.sum(np.where(present, centred - means[..., None], 0.0) ** 2, axis=-1)
    added = squares * cells / (cells - 1)
    rest = np.maximum(np.sum(squares, axis=-1, keepdims=True) - added, 1e-300)
    free = np.maximum(runs - 1, 1)
    blocks = np.sum(in_seed[..., 0, :] > 0, axis=-1, keepdims=True)
    others = np.maximum(np.sum(runs, axis=-1, keepdims=True) - cells - blocks + 1 - free, 1)
    return added / free / (rest / others), free, others


def satterthwaite(
    weight: Values | float, pooled_df: NDArray[np.int64] | float, own_df: NDArray[np.int64] | float
) -> Values:
    """Return the degrees of freedom of weight * pooled^2 + (1 - weight) * own^2, the own one being part of the pooled one.

    From those of the own error to those of the pooled one; 0 where the own error has none.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = (weight**2 + 2 * weight * (1 - weight)) / np.asarray(pooled_df, dtype=np.float64)
        df = np.round(1 / (shared + (1 - weight) ** 2 / np.asarray(own_df, dtype=np.float64)), 3)
    return np.where(np.isfinite(df), df, 0.0)


def _p_of_equal_variances(ratios: Values, df: NDArray[np.int64], known: Flags, correlation: Values) -> Values:
    """Return Bartlett's p [...] that the variances `ratios` [..., contrasts] are equal (Bartlett 1937).

    Contrasts that share cells have correlated variances, which differ less by chance alone: the statistic is divided by one
    minus the mean squared correlation between them.
    """
    count, free = np.sum(known, axis=-1), np.where(known, df, 0)
    total = np.maximum(np.sum(free, axis=-1), 1)
    safe = np.where(known, np.maximum(ratios, 1e-300), 1.0)
    mean = np.sum(free * safe, axis=-1) / total
    statistic = total * np.log(np.maximum(mean, 1e-300)) - np.sum(free * np.log(safe), axis=-1)
    inverse = np.sum(np.where(known, 1 / np.maximum(df, 1), 0.0), axis=-1) - 1 / total
    others = np.maximum(count * (count - 1), 1)
    shared = np.nan_to_num(correlation) ** 2
    squared = (np.sum(shared, axis=(-2, -1)) - np.trace(shared, axis1=-2, axis2=-1)) / others
    scale = (1 + inverse / (3 * np.maximum(count - 1, 1))) * np.maximum(1 - squared, 0.05)
    return np.asarray(stats.chi2.sf(statistic / scale, np.maximum(count - 1, 1)))


@dataclass(frozen=True, slots=True)
class Decisions(Contrasts):
    """Decided contrasts; all of shape [..., contrasts] unless said. Unit of the values.

    low, high: interval at the chosen confidence, simultaneous over the family. inner_low, inner_high: the interval that has
        to be inside the margin for equivalence.
    differs: significant by the step-down test. within: the inner interval is inside the margin.
    by_steps: differs, though the simultaneous interval holds 0: other contrasts were decided before, and fewer are left.
    correlation: [..., contrasts, contrasts], of the family that the intervals are simultaneous over.
    """

    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    differs: Flags
    by_steps: Flags
    within: Flags
    correlation: Values


def decide(
    values: Values,
    margin: float | None = None,
    confidence: float = CONFIDENCE,
    correlation: Values | None = None,
    *,
    weights: Values | None = None,
    equivalences: int | None = None,
    rounding: float = 0.0,
) -> Decisions:
    """Decide contrasts of `values` [..., cells, seeds] as one family; NaN where a run has no value.

    margin: the smallest effect of interest, in the values' unit; None claims no equivalence.
    confidence: of the simultaneous intervals; an interim analysis of a sequential study has its own.
    correlation: [contrasts, contrasts], of the declared family's estimates; default is that of the runs at hand.
    weights, rounding: as in `estimate`.
    equivalences: correct claims of equivalence for this number of them (Bonferroni, which holds whichever of the true
        effects are at the margin); default is the exact joint distribution.

    Raises ValueError for a margin that is not positive, a confidence outside (0, 1) or weights that do not add up to 0.
    """
    if margin is not None and not margin > 0:
        raise ValueError(f"margin {margin}: expected a positive number, the smallest effect of interest")
    found = estimate(values, weights, rounding)
    family = found.pool.correlation
    if correlation is not None:
        family = np.broadcast_to(correlation, family.shape)
    outer = _limits(critical_value, confidence, found.df, family)
    if equivalences is None:
        inner = _limits(equivalence_value, confidence, found.df, family)
    else:
        inner = stats.t.isf((1 - confidence) / equivalences, np.where(found.df > 0, found.df, np.nan))
    half, inner_half, size = outer * found.errors, inner * found.errors, np.abs(found.effects)
    differs = _step_down(size / found.errors, outer, confidence, found.df, family)
    return Decisions(
        weights=found.weights,
        effects=found.effects,
        errors=found.errors,
        df=found.df,
        pool_weight=found.pool_weight,
        pool=found.pool,
        own=found.own,
        low=found.effects - half,
        high=found.effects + half,
        inner_low=found.effects - inner_half,
        inner_high=found.effects + inner_half,
        differs=differs,
        by_steps=differs & ~(size > half),
        within=size + inner_half < (margin or 0.0),
        correlation=family,
    )


def adjusted_p(decisions: Decisions) -> Values:
    """Return the p-values [contrasts] of one study, simultaneous as its intervals are."""
    family = np.isfinite(np.diag(decisions.correlation))
    correlation = decisions.correlation[np.ix_(family, family)]
    statistics = np.abs(decisions.effects) / decisions.errors
    return np.asarray(
        [simultaneous_p(float(t), float(df), correlation) for t, df in zip(statistics, decisions.df, strict=True)]
    )


def step_down_p(decisions: Decisions) -> Values:
    """Return the step-down p-values [contrasts] of one study: each among those still open when its turn comes."""
    family = np.isfinite(np.diag(decisions.correlation))
    statistics, single = np.abs(decisions.effects) / decisions.errors, adjusted_p(decisions)
    steps, before = np.full(len(single), np.nan), 0.0
    for number in np.lexsort((-np.nan_to_num(statistics), single)):
        if np.isfinite(single[number]):
            rest = decisions.correlation[np.ix_(family, family)]
            before = max(before, simultaneous_p(float(statistics[number]), float(decisions.df[number]), rest))
            steps[number] = before
            family[number] = False
    return steps


def _step_down(statistics: Values, single: Values, confidence: float, df: Values, correlation: Values) -> Flags:
    """Dunnett's step-down test (Dunnett and Tamhane 1991): a decided contrast takes no more room in the family.

    The familywise error stays the same: as long as nothing false is decided, the family still holds all contrasts without an
    effect. Intervals have no steps: they are simultaneous over the whole family.

    single: critical values of the whole family, the first step.
    """
    num = statistics.shape[-1]
    t, free, layout = statistics.reshape(-1, num), df.reshape(-1, num), correlation.reshape(-1, num, num)
    decided = t > single.reshape(-1, num)
    rows = np.flatnonzero(np.any(decided, axis=1) & ~np.all(decided, axis=1))
    while len(rows):
        gone = decided[rows]
        left = np.where(gone[:, :, None] | gone[:, None, :], np.nan, layout[rows])
        more = ~gone & (t[rows] > _limits(critical_value, confidence, np.where(gone, 0.0, free[rows]), left))
        decided[rows] |= more
        rows = rows[np.any(more, axis=1)]
    return decided.reshape(statistics.shape)


def _limits(
    value: Callable[[float, float, Values], float], confidence: float, df: Values, correlation: Values
) -> Values:
    """Critical value of every contrast, shape [..., contrasts]; those that cannot be estimated are left out of the family."""
    num = correlation.shape[-1]
    flat, free = correlation.reshape(-1, num * num), df.reshape(-1, num)
    kinds, which = np.unique(flat, axis=0, return_inverse=True, equal_nan=True)
    limits = np.full(free.shape, np.nan)
    for number, kind in enumerate(kinds):
        matrix = kind.reshape(num, num)
        known = np.isfinite(np.diag(matrix))
        family, rows = matrix[np.ix_(known, known)], which.reshape(-1) == number
        for one in np.unique(free[rows]):
            limits[(free == one) & rows[:, None]] = value(confidence, float(one), family)
    return limits.reshape(df.shape)


def holm(p_values: Values) -> Values:
    """Return Holm's step-down adjusted p-values in the order given (Holm 1979). Shape [tests]; NaN is left out."""
    adjusted = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    if len(known):
        order = known[np.argsort(p_values[known], kind="stable")]
        steps = p_values[order] * (len(known) - np.arange(len(order)))
        adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def known(value: float | np.float64 | Values) -> float | None:
    """Return a finite number as float, and None otherwise."""
    return float(value) if math.isfinite(value) else None

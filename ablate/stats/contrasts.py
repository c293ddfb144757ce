"""Contrasts: weighted sums of cell means, estimated with one residual and decided as one family.

Every design asks about contrasts of its cells: variants against a baseline, main effects and interactions of a factorial,
an arm alone and with another one, the contributions to the difference between two configs. All of them are analysed twice:

    pooled   the seed-blocked model of all cells, with intervals that are simultaneous over the family
    paired   the contrast in each seed, by its own paired t, which must agree at a lenient level

The second analysis makes pooling safe. A cell whose runs vary three times as much as the others' gets 11% to 13% false
positives from the pooled analysis; the paired one bounds them whatever the variances are, and costs little power, because a
difference that the pool detects is nearly always plain in the pairs. A guard sets aside cells whose spread is too unlike the
others'; contrasts that need one rest on their paired t alone. `Rule` holds what differs from design to design.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.dunnett import critical_value, equivalence_value, simultaneous_p
from ablate.stats.linear_model import (
    ENOUGH_SEEDS,
    VARIANT_ALARM,
    Blocked,
    baseline_alarm,
    blocked,
    many_to_one,
    set_aside,
)
from ablate.stats.paired import PairedT, paired_t

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Claim = Literal["difference", "equivalence"]

CONFIDENCE = 0.95
"""Of the simultaneous intervals, and of all claims of equivalence together: both error rates are counted over the family."""

MANY_SEEDS = 8
"""From here on a stricter paired analysis costs next to no power."""


def variant_agreement(pairs: NDArray[np.int64], claim: Claim = "difference") -> Values:
    """Return the two-sided level at which a variant's own paired t must agree, by its number of pairs.

    5%, but 15% at 5 to 7 pairs, where 5% would cost an eighth of the power, and 7% for a claim of equivalence, which gains
    nothing by more. Fewer pairs are LOW POWER and no guard detects a noisy arm there; with more the stricter level costs
    little, and keeps a table with one noisy arm below 7%.
    """
    lenient = 0.15 if claim == "difference" else 0.07
    return np.where((pairs >= ENOUGH_SEEDS) & (pairs < MANY_SEEDS), lenient, 0.05)


def cell_agreement(pairs: NDArray[np.int64], _claim: Claim = "difference") -> Values:
    """Return 5%: one noisy cell enters many contrasts, and at 10% it gave a false positive in 13% of pairwise studies."""
    return np.full(np.shape(pairs), 0.05)


def contribution_agreement(pairs: NDArray[np.int64], _claim: Claim = "difference") -> Values:
    """Return 15% from five pairs on and 10% below, where the guard detects little."""
    return np.where(pairs >= ENOUGH_SEEDS, 0.15, 0.10)


def variant_alarms(cells: int, seeds: int) -> Values:
    """Return the guard's false alarm rates [cells] of a many-to-one design, whose cell 0 is the baseline."""
    alarms = np.full(cells, VARIANT_ALARM)
    alarms[0] = baseline_alarm(seeds)
    return alarms


def contribution_alarms(cells: int, seeds: int) -> Values:
    """Return the guard's false alarm rates [cells] where no cell is special."""
    return np.full(cells, 0.05 if seeds >= ENOUGH_SEEDS else 0.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What a design asks of its contrasts.

    alarms: the guard's false alarm rates by (cells, seeds); None for no guard.
    agreement: two-sided level at which the paired t must agree, by its pairs and what is claimed.
    step_down: from five pairs on, contrasts that are decided leave the family of the rest.
    """

    alarms: Callable[[int, int], Values] | None
    agreement: Callable[[NDArray[np.int64], Claim], Values]
    step_down: bool = False


VARIANTS = Rule(alarms=variant_alarms, agreement=variant_agreement, step_down=True)
"""Every variant against one baseline."""

CELLS = Rule(alarms=None, agreement=cell_agreement)
"""Main effects and interactions of a factorial design, and effects with and without another arm."""

CONTRIBUTIONS = Rule(alarms=contribution_alarms, agreement=contribution_agreement)
"""Contributions to the difference between two configs; decided by `stats/shapley.py`."""


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Estimates of shape [..., contrasts] unless said; NaN where the runs do not give one. Unit of the values.

    weights: [contrasts, cells].
    alone: whether the guard set aside a cell that the contrast needs; its estimates are then those of its own pairs.
    df: degrees of freedom of the error.
    pool: the model without the cells set aside. own: the paired t of every contrast.
    """

    weights: Values
    effects: Values
    errors: Values
    df: NDArray[np.int64]
    alone: Flags
    pool: Blocked
    own: PairedT


def estimate(values: Values, weights: Values | None = None, rule: Rule = VARIANTS) -> Contrasts:
    """Estimate the contrasts `weights` [contrasts, cells] of `values` [..., cells, seeds]; NaN where a run has no value.

    weights: default every cell minus the first. Raises ValueError where a row does not add up to 0.
    """
    cells, seeds = values.shape[-2:]
    weights = many_to_one(cells) if weights is None else weights
    if weights.shape[1] != cells or np.any(np.abs(weights.sum(axis=1)) > 1e-9):
        raise ValueError(
            f"weights of shape {weights.shape}: expected one column per cell of {cells}, each row adding up to 0"
        )
    weights = np.where(np.abs(weights) > 1e-12, weights, 0.0)
    needs = weights != 0
    aside = np.zeros(values.shape[:-1], dtype=bool)
    if rule.alarms is not None:
        aside = set_aside(values, weights, rule.alarms(cells, seeds))
    alone = aside @ needs.T
    left_out = aside | np.all(alone, axis=-1, keepdims=True)
    pool = blocked(np.where(left_out[..., None], np.nan, values), weights)
    present = np.isfinite(values)
    own = paired_t(np.where(needs @ ~present, np.nan, weights @ np.where(present, values, 0.0)))
    return Contrasts(
        weights=weights,
        effects=np.where(alone, own.effects, pool.effects),
        errors=np.where(alone, own.errors, pool.errors),
        df=np.where(alone, own.df, pool.df[..., None]),
        alone=alone,
        pool=pool,
        own=own,
    )


@dataclass(frozen=True, slots=True)
class Decisions(Contrasts):
    """Decided contrasts; all of shape [..., contrasts] unless said. Unit of the values.

    low, high: interval at the chosen confidence, simultaneous over the family. inner_low, inner_high: the interval that has
        to be inside the margin for equivalence.
    differs: both analyses exclude 0. within: both are inside the margin.
    by_steps: differs, though the simultaneous interval holds 0: other contrasts were decided before, and fewer are left.
    pooled_differs, pooled_within: what the pooled analysis alone gives.
    holm_p: of contrasts that the guard set aside, else NaN.
    correlation: [..., contrasts, contrasts], of the family that the intervals are simultaneous over.
    """

    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    differs: Flags
    by_steps: Flags
    within: Flags
    pooled_differs: Flags
    pooled_within: Flags
    holm_p: Values
    correlation: Values

    @property
    def only_pooled(self) -> Flags:
        """Contrasts that the pooled analysis decides and the paired one does not confirm."""
        return (self.pooled_differs | self.pooled_within) & ~self.differs & ~self.within


def decide(
    values: Values,
    margin: float | None = None,
    confidence: float = CONFIDENCE,
    correlation: Values | None = None,
    *,
    weights: Values | None = None,
    rule: Rule = VARIANTS,
    equivalences: int | None = None,
) -> Decisions:
    """Decide contrasts of `values` [..., cells, seeds] as one family; NaN where a run has no value.

    margin: the smallest effect of interest, in the values' unit; None claims no equivalence.
    confidence: of the simultaneous intervals; an interim analysis of a sequential study has its own.
    correlation: [contrasts, contrasts], of the declared family's estimates; default is that of the runs at hand.
    weights: [contrasts, cells]; default every cell minus the first.
    equivalences: correct claims of equivalence for this number of them (Bonferroni, which holds whichever of the true
        effects are at the margin); default is the exact joint distribution.

    Raises ValueError for a margin that is not positive, a confidence outside (0, 1) or weights that do not add up to 0.
    """
    if margin is not None and not margin > 0:
        raise ValueError(f"margin {margin}: expected a positive number, the smallest effect of interest")
    found = estimate(values, weights, rule)
    pool, own, alone, effects = found.pool, found.own, found.alone, found.effects
    family = pool.correlation
    if correlation is not None:
        family = np.broadcast_to(correlation, family.shape)
    elif np.any(alone):
        family = blocked(np.where(np.isfinite(values), 0.0, np.nan), found.weights).correlation
    outer = _family_limits(critical_value, confidence, pool.df, family)
    if equivalences is None:
        inner = _family_limits(equivalence_value, confidence, pool.df, family)
    else:
        known = stats.t.isf((1 - confidence) / equivalences, np.maximum(pool.df, 1))
        inner = np.where(pool.df > 0, known, np.nan)
    holm_p, holm_half = _holm_intervals(own, alone, confidence)
    bonferroni_half = own.half_width(1 - 2 * (1 - confidence) / alone.shape[-1])
    half = np.where(alone, holm_half, outer[..., None] * pool.errors)
    inner_half = np.where(alone, bonferroni_half, inner[..., None] * pool.errors)
    limit = margin if margin is not None else 0.0
    pooled_differs = np.abs(effects) > half
    pooled_within = np.abs(effects) + inner_half < limit
    agrees = alone | (np.abs(own.effects) > _own_half(own, rule, "difference")) & (own.effects * effects > 0)
    differs = pooled_differs & agrees
    if rule.step_down:
        may = agrees & ~alone & (own.pairs >= ENOUGH_SEEDS)
        differs = _step_down(differs, may, np.abs(effects) / pool.errors, confidence, pool.df, family)
    own_within = np.abs(own.effects) + _own_half(own, rule, "equivalence") < limit
    return Decisions(
        weights=found.weights,
        effects=effects,
        errors=found.errors,
        df=found.df,
        alone=alone,
        pool=pool,
        own=own,
        low=effects - half,
        high=effects + half,
        inner_low=effects - inner_half,
        inner_high=effects + inner_half,
        differs=differs,
        by_steps=differs & ~pooled_differs,
        within=pooled_within & (alone | own_within),
        pooled_differs=pooled_differs & ~alone,
        pooled_within=pooled_within & ~alone,
        holm_p=holm_p,
        correlation=family,
    )


def adjusted_p(decisions: Decisions) -> Values:
    """Return the p-values [contrasts] of one study, simultaneous as its intervals are; Holm's for contrasts set aside."""
    family = np.isfinite(np.diag(decisions.correlation))
    correlation, df = decisions.correlation[np.ix_(family, family)], int(decisions.pool.df)
    single = [simultaneous_p(float(t), df, correlation) for t in _statistics(decisions)]
    return np.where(decisions.alone, decisions.holm_p, single)


def step_down_p(decisions: Decisions) -> Values:
    """Return the step-down p-values [contrasts] of one study: each among those still open when its turn comes."""
    family = np.isfinite(np.diag(decisions.correlation))
    statistics, df = _statistics(decisions), int(decisions.pool.df)
    steps, before = np.where(decisions.alone, decisions.holm_p, np.nan), 0.0
    for number in np.argsort(-np.nan_to_num(statistics, nan=-1.0), kind="stable"):
        if np.isfinite(statistics[number]):
            rest = decisions.correlation[np.ix_(family, family)]
            before = steps[number] = max(before, simultaneous_p(float(statistics[number]), df, rest))
            family[number] &= not decisions.differs[number]
    return steps


def _statistics(decisions: Decisions) -> Values:
    with np.errstate(invalid="ignore"):
        return np.where(decisions.alone, np.nan, np.abs(decisions.effects) / decisions.errors)


def _step_down(
    decided: Flags, may: Flags, statistics: Values, confidence: float, df: NDArray[np.int64], correlation: Values
) -> Flags:
    """Dunnett's step-down test (Dunnett and Tamhane 1991): a decided contrast takes no more room in the family.

    The familywise error stays the same: as long as nothing false is decided, the family still holds all contrasts without an
    effect. A contrast leaves only with the agreement of its own pairs; those set aside never do. Intervals have no steps:
    they are simultaneous over the whole family.

    may: contrasts that the steps can decide.
    """
    num = decided.shape[-1]
    flat, allowed = decided.reshape(-1, num).copy(), may.reshape(-1, num)
    t, freedom, layout = statistics.reshape(-1, num), df.reshape(-1), correlation.reshape(-1, num, num)
    rows = np.flatnonzero(np.any(flat & allowed, axis=1) & np.any(allowed & ~flat, axis=1))
    while len(rows):
        gone = flat[rows] & allowed[rows]
        left = np.where(gone[:, :, None] | gone[:, None, :], np.nan, layout[rows])
        limits = _family_limits(critical_value, confidence, freedom[rows], left)
        more = allowed[rows] & ~flat[rows] & (t[rows] > limits[:, None])
        flat[rows] |= more
        rows = rows[np.any(more, axis=1)]
    return flat.reshape(decided.shape)


def _own_half(own: PairedT, rule: Rule, claim: Claim) -> Values:
    """Half width of the own interval that must exclude 0, or be inside the margin: a one-sided claim on either side."""
    levels = rule.agreement(own.pairs, claim)
    half, sides = np.full(levels.shape, np.nan), 1 if claim == "difference" else 2
    for level in np.unique(levels):
        half = np.where(levels == level, own.half_width(1 - sides * float(level)), half)
    return half


def _family_limits(
    value: Callable[[float, float, Values], float], confidence: float, df: NDArray[np.int64], correlation: Values
) -> Values:
    """Critical value of every study, shape [...]; contrasts that cannot be estimated are left out of the family."""
    num = correlation.shape[-1]
    flat = correlation.reshape(-1, num, num)
    kinds, which = np.unique(
        np.column_stack([df.reshape(-1), flat.reshape(len(flat), -1)]), axis=0, return_inverse=True, equal_nan=True
    )
    limits = []
    for kind in kinds:
        matrix = kind[1:].reshape(num, num)
        known = np.isfinite(np.diag(matrix))
        limits.append(value(confidence, kind[0], matrix[np.ix_(known, known)]))
    return np.asarray(limits)[which.reshape(-1)].reshape(df.shape)


def holm(p_values: Values, family: int | None = None) -> Values:
    """Return Holm's step-down adjusted p-values in the order given (Holm 1979). Shape [tests]; NaN is left out.

    family: number of claims that are made in all, when these are only some of them: the smallest p is multiplied by it.
        Default is the number of p-values. Raises ValueError below that number.
    """
    adjusted = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    family = len(known) if family is None else family
    if family < len(known):
        raise ValueError(f"family {family}: expected at least {len(known)}, the number of p-values")
    if len(known):
        order = known[np.argsort(p_values[known], kind="stable")]
        steps = p_values[order] * (family - np.arange(len(order)))
        adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _holm_intervals(own: PairedT, alone: Flags, confidence: float) -> tuple[Values, Values]:
    """Adjusted p of contrasts set aside, and the half width with 0 outside exactly when p < 1 - confidence."""
    num = alone.shape[-1]
    adjusted, half = np.full(alone.shape, np.nan), np.full(alone.shape, np.nan)
    p_values = np.where(alone, own.p_values, np.nan)
    for index in map(tuple, np.argwhere(np.any(alone, axis=-1))):
        adjusted[index] = holm(p_values[index], num)
        steps = np.clip(adjusted[index] / np.maximum(p_values[index], 1e-300), 1.0, num)
        limit = stats.t.isf((1 - confidence) / (2 * steps), np.maximum(own.df[index], 1))
        half[index] = limit * own.errors[index]
    return adjusted, half


def known(value: float | np.float64 | Values) -> float | None:
    """Return a finite number as float, and None otherwise."""
    return float(value) if math.isfinite(value) else None

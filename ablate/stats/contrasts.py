"""Several claims about the cells of one study, judged together: each a weighted sum of the cells' means.

    pooled   the seed-blocked model of all cells, intervals simultaneous over the claims
    own      the same weighted sum seed by seed, a t of its own, which must agree (see decide.py)

The own analysis needs no equal variances: a cell whose runs vary more than the others' widens every sum that it is part of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

pass

from ablate.controls.control import Control as Control
from ablate.stats.dunnett import complete, critical_value, equivalence_value, simultaneous_p
from ablate.stats.effect_size import beats, hedges_g
from ablate.stats.linear_model import ENOUGH_SEEDS, LEVEL, Blocked, blocked, fallback, own_level, seed_correlation
from ablate.stats.paired import OwnPairs, own_pairs
from ablate.stats.power import seeds_to_decide
from ablate.stats.sign_flip import MOST_PAIRS, signflip_p, smallest_p

# Several p-values read at once.

Values = NDArray[np.float64]


def holm(p_values: Values, family: int | None = None) -> Values:
    """Holm's step-down adjusted p, in the order given (Holm 1979). Shape [tests]; NaN stays NaN and counts for nothing.

    family: how many claims are made in all, when these are only some of them: the smallest p is multiplied by it. Default
        is the number of p-values. Raises ValueError below that number.
    """
    adjusted = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    family = len(known) if family is None else family
    if family < len(known):
        raise ValueError(f"family {family}: it holds at least the {len(known)} p-values that are given")
    if len(known):
        order = known[np.argsort(p_values[known], kind="stable")]
        steps = p_values[order] * (family - np.arange(len(order)))
        adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


# The decision rule of a table of variants against one baseline, for one study or for thousands at once. pooled
# seed-blocked model, Dunnett's simultaneous interval over all variants steps from five pairs on: of the
# variants that are left once others are decided, with the smaller critical value of the fewer comparisons own
# the variant's own paired t, which must agree at a lenient level fallback variants that the variance guard sets
# aside: own paired t alone, Holm over the whole table The third line is what makes pooling safe. A variant
# whose runs vary three times as much as the others gets 11 to 13 % false positives from the pooled analysis;
# asking its own differences as well bounds them by `own_level` whatever the variances are, and costs little
# power, because a difference that the pooled analysis finds is nearly always plain to the pairs.

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Decisions:
    """All of shape [..., variants] unless said. Unit of the values.

    low, high: interval at `level`, simultaneous over the variants. inner_low, inner_high: the interval for equivalence.
    differs: the verdict's two analyses both exclude 0. within: both lie inside the margin.
    by_steps: differs, though the simultaneous interval holds 0: the variants before it were decided, and fewer are left.
    pooled_differs, pooled_within: what the pooled analysis alone would say.
    alone: the variant was set aside by the guard; its effect, error and intervals are those of its own pairs.
    own_p: of the paired t, not corrected. holm_p: of variants set aside, else NaN.
    correlation: [..., variants, variants]. df: of the error. pool: the model without the variants set aside.
    """

    effects: Values
    errors: Values
    df: NDArray[np.int64]
    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    differs: Flags
    by_steps: Flags
    within: Flags
    pooled_differs: Flags
    pooled_within: Flags
    alone: Flags
    holm_p: Values
    correlation: Values
    pool: Blocked
    own: OwnPairs


def decide(
    values: Values, margin: float | None = None, level: float = LEVEL, correlation: Values | None = None
) -> Decisions:
    """Decide every contrast of `values` [..., arms, seeds], the baseline first; NaN where a run has no value.

    margin: the smallest effect that matters, in the values' unit; None where no effect is not to be claimed.
    level: of the simultaneous intervals; a look of a sequential study has its own.
    correlation: [variants, variants], of the family's estimates where it is declared; default is that of the runs at hand.

    Raises ValueError for a margin that is not positive or a level outside (0, 1).
    """
    if margin is not None and not margin > 0:
        raise ValueError(f"margin {margin}: a positive number is needed, the smallest effect that matters")
    alone, own = fallback(values), own_pairs(values)
    set_aside = np.concatenate([np.zeros((*alone.shape[:-1], 1), dtype=bool), alone], axis=-1)
    pool = blocked(np.where(set_aside[..., None], np.nan, values))
    layout = pool.correlation
    if correlation is not None:
        layout = np.broadcast_to(correlation, layout.shape)
    elif np.any(alone):
        layout = blocked(np.where(np.isfinite(values), 0.0, np.nan)).correlation
    outer, inner = (_limits(value, level, pool.df, layout) for value in (critical_value, equivalence_value))
    holm_p, holm_half = _holm(own, alone, level)
    half = np.where(alone, holm_half, outer[..., None] * pool.errors)
    inner_half = np.where(alone, _bonferroni_half(own, level), inner[..., None] * pool.errors)
    effects = np.where(alone, own.effects, pool.effects)
    limit = margin if margin is not None else 0.0
    pooled_differs = np.abs(effects) > half
    pooled_within = np.abs(effects) + inner_half < limit
    agrees = alone | _own_differs(own, effects)
    may = agrees & ~alone & (own.pairs >= ENOUGH_SEEDS)
    differs = _step_down(pooled_differs & agrees, may, np.abs(effects) / pool.errors, level, pool.df, layout)
    return Decisions(
        effects=effects,
        errors=np.where(alone, own.errors, pool.errors),
        df=np.where(alone, own.df, pool.df[..., None]),
        low=effects - half,
        high=effects + half,
        inner_low=effects - inner_half,
        inner_high=effects + inner_half,
        differs=differs,
        by_steps=differs & ~pooled_differs,
        within=pooled_within & (alone | _own_within(own, limit)),
        pooled_differs=pooled_differs & ~alone,
        pooled_within=pooled_within & ~alone,
        alone=alone,
        holm_p=holm_p,
        correlation=layout,
        pool=pool,
        own=own,
    )


def _step_down(
    decided: Flags, may: Flags, statistics: Values, level: float, df: NDArray[np.int64], correlation: Values
) -> Flags:
    """Dunnett's test by steps (Dunnett and Tamhane 1991): what is decided needs no more room in the family.

    The chance of any false claim stays what it is: as long as nothing false is decided, the family still holds all variants
    without an effect. A variant leaves only with the agreement of its own pairs; those set aside never do.
    may: the variants that the steps can decide. Intervals have no steps: they are simultaneous over all variants.
    """
    variants = decided.shape[-1]
    flat, allowed = decided.reshape(-1, variants).copy(), may.reshape(-1, variants)
    t, freedom, layout = statistics.reshape(-1, variants), df.reshape(-1), correlation.reshape(-1, variants, variants)
    rows = np.flatnonzero(np.any(flat & allowed, axis=1) & np.any(allowed & ~flat, axis=1))
    while len(rows):
        gone = flat[rows] & allowed[rows]
        left = np.where(gone[:, :, None] | gone[:, None, :], np.nan, layout[rows])
        limits = _limits(critical_value, level, freedom[rows], left)
        found = allowed[rows] & ~flat[rows] & (t[rows] > limits[:, None])
        flat[rows] |= found
        rows = rows[np.any(found, axis=1)]
    return flat.reshape(decided.shape)


def _own_half(own: OwnPairs, claim: Literal["difference", "equivalence"]) -> Values:
    """Half width of the own interval that must leave 0 out, or lie inside the margin: a one-sided claim on either side."""
    level = own_level(own.pairs, claim)
    half, sides = np.full(level.shape, np.nan), 1 if claim == "difference" else 2
    for one in np.unique(level):
        half = np.where(level == one, own.half_width(1 - sides * float(one)), half)
    return half


def _own_differs(own: OwnPairs, effects: Values) -> Flags:
    return np.asarray((np.abs(own.effects) > _own_half(own, "difference")) & (own.effects * effects > 0))


def _own_within(own: OwnPairs, margin: float) -> Flags:
    return np.asarray(np.abs(own.effects) + _own_half(own, "equivalence") < margin)


def _limits(
    value: Callable[[float, float, Values], float], level: float, df: NDArray[np.int64], correlation: Values
) -> Values:
    """The critical value of every study, shape [...]; contrasts that cannot be estimated are left out of the family."""
    variants = correlation.shape[-1]
    flat = correlation.reshape(-1, variants, variants)
    kinds, which = np.unique(
        np.column_stack([df.reshape(-1), flat.reshape(len(flat), -1)]), axis=0, return_inverse=True, equal_nan=True
    )
    limits = []
    for kind in kinds:
        matrix = kind[1:].reshape(variants, variants)
        known = np.isfinite(np.diag(matrix))
        limits.append(value(level, kind[0], matrix[np.ix_(known, known)]))
    return np.asarray(limits)[which.reshape(-1)].reshape(df.shape)


def _holm(own: OwnPairs, alone: Flags, level: float) -> tuple[Values, Values]:
    """Adjusted p of the variants set aside, and the half width that says the same: 0 is outside exactly when p < 1 - level."""
    variants = alone.shape[-1]
    adjusted, half = np.full(alone.shape, np.nan), np.full(alone.shape, np.nan)
    if not np.any(alone):
        return adjusted, half
    p_values = np.where(alone, own.p_values, np.nan)
    for index in np.ndindex(alone.shape[:-1]):
        if not np.any(alone[index]):
            continue
        adjusted[index] = holm(p_values[index], variants)
        steps = np.clip(adjusted[index] / np.maximum(p_values[index], 1e-300), 1.0, variants)
        limit = stats.t.isf((1 - level) / (2 * steps), np.maximum(own.df[index], 1))
        half[index] = limit * own.errors[index]
    return adjusted, half


def _bonferroni_half(own: OwnPairs, level: float) -> Values:
    return own.half_width(1 - 2 * (1 - level) / own.pairs.shape[-1])


OWN_LEVEL = 0.05
"""Two-sided, at which a claim's own seeds must agree. `decide.own_level` is more lenient from five to seven seeds: there an arm
stands in one contrast. Here a noisy cell stands in many claims, and at 10 % it made a false one in 13 % of studies of pairs."""


@dataclass(frozen=True, slots=True)
class Claims:
    """All of shape [claims] unless said; NaN where the runs do not give it. Unit of the values.

    low, high: at 95 %, simultaneous over the claims. inner_low, inner_high: what has to lie inside the margin.
    seeds: with a value in every cell that the claim needs. differs: the pooled and the own analysis both leave 0 out.
    within: both lie inside the margin. only_pooled: the pooled analysis says either, and the own one does not bear it out.
    correlation: of the claims that can be had. means: [cells], of each cell over the first one. sd, df: of the seed-blocked
    residual.
    """

    effects: Values
    errors: Values
    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    correlation: Values
    own_p_values: Values
    seeds: NDArray[np.int64]
    differs: Flags
    within: Flags
    only_pooled: Flags
    means: Values
    sd: float
    df: int

    def p_value(self, number: int) -> float:
        """Of one claim, simultaneous over all."""
        if not np.isfinite(self.errors[number]):
            return float("nan")
        return simultaneous_p(float(abs(self.effects[number]) / self.errors[number]), self.df, self.correlation)


def judge_claims(values: Values, weights: Values, margin: float | None = None, equalities: int | None = None) -> Claims:
    """Judge the sums `weights` [claims, cells] of `values` [cells, seeds], the baseline first; NaN where a run has none.

    margin: the smallest effect that matters. equalities: how many claims of no effect are made, one chance of 5 % for all of
    them; default is one per claim (Bonferroni: exact enough, and it holds whichever of the true effects sit at the margin).
    Every row of `weights` adds up to 0. Raises ValueError otherwise.
    """
    if weights.shape[1] != len(values) or np.any(np.abs(weights.sum(axis=1)) > 1e-9):
        raise ValueError(
            f"weights of shape {weights.shape}: one column per cell of {len(values)}, each row adding up to 0"
        )
    weights = np.where(np.abs(weights) > 1e-12, weights, 0.0)
    pool = blocked(values)
    rest, needs = weights[:, 1:], weights != 0
    known = ~np.any(needs[:, 1:] & ~np.isfinite(pool.effects), axis=1)
    covariance = np.nan_to_num(pool.correlation * np.outer(pool.scales, pool.scales))
    unit = rest @ covariance @ rest.T
    scales = np.where(known, np.sqrt(np.maximum(np.diag(unit), 0.0)), np.nan)
    effects = np.where(known, rest @ np.nan_to_num(pool.effects), np.nan)
    errors, df = scales * float(pool.sd), int(pool.df)
    correlation = unit[np.ix_(known, known)] / np.outer(scales[known], scales[known])
    limit = critical_value(LEVEL, df, correlation) if np.any(known) else float("nan")
    inner = float(stats.t.isf((1 - LEVEL) / (equalities or len(weights)), df)) if df else float("nan")
    own = _own(values, weights, needs)
    least = margin if margin is not None else 0.0
    own_effects = own.effects[:, 0]
    pooled_differs, pooled_within = np.abs(effects) > limit * errors, np.abs(effects) + inner * errors < least
    own_differs = (np.abs(own_effects) > own.half_width(1 - OWN_LEVEL)[:, 0]) & (own_effects * effects > 0)
    own_within = np.abs(own_effects) + own.half_width(1 - 2 * OWN_LEVEL)[:, 0] < least
    differs, within = pooled_differs & own_differs, pooled_within & own_within
    return Claims(
        effects=effects,
        errors=errors,
        low=effects - limit * errors,
        high=effects + limit * errors,
        inner_low=effects - inner * errors,
        inner_high=effects + inner * errors,
        correlation=correlation,
        own_p_values=own.p_values[:, 0],
        seeds=own.pairs[:, 0],
        differs=differs,
        within=within,
        only_pooled=(pooled_differs & ~differs & ~within) | (pooled_within & ~within & ~differs),
        means=np.concatenate([[0.0], pool.effects]),
        sd=float(pool.sd),
        df=df,
    )


def _own(values: Values, weights: Values, needs: Flags) -> OwnPairs:
    """Each sum seed by seed, of the seeds that have all of its cells."""
    seen = np.isfinite(values)
    whole = (needs.astype(np.int64) @ (~seen).astype(np.int64)) == 0
    sums = np.where(whole, weights @ np.where(seen, values, 0.0), np.nan)
    return own_pairs(np.stack([np.zeros_like(sums), sums], axis=1))


# The table of one study: every variant's effect, interval, verdict and how sure it is. Arrays in, values out.

LOW_POWER = "LOW POWER"
LOW_POWER_POOLED_ONLY = "LOW POWER, pooled only"
POOLED_ONLY = "NOT CONFIRMED BY PAIRED TEST"
"""The pooled analysis decides, and the variant's own pairs do not bear it out: no verdict."""

OWN_VARIANCE = "UNEQUAL VARIANCE"
"""The variant (or the baseline) is too unlike the other arms in spread to be pooled with them."""


DIRECTIONS: tuple[VerdictKind, ...] = ("helps", "hurts", "raises", "lowers")

BY_STEPS = "STEP-DOWN"
"""Decided once the variants before it were: the simultaneous interval, which knows no steps, still holds 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One variant against the baseline. None stands for a figure that the runs do not give.

    effect, error, low, high: in the metric's unit; low and high at 95 %, simultaneous over all variants.
    inner_low, inner_high: the interval that has to lie inside the margin for `no effect`, simultaneous too.
    p_value: adjusted for the number of variants (Dunnett; Holm for a variant with its own variance). step_p: by steps, which
        decides; the two differ where other variants are decided before.
    own_p_value: of the variant's own paired t, not adjusted.
    signflip_p: exact, not adjusted; smallest_p: the least it could be with so many pairs.
    beats: share of seeds in which the variant is better (higher, for an outcome without a better side).
    hedges_g: effect over the sd of single runs.
    seeds_needed: of an undecided contrast, about how many seeds would decide it.
    """

    method: Literal["pooled", "own pairs"]
    pairs: int
    effect: float | None
    error: float | None
    df: int
    low: float | None
    high: float | None
    inner_low: float | None
    inner_high: float | None
    p_value: float | None
    step_p: float | None
    own_p_value: float | None
    signflip_p: float | None
    smallest_p: float
    beats: float | None
    hedges_g: float | None
    verdict: VerdictKind
    labels: tuple[str, ...]
    seeds_needed: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """rho: measured correlation between arms over seeds. sd, df: pooled residual of the seed-blocked model."""

    rho: float | None
    sd: float | None
    df: int
    variants: tuple[Judgement, ...]


def judge(
    values: Values, margin: float | None = None, lower_is_better: bool | None = None, look_level: float | None = None
) -> Table:
    """Judge every variant of `values` [arms, seeds], the baseline first, NaN where a run gave no value.

    margin: the smallest effect that matters, declared before the runs; None makes no claim of `no effect`.
    lower_is_better: None for an outcome without a better side, whose verdicts are `raises` and `lowers`.
    look_level: of the intervals at one look of several; variants that had stopped before then lack their later seeds, and the
        family is the one that was declared.

    Raises ValueError for a margin that is not positive and for fewer than two arms.
    """
    declared = None if look_level is None else complete(values.shape[0] - 1)
    found = decide(values, margin, look_level or LEVEL, declared)
    p_values = _p_values(found)
    variants = tuple(
        _judgement(found, values, number, p_values, margin, lower_is_better) for number in range(values.shape[0] - 1)
    )
    return Table(rho=seed_correlation(values), sd=_known(found.pool.sd), df=int(found.pool.df), variants=variants)


def _p_values(found: Decisions) -> tuple[Values, Values]:
    """Single step, as the intervals are, and by steps: of a variant among those that are still open when its turn comes."""
    family = np.isfinite(np.diag(found.correlation))
    correlation = found.correlation[np.ix_(family, family)]
    with np.errstate(invalid="ignore"):
        statistics = np.where(found.alone, np.nan, np.abs(found.effects) / found.errors)
    df = int(found.pool.df)
    single = np.where(found.alone, found.holm_p, [simultaneous_p(float(t), df, correlation) for t in statistics])
    steps, before = np.array(single), 0.0
    for number in np.argsort(-np.nan_to_num(statistics, nan=-1.0), kind="stable"):
        if np.isfinite(statistics[number]):
            rest = found.correlation[np.ix_(family, family)]
            before = steps[number] = max(before, simultaneous_p(float(statistics[number]), df, rest))
            family[number] &= not found.differs[number]
    return single, steps


def _judgement(
    found: Decisions,
    values: Values,
    number: int,
    p_values: tuple[Values, Values],
    margin: float | None,
    lower_is_better: bool | None,
) -> Judgement:
    both = np.isfinite(values[0]) & np.isfinite(values[number + 1])
    baseline, variant = values[0, both], values[number + 1, both]
    pairs, effect, alone = len(baseline), _known(found.effects[number]), bool(found.alone[number])
    error, differs, within = _known(found.errors[number]), bool(found.differs[number]), bool(found.within[number])
    verdict = _verdict(effect, differs, within, lower_is_better)
    by_steps = verdict in DIRECTIONS and bool(found.by_steps[number])
    withheld = verdict == "inconclusive" and bool(found.pooled_differs[number] | found.pooled_within[number])
    return Judgement(
        method="own pairs" if alone else "pooled",
        pairs=pairs,
        effect=effect,
        error=error,
        df=int(found.df[number]),
        low=_known(found.low[number]),
        high=_known(found.high[number]),
        inner_low=_known(found.inner_low[number]),
        inner_high=_known(found.inner_high[number]),
        p_value=_known(p_values[0][number]),
        step_p=_known(p_values[1][number]),
        own_p_value=_known(found.own.p_values[number]),
        signflip_p=_known(signflip_p(variant - baseline)) if pairs <= MOST_PAIRS else None,
        smallest_p=smallest_p(pairs),
        beats=_known(beats(baseline, variant, bool(lower_is_better))),
        hedges_g=_known(hedges_g(baseline, variant)),
        verdict=verdict,
        labels=_labels(pairs, alone, withheld, by_steps),
        seeds_needed=_needed(found, number, margin, pairs) if verdict == "inconclusive" else None,
    )


def _verdict(effect: float | None, differs: bool, within: bool, lower_is_better: bool | None) -> VerdictKind:
    """Equivalence first: a difference that is proven to be smaller than what matters is no effect, be it zero or not."""
    if within:
        return "equivalent"
    if not differs or effect is None:
        return "inconclusive"
    if lower_is_better is None:
        return "raises" if effect > 0 else "lowers"
    return "hurts" if (effect > 0) == lower_is_better else "helps"


def _labels(pairs: int, alone: bool, withheld: bool, by_steps: bool) -> tuple[str, ...]:
    labels = [OWN_VARIANCE] if alone else [BY_STEPS] if by_steps else []
    if pairs < ENOUGH_SEEDS:
        return (LOW_POWER_POOLED_ONLY if withheld else LOW_POWER, *labels)
    return (POOLED_ONLY, *labels) if withheld else tuple(labels)


def _needed(found: Decisions, number: int, margin: float | None, pairs: int) -> int | None:
    """From the variant's own spread where it is judged alone, else from the pooled residual."""
    alone = bool(found.alone[number])
    sd = float(found.errors[number]) * math.sqrt(pairs / 2) if alone else float(found.pool.sd)
    if margin is None or not sd > 0:
        return None
    needed = seeds_to_decide(sd, margin, 1 if alone else len(found.alone))
    return None if needed is None else max(needed, pairs + 1)


def _known(value: float | np.float64 | Values) -> float | None:
    return float(value) if math.isfinite(value) else None


VerdictKind = Literal["helps", "hurts", "raises", "lowers", "equivalent", "inconclusive", "none"]

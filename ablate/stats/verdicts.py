"""The table of one study: the effect, interval and verdict of every variant. Arrays in, values out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ablate.stats.contrasts import CONFIDENCE, Decisions, adjusted_p, decide, known, step_down_p
from ablate.stats.dunnett import complete
from ablate.stats.linear_model import ENOUGH_SEEDS, seed_correlation
from ablate.stats.paired import MAX_PAIRS, hedges_g, signflip_p, smallest_p
from ablate.stats.power import seeds_to_decide

Values = NDArray[np.float64]

VerdictKind = Literal["helps", "hurts", "raises", "lowers", "equivalent", "inconclusive", "none"]

DECIDED: tuple[VerdictKind, ...] = ("helps", "hurts", "raises", "lowers")

LOW_POWER = "LOW POWER"

BY_STEPS = "STEP-DOWN"
"""Decided after other variants were: the simultaneous interval, which has no steps, still holds 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One variant against the baseline. None where the runs do not give a figure.

    pool_weight: of the pooled error in `error`.
    effect, error, low, high: in the metric's unit; low and high at 95%, simultaneous over all variants.
    inner_low, inner_high: the interval that has to be inside the margin for equivalence, simultaneous too.
    p_value: adjusted for the number of variants (Dunnett).
    step_p: by steps, which decides; it differs from p_value for all but the most significant variant.
    own_p_value: of the variant's own paired t, not adjusted.
    signflip_p: exact, not adjusted. smallest_p: the least it could be with this number of pairs.
    corrected_effect: of a significant effect, corrected for having been selected by its significance; None for any other.
    pair_low, pair_high: 95% prediction interval for the difference in one new pair of runs, not simultaneous.
    hedges_g: effect over the sd of single runs.
    seeds_needed: of an undecided contrast, about how many seeds would decide it.
    """

    pairs: int
    effect: float | None
    error: float | None
    df: float
    pool_weight: float
    low: float | None
    high: float | None
    inner_low: float | None
    inner_high: float | None
    p_value: float | None
    step_p: float | None
    own_p_value: float | None
    signflip_p: float | None
    smallest_p: float
    corrected_effect: float | None
    pair_low: float | None
    pair_high: float | None
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
    values: Values,
    margin: float | None = None,
    lower_is_better: bool | None = None,
    interim_confidence: float | None = None,
    rounding: float = 0.0,
) -> Table:
    """Judge every variant of `values` [arms, seeds], the baseline first, NaN where a run gave no value.

    margin: the smallest effect of interest, declared before the runs; None claims no equivalence.
    lower_is_better: None for a metric without a better side, whose verdicts are `raises` and `lowers`.
    interim_confidence: of the intervals at one of several interim analyses; variants that had stopped before then lack their
        later seeds, and the family is the one that was declared.

    rounding: as in `estimate`.

    Raises ValueError for a margin that is not positive and for fewer than two arms.
    """
    declared = None if interim_confidence is None else complete(values.shape[0] - 1)
    decisions = decide(values, margin, interim_confidence or CONFIDENCE, declared, rounding=rounding)
    p_values = adjusted_p(decisions), step_down_p(decisions)
    variants = tuple(
        _judgement(decisions, values, number, p_values, margin, lower_is_better)
        for number in range(values.shape[0] - 1)
    )
    return Table(
        rho=seed_correlation(values), sd=known(decisions.pool.sd), df=int(decisions.pool.df), variants=variants
    )


def _judgement(
    decisions: Decisions,
    values: Values,
    number: int,
    p_values: tuple[Values, Values],
    margin: float | None,
    lower_is_better: bool | None,
) -> Judgement:
    both = np.isfinite(values[0]) & np.isfinite(values[number + 1])
    baseline, variant = values[0, both], values[number + 1, both]
    pairs, effect = len(baseline), known(decisions.effects[number])
    verdict = verdict_of(effect, bool(decisions.differs[number]), bool(decisions.within[number]), lower_is_better)
    by_steps = verdict in DECIDED and bool(decisions.by_steps[number])
    half = float(decisions.high[number] - decisions.effects[number])
    pair_half = _pair_half_width(float(decisions.errors[number]), float(decisions.df[number]), pairs)
    return Judgement(
        pairs=pairs,
        effect=effect,
        error=known(decisions.errors[number]),
        df=float(decisions.df[number]),
        pool_weight=float(decisions.pool_weight[number]),
        low=known(decisions.low[number]),
        high=known(decisions.high[number]),
        inner_low=known(decisions.inner_low[number]),
        inner_high=known(decisions.inner_high[number]),
        p_value=known(p_values[0][number]),
        step_p=known(p_values[1][number]),
        own_p_value=known(decisions.own.p_values[number]),
        signflip_p=known(signflip_p(variant - baseline)) if pairs <= MAX_PAIRS else None,
        smallest_p=smallest_p(pairs),
        corrected_effect=known(
            corrected_effect(
                float(decisions.effects[number]), float(decisions.errors[number]), float(decisions.df[number]), half
            )
        )
        if verdict in DECIDED
        else None,
        pair_low=known(decisions.effects[number] - pair_half),
        pair_high=known(decisions.effects[number] + pair_half),
        hedges_g=known(hedges_g(baseline, variant)),
        verdict=verdict,
        labels=(*power_labels(pairs), *([BY_STEPS] if by_steps else [])),
        seeds_needed=_needed(decisions, number, margin, pairs) if verdict == "inconclusive" else None,
    )


def verdict_of(effect: float | None, differs: bool, within: bool, lower_is_better: bool | None) -> VerdictKind:
    """Return the verdict; equivalence first: a difference shown to be smaller than what matters is none, be it zero or not."""
    if within:
        return "equivalent"
    if not differs or effect is None:
        return "inconclusive"
    if lower_is_better is None:
        return "raises" if effect > 0 else "lowers"
    return "hurts" if (effect > 0) == lower_is_better else "helps"


def corrected_effect(effect: float, error: float, df: float, half: float) -> float:
    """Return a significant effect without the excess that selection by significance gives it.

    The value whose mean, among the results that are significant, is the observed one (Zhong and Prentice 2008), with t read
    as the normal quantile of equal probability. half: half width of the interval that has to exclude 0.
    """
    statistic = abs(effect) / error
    limit = min(half / error, statistic)
    z, bound = (float(stats.norm.isf(stats.t.sf(one, df))) for one in (min(statistic, 1e6), limit))
    if not math.isfinite(z) or z > bound + 8:
        return effect

    def excess(true: float) -> float:
        selected = special.ndtr(true - bound) + special.ndtr(-bound - true)
        shift = (stats.norm.pdf(bound - true) - stats.norm.pdf(bound + true)) / selected
        return float(true + shift - z)

    return effect * float(optimize.brentq(excess, 0.0, z)) / z


def _pair_half_width(error: float, df: float, pairs: int) -> float:
    """Half width of the prediction interval: the variance of one pair is `pairs` times that of their mean."""
    return float(stats.t.isf((1 - CONFIDENCE) / 2, df)) * error * math.sqrt(1 + pairs) if df > 0 else math.nan


def power_labels(pairs: int) -> tuple[str, ...]:
    """Return the label of few seeds."""
    return (LOW_POWER,) if pairs < ENOUGH_SEEDS else ()


def _needed(decisions: Decisions, number: int, margin: float | None, pairs: int) -> int | None:
    """From the variant's own error: a difference of two runs has the variance of both."""
    sd = float(decisions.errors[number]) * math.sqrt(pairs / 2)
    if margin is None or not sd > 0:
        return None
    needed = seeds_to_decide(float(f"{sd:.6g}"), margin, len(decisions.effects))
    return None if needed is None else max(needed, pairs + 1)

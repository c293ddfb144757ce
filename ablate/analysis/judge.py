"""The table of one study: every variant's effect, interval, verdict and how sure it is. Arrays in, values out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.blocked import seed_correlation
from ablate.analysis.blocked_power import seeds_to_decide
from ablate.analysis.decide import LEVEL, Decisions, decide
from ablate.analysis.dunnett import complete, simultaneous_p
from ablate.analysis.effect_size import beats, hedges_g
from ablate.analysis.guard import ENOUGH_SEEDS
from ablate.analysis.signflip import MOST_PAIRS, signflip_p, smallest_p
from ablate.analysis.values import VerdictKind

Values = NDArray[np.float64]

LOW_POWER = "LOW POWER"
LOW_POWER_POOLED_ONLY = "LOW POWER, pooled only"
POOLED_ONLY = "POOLED ONLY"
"""The pooled analysis decides, and the variant's own pairs do not bear it out: no verdict."""

OWN_VARIANCE = "OWN VARIANCE"
"""The variant (or the baseline) is too unlike the other arms in spread to be pooled with them."""


DIRECTIONS: tuple[VerdictKind, ...] = ("helps", "hurts", "raises", "lowers")

BY_STEPS = "BY STEPS"
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
    withheld = verdict == "undecided" and bool(found.pooled_differs[number] | found.pooled_within[number])
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
        seeds_needed=_needed(found, number, margin, pairs) if verdict == "undecided" else None,
    )


def _verdict(effect: float | None, differs: bool, within: bool, lower_is_better: bool | None) -> VerdictKind:
    """Equivalence first: a difference that is proven to be smaller than what matters is no effect, be it zero or not."""
    if within:
        return "no effect"
    if not differs or effect is None:
        return "undecided"
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

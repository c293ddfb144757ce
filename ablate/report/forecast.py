"""What a plan costs and what it can find, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablate.analysis.blocked_power import detectable_effect, seeds_to_decide
from ablate.analysis.decide import LEVEL
from ablate.analysis.looks import levels_of
from ablate.analysis.precedent import Spread
from ablate.design.plan import Plan

if TYPE_CHECKING:
    from ablate.study.forecast import Forecast

SEEDS = (3, 5, 8)


def training_steps(plan: Plan, known: Forecast) -> tuple[int, int]:
    """Optimizer steps of the plan, and those of running every arm and every cadence by itself, one by one."""
    steps = {arm.name: int(arm.derived["total_steps"]) for arm in plan.arms}
    gone = {*known.shared, *known.stopped}
    planned = sum(steps[run.arm] for run in plan.runs if (run.arm, run.seed) not in gone)
    return planned - known.saved_steps, sum(steps[arm.name] * len(plan.seeds_of(arm)) for arm in plan.arms)


def num_variants(plan: Plan) -> int:
    """Over how many contrasts the intervals will be simultaneous."""
    return max(1, sum(not arm.replayed and arm.kind not in ("placebo", "repeat") for arm in plan.arms[1:]))


def detectable(plan: Plan, spread: Spread | None) -> dict[int, float]:
    """{seeds: smallest effect that so many find with a chance of 80 %}, in the metric's unit, or in residual sd without one.

    Of a study with looks: what each look finds by itself, at its level.
    """
    sd = 1.0 if spread is None else spread.sd
    levels = dict(zip(plan.looks, levels_of(plan), strict=True)) if plan.looks else {}
    seeds = sorted(levels or {*SEEDS, len(plan.seeds)})
    return {n: detectable_effect(n, num_variants(plan), sd, level=levels.get(n, LEVEL)) for n in seeds if n > 1}


def seeds_for(plan: Plan, spread: Spread) -> int | None:
    """Seeds that would decide whether there is an effect of the size that matters."""
    return seeds_to_decide(spread.sd, plan.smallest_effect, num_variants(plan))

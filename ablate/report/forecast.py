"""What a plan costs and what it can find, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablate.analysis.power import seeds_needed, smallest_detectable
from ablate.analysis.precedent import Spread
from ablate.design.plan import Plan

if TYPE_CHECKING:
    from ablate.study.forecast import Forecast

SEEDS = (3, 5, 8)


def training_steps(plan: Plan, known: Forecast) -> tuple[int, int]:
    """Optimizer steps of the plan, and those of running every arm and every cadence by itself, one by one."""
    steps = {arm.name: int(arm.derived["total_steps"]) for arm in plan.arms}
    planned = sum(steps[run.arm] for run in plan.runs if (run.arm, run.seed) not in known.shared)
    return planned - known.saved_steps, sum(steps[arm.name] * len(plan.seeds_of(arm)) for arm in plan.arms)


def detectable(plan: Plan, spread: Spread | None) -> dict[int, float]:
    """{seeds: smallest effect that so many find with a chance of 80 %}, in the metric's unit, or in sd without a spread."""
    sd = 1.0 if spread is None else spread.sd
    return {n: smallest_detectable(n, sd) for n in sorted({*SEEDS, len(plan.seeds)}) if n > 1}


def seeds_for(plan: Plan, spread: Spread) -> int | None:
    """Seeds that would decide whether there is an effect of the size that matters."""
    return seeds_needed(spread.sd, plan.smallest_effect)

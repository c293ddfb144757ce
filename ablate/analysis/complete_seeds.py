"""Values of a metric in the seeds that have one in every arm, and why there may be nothing to divide among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.results import RunReading
from ablate.controls.control import Control
from ablate.design.plan import Plan
from ablate.formatting import change, counted, joined, plain_figure
from ablate.stats.shapley import Contribution


@dataclass(frozen=True, kw_only=True, slots=True)
class CompleteSeeds:
    """values: {arm: [seeds]}. seeds: with a value in every arm. left_out: the other seeds, in words."""

    values: dict[str, NDArray[np.float64]]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]


def by_arm(readings: Sequence[RunReading], metric: str) -> dict[str, dict[int, float]]:
    """Return {arm: {seed: value}} of the runs that have a finite value."""
    known: dict[str, dict[int, float]] = {}
    for run in readings:
        value = run.values.get(metric)
        if value is not None and math.isfinite(value):
            known.setdefault(run.arm, {})[run.seed] = value
    return known


def complete_seeds(plan: Plan, arms: Sequence[str], metric: str, readings: Sequence[RunReading]) -> CompleteSeeds:
    """Collect the seeds with a value of the metric in every one of the arms."""
    known = by_arm(readings, metric)
    status = {(run.arm, run.seed): run.status for run in readings}
    without = {seed: [arm for arm in arms if seed not in known.get(arm, {})] for seed in plan.seeds}
    seeds = tuple(seed for seed, lacking in without.items() if not lacking)
    left_out = []
    for seed, lacking in without.items():
        if lacking:
            ended = [f"{arm} ({status.get((arm, seed), 'missing')})" for arm in lacking]
            left_out.append(f"seed {seed} is left out: no value in {joined(ended)}")
    values = {arm: np.asarray([known[arm][seed] for seed in seeds]) for arm in arms}
    return CompleteSeeds(values=values, seeds=seeds, left_out=tuple(left_out))


def failed_control(arms: Sequence[str], checks: Sequence[Control]) -> str:
    """Return the first failed control of these arms, in words; '' where none failed."""
    failed = next((check for check in checks if check.status == "failed" and check.arm in arms), None)
    return "" if failed is None else f"the control `{failed.name}` failed: {failed.sentence}"


def no_complete_seed(readings: Sequence[RunReading], arms: str) -> str:
    """Return why no seed is complete. arms: what has to have a value, such as `arm` or `combination`."""
    waiting = [run for run in readings if run.status in ("missing", "running", "interrupted")]
    if waiting:
        return f"no seed has finished every {arms} yet ({len(waiting)} of {counted(len(readings), 'run')} to go)"
    return f"no seed has a value in every {arms}"


def not_divisible(total: Contribution, num_seeds: int, what: str) -> str:
    """Return why the total cannot be divided; '' where it can. what: `the total difference`."""
    if num_seeds < 2:
        return "one seed has no interval: at least two are needed"
    effect = plain_figure(total.effect)
    if total.low is None or total.high is None or not total.high > total.low:
        return f"the difference is {effect} in each of {num_seeds} seeds: without spread there is no interval"
    if not_significant(total):
        return f"{what} is not significant ({change(total.effect, total.low, total.high)})"
    return ""


def not_significant(total: Contribution) -> bool:
    """Return whether the interval of the total contains 0."""
    return total.low is not None and total.high is not None and total.low <= 0 <= total.high

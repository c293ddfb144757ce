"""Noise floor: the difference between single runs of the same configuration, shown next to the effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ablate.analysis.results import Floor, FloorKind, RunReading
from ablate.controls.control import Control
from ablate.design.plan import Plan

FLOORS: Mapping[str, FloorKind] = {"placebo": "noise", "rerun": "nondeterminism"}
"""Kind of floor by the kind of the axis that measures it."""


def floors(plan: Plan, readings: Sequence[RunReading], checks: Sequence[Control]) -> tuple[Floor, ...]:
    """Return one floor per kind that the plan has finished runs of; an arm whose control failed does not count."""
    broken = {check.arm for check in checks if check.status == "failed"}
    found = []
    for axis, kind in FLOORS.items():
        arms = tuple(arm.name for arm in plan.arms if arm.kind == axis and arm.name not in broken)
        pairs = list(_pairs(plan.baseline.name, arms, readings))
        if pairs:
            found.append(_floor(kind, arms, pairs))
    return tuple(found)


def largest(floors: Iterable[Floor], metric: str) -> float | None:
    """Return the larger of the two floors of a metric; None where neither was measured."""
    return max((floor.values[metric] for floor in floors if metric in floor.values), default=None)


def _pairs(
    baseline: str, arms: Sequence[str], readings: Sequence[RunReading]
) -> Iterable[tuple[RunReading, RunReading]]:
    """The baseline's run and the arm's, of every seed that both finished."""
    finished = {(run.arm, run.seed): run for run in readings if run.status == "finished"}
    for (name, seed), run in finished.items():
        if name in arms and (baseline, seed) in finished:
            yield finished[baseline, seed], run


def _floor(kind: FloorKind, arms: tuple[str, ...], pairs: Sequence[tuple[RunReading, RunReading]]) -> Floor:
    values = {}
    for metric in dict.fromkeys(name for pair in pairs for run in pair for name in run.values):
        both = [(left.values.get(metric), right.values.get(metric)) for left, right in pairs]
        differences = np.asarray([b - a for a, b in both if a is not None and b is not None], dtype=np.float64)
        if len(differences) and np.isfinite(differences).all():
            values[metric] = float(np.sqrt(np.mean(np.square(differences))))
    return Floor(
        kind=kind,
        arms=arms,
        seeds=tuple(sorted({run.seed for _, run in pairs})),
        values=values,
        same_weights=all(left.weights_sha256 == right.weights_sha256 is not None for left, right in pairs),
    )

"""What reading verbs say, for a program: one JSON object on standard output, and nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ablate.analysis.power import EarlierSpread
from ablate.analysis.results import Adequacy, ReplayedLevel
from ablate.design.axis import Axis
from ablate.design.plan import Plan
from ablate.report.attribution import finite
from ablate.report.plan import detectable, num_variants, seeds_for, training_steps

if TYPE_CHECKING:
    from ablate.runner.cost import Forecast


def print_object(value: Mapping[str, Any]) -> None:
    """What is no number is null; what is no value of JSON is its text."""
    print(json.dumps(finite(dict(value)), indent=2, default=str, allow_nan=False))


def print_axes_json(axes: Sequence[Axis]) -> None:
    """Of `ablate axes`."""
    print_object({"axes": [asdict(axis) for axis in axes]})


def print_replays_json(study: str, levels: Iterable[ReplayedLevel], adequacy: Iterable[Adequacy]) -> None:
    """Of `ablate resample`: the levels that were asked for, or every cadence where none was."""
    print_object(
        {"study": study, "levels": [asdict(one) for one in levels], "adequacy": [asdict(one) for one in adequacy]}
    )


def print_plan_json(plan: Plan, known: Forecast, spread: EarlierSpread | None) -> None:
    """Of `ablate plan`. steps: of training that is to do, and of every arm and cadence by itself. finds: {seeds: smallest
    effect that is found with a chance of 80 %}, in residual sd where no earlier study tells the spread."""
    waiting = known.waiting(plan)
    planned, naive = training_steps(plan, known)
    print_object(
        {
            "study": plan.study,
            "question": plan.question,
            "metric": plan.metric,
            "smallest_effect": plan.smallest_effect,
            "seeds": plan.seeds,
            "looks": plan.looks,
            "digest": plan.digest,
            "arms": [_arm(plan, arm.name) for arm in plan.arms],
            "runs": {
                "to_do": [{"arm": run.arm, "seed": run.seed} for run in waiting],
                "done": _places(known.done),
                "taken": [
                    {"arm": arm, "seed": seed, "from": study} for (arm, seed), study in sorted(known.shared.items())
                ],
                "not_needed": _places(known.stopped),
            },
            "steps": {"planned": planned, "one_by_one": naive, "saved": known.saved_steps},
            "seconds": known.seconds if waiting else 0.0,
            "basis": known.basis,
            "at_once": known.at_once,
            "costs": {arm: asdict(cost) for arm, cost in known.costs.items()},
            "variants": num_variants(plan),
            "spread": asdict(spread) if spread else None,
            "finds": {str(seeds): effect for seeds, effect in detectable(plan, spread).items()},
            "seeds_needed": seeds_for(plan, spread) if spread else None,
            "notes": plan.notes,
        }
    )


def _arm(plan: Plan, name: str) -> dict[str, Any]:
    arm = plan.arm(name)
    return {
        "name": arm.name,
        "axis": arm.axis,
        "level": arm.value,
        "kind": arm.kind,
        "changes": arm.changes,
        "derived": arm.derived,
        "replayed": arm.replayed,
    }


def _places(found: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"arm": arm, "seed": seed} for arm, seed in sorted(found)]

"""Output of the commands for a program: one JSON object on standard output, and nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from ablate.analysis.power import EarlierSpread
from ablate.analysis.results import Analysis
from ablate.design.plan import Plan
from ablate.redact import redact
from ablate.report.plan import detectable, num_variants, seeds_for, training_steps

if TYPE_CHECKING:
    from ablate.runner.forecast import Forecast


def print_object(value: Any, *, sort_keys: bool = False) -> None:
    """Print a value, dataclasses by their fields. NaN and infinity become null; what JSON has no type for becomes text."""
    print(redact(json.dumps(_finite(value), indent=2, default=str, allow_nan=False, sort_keys=sort_keys)))


def _finite(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _finite(asdict(value))
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(analysis: Analysis) -> None:
    """Print the whole analysis, as in analysis.json."""
    print_object(analysis.to_json(), sort_keys=True)


def print_shares_json(analysis: Analysis) -> None:
    """Print the answer of an attribution or a mediation; null for any other study."""
    result = analysis.attribution or analysis.mediated
    value = None if result is None else {"study": analysis.study, "complete": analysis.complete, **asdict(result)}
    print_object(value)


def print_plan_json(plan: Plan, known: Forecast, spread: EarlierSpread | None) -> None:
    """Print a plan. steps: to train, and of every arm and cadence separately. finds: {seeds: minimum detectable effect at 80%
    power}, in residual sd without an earlier study."""
    waiting = known.waiting(plan)
    planned, naive = training_steps(plan, known)
    print_object(
        {
            "study": plan.study,
            "question": plan.question,
            "metric": plan.metric,
            "smallest_effect": plan.smallest_effect,
            "seeds": plan.seeds,
            "interim_seeds": plan.interim_seeds,
            "digest": plan.digest,
            "arms": [
                {key: getattr(arm, key) for key in ("name", "axis", "value", "kind", "changes", "derived", "replayed")}
                for arm in plan.arms
            ],
            "runs": {
                "to_do": [{"arm": run.arm, "seed": run.seed} for run in waiting],
                "done": _places(known.done),
                "taken": [
                    {"arm": arm, "seed": seed, "from": study} for (arm, seed), study in sorted(known.shared.items())
                ],
                "not_needed": _places(known.stopped),
            },
            "steps": {"planned": planned, "one_by_one": naive},
            "seconds": known.seconds if waiting else 0.0,
            "basis": known.basis,
            "num_parallel": known.num_parallel,
            "costs": {arm: asdict(cost) for arm, cost in known.costs.items()},
            "variants": num_variants(plan),
            "spread": asdict(spread) if spread else None,
            "finds": {str(seeds): effect for seeds, effect in detectable(plan, spread).items()},
            "seeds_needed": seeds_for(plan, spread) if spread else None,
            "notes": plan.notes,
        }
    )


def _places(found: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"arm": arm, "seed": seed} for arm, seed in sorted(found)]

"""How long a plan will take and what it will hold: from earlier runs, or from a few real steps timed just now."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablate.config import make_config
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan, Run
from ablate.errors import AblateError
from ablate.study.pace import Pace, earlier, profile
from ablate.study.prefix import Shared, sharing

IMPORT_SECONDS = 6.0
"""To import torch and transformers, once for all runs, where it was not timed."""
AROUND_SECONDS = 5.0
"""Of a study besides: to compose and plan it, and to write its report. Both measured on two CPU cores that did nothing else."""

_KEPT_BYTES, _BYTES_PER_STEP, _BYTES_PER_LOOK, _BYTES_PER_EXAMPLE = 30e3, 300.0, 1e3, 40.0
"""What a finished run leaves: its small files, a row of the trace, a look. Measured on the reference study."""

_LOOKS_PER_STEP = 3.0
"""A look at a sample is a forward pass, a third of what a step does with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one run. seconds: with its start-up and its looks. kept_bytes: what it leaves. checkpoint_bytes: what it may hold
    besides while it is going."""

    seconds: float
    startup_seconds: float
    memory_bytes: float
    kept_bytes: float
    checkpoint_bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """costs: by arm; an arm of unknown pace is missing. seconds: of all that is still to do, None while a cost is missing.

    at_once: runs at a time. basis: where the figures come from, in words.
    """

    costs: Mapping[str, Cost]
    seconds: float | None
    at_once: int
    basis: str = ""


def estimate(plan: Plan, waiting: Sequence[Run], root: Path, *, slots: int, measure: bool) -> Estimate:
    """What the runs that wait will cost. Earlier runs under `root` count where they trained alike, as many at a time.

    measure: time what no earlier run tells, once for all arms that train alike; raises AblateError where its steps fail.
    """
    at_once = max(1, min(slots, len(waiting)))
    keys = {arm.name: profile(arm.config) for arm in plan.arms if not arm.replayed}
    paces, num_earlier = earlier(root, dict.fromkeys(keys.values(), at_once))
    missing: dict[str, str] = {}
    for run in waiting:
        if keys[run.arm] not in paces:
            missing.setdefault(keys[run.arm], run.arm)
    names = list(missing.values()) if measure else []
    waited = []
    for name in names:
        paces[keys[name]], seconds = _timed(plan.arm(name), at_once)
        waited.append(seconds)
    # The first one waits for the libraries; the others find them imported.
    import_seconds = waited[0] if waited else IMPORT_SECONDS
    costs = {name: _cost(paces[key], plan.arm(name)) for name, key in keys.items() if key in paces}
    begins_late = sharing(plan) if plan.baseline.config["study"]["share_prefix"] else {}
    known = all(run.arm in costs for run in waiting)
    return Estimate(
        costs=costs,
        seconds=_whole([_rest(plan, run, costs, begins_late) for run in waiting], at_once, import_seconds)
        if known
        else None,
        at_once=at_once,
        basis=_basis(num_earlier, root, names, at_once),
    )


def obviously_below(plan: Plan, waiting: Sequence[Run], slots: int, seconds: float) -> bool:
    """Whether the runs would end sooner even at one sample per second in training and three in evaluation.

    A model of some hundred million parameters on one CPU core is slower than that; nearly everything else is not.
    """
    derived = [plan.arm(run.arm).derived for run in waiting]
    samples = [one["samples_seen"] + one["evaluations"] * one["eval_examples"] / _LOOKS_PER_STEP for one in derived]
    return math.fsum(samples) / max(1, slots) < seconds


def _timed(arm: Arm, at_once: int) -> tuple[Pace, float]:
    from ablate.study.timing import timed

    try:
        return timed(replace(make_config(arm.config), arm=arm.name), at_once=at_once)
    except AblateError as error:
        typed = " ".join(["ablate", *(f"{key}={show(value)}" for key, value in arm.changes.items())])
        raise type(error)(f"{arm.name}: {error.problem}", error.fix or f"{typed}, for its whole log") from None


def _cost(pace: Pace, arm: Arm) -> Cost:
    derived, config = arm.derived, make_config(arm.config)
    loop, kept_examples = config.loop, derived["eval_examples"] * config.observe.keep_examples
    seconds = derived["samples_seen"] / pace.train + derived["evaluations"] * derived["eval_examples"] / pace.evaluate
    moments = 1 if arm.config["optim"]["name"] == "sgd" else 2
    state = 4.0 * (pace.num_parameters + moments * pace.num_trainable)
    return Cost(
        seconds=pace.startup_seconds + seconds,
        startup_seconds=pace.startup_seconds,
        memory_bytes=pace.peak_memory_bytes,
        kept_bytes=_KEPT_BYTES
        + _BYTES_PER_STEP * derived["total_steps"]
        + _BYTES_PER_LOOK * derived["evaluations"]
        + _BYTES_PER_EXAMPLE * kept_examples,
        # A new checkpoint is complete before an old one goes.
        checkpoint_bytes=state * (loop.keep_checkpoints + 1),
    )


def _rest(plan: Plan, run: Run, costs: Mapping[str, Cost], begins_late: Mapping[str, Shared]) -> float:
    """Seconds of a run, less the steps for which it starts from its sibling's checkpoint."""
    cost, shared = costs[run.arm], begins_late.get(run.arm)
    if shared is None or shared.clips_at is not None:  # how far it is shared hangs on the first clipped step
        return cost.seconds
    left = 1 - shared.step / plan.arm(run.arm).derived["total_steps"]
    return cost.startup_seconds + (cost.seconds - cost.startup_seconds) * left


def _whole(seconds: Sequence[float], at_once: int, import_seconds: float) -> float:
    """From the command to its report: each run begins in the first place that is free, in the order of the plan."""
    free = [0.0] * at_once
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    # Importing, planning and reporting are work of one kind: where the first was timed and took longer, so do the others.
    return max(free) + import_seconds + AROUND_SECONDS * import_seconds / IMPORT_SECONDS


def _basis(num_earlier: int, root: Path, timed_arms: Sequence[str], at_once: int) -> str:
    parts = [f"{num_earlier} earlier run{'s' * (num_earlier != 1)} in {root}"] if num_earlier else []
    parts += [f"a few steps of {', '.join(timed_arms)}, timed just now"] if timed_arms else []
    return " and ".join(parts) + (f", {at_once} at a time" if parts and at_once > 1 else "")

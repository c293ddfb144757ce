"""What is known of a plan before its first run: what is done, what is free, what the rest costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ablate.design.plan import Plan, Run
from ablate.study.estimate import Cost, estimate
from ablate.study.leases import num_slots
from ablate.study.planner import Prepared
from ablate.study.prefix import saved_steps
from ablate.study.shared import shareable
from ablate.study.sweep import pending, settled
from ablate.study.until import at_most

Place = tuple[str, int]
"""(arm, seed) of a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """done: runs whose result lies there. shared: {run: the study that its result can be taken from}.
    stopped: runs that no longer come, because a look has decided their variant.
    saved_steps: of runs that start from a sibling's checkpoint. may_save_steps: further ones; the first clipped step decides.

    costs: of one run, by arm; arms without an estimate are missing. seconds: of all that is to do, None where one is missing.
    basis: where they come from. at_once: runs at a time.
    """

    done: frozenset[Place] = frozenset()
    shared: Mapping[Place, str] = field(default_factory=dict)
    saved_steps: int = 0
    may_save_steps: int = 0
    costs: Mapping[str, Cost] = field(default_factory=dict)
    seconds: float | None = None
    basis: str = ""
    at_once: int = 1
    stopped: frozenset[Place] = frozenset()

    def waiting(self, plan: Plan) -> list[Run]:
        """The runs that are still to be trained."""
        gone = {*self.done, *self.shared, *self.stopped}
        return [run for run in plan.runs if (run.arm, run.seed) not in gone]


def forecast(prepared: Prepared, *, measure: bool) -> Forecast:
    """Everything that can be known before the first run. measure: time a few steps where no earlier run tells the pace.

    Raises StudyError where the folder holds another study, AblateError where the timed steps fail.
    """
    folder, settings = prepared.folder, prepared.plan.baseline.config["study"]
    plan = settled(prepared.plan, folder, accept_code_change=settings["accept_code_change"])
    every = {(run.arm, run.seed) for run in plan.runs}
    plan = at_most(folder, plan)
    undone = pending(plan, folder)
    done = {(run.arm, run.seed) for run in plan.runs} - {(run.arm, run.seed) for run in undone}
    shared = {place: found.study for place, found in shareable(plan, folder, undone).items()}
    saved, may_save = saved_steps(plan)
    known = Forecast(
        done=frozenset(done),
        shared=shared,
        saved_steps=saved,
        may_save_steps=may_save,
        stopped=frozenset(every - {(run.arm, run.seed) for run in plan.runs}),
    )
    slots = num_slots(settings["workers"], settings["slots_per_gpu"])
    expected = estimate(plan, known.waiting(plan), folder.parent, slots=slots, measure=measure)
    return replace(
        known,
        costs=expected.costs,
        seconds=expected.seconds,
        basis=expected.basis,
        at_once=expected.at_once,
    )

"""A study that takes long is asked about before it starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ablate.errors import AblateError, StudyError
from ablate.study.estimate import estimate, obviously_below
from ablate.study.leases import num_slots
from ablate.study.planner import Prepared
from ablate.study.shared import shareable
from ablate.study.sweep import pending, settled
from ablate.study.until import at_most


@dataclass(frozen=True, kw_only=True, slots=True)
class Long:
    """A study that is expected to take longer than the limit."""

    study: str
    num_runs: int
    at_once: int
    hours: float
    limit: float
    has_looks: bool = False

    @property
    def sentence(self) -> str:
        runs = f"{self.num_runs} run{'s' * (self.num_runs != 1)} to do, {self.at_once} at a time"
        most = "at most " if self.has_looks else ""
        return (
            f"{self.study} takes {most}about {self.hours:.1f} hours ({runs}), "
            f"and study.confirm_hours={self.limit:g} asks before more than that"
        )

    def refusal(self) -> StudyError:
        """Where nobody can be asked."""
        larger = math.ceil(self.hours * 1.1)
        return StudyError(
            f"{self.sentence}; there is no terminal to ask on, and nothing was started",
            f"study.confirm_hours={larger}, or study.confirm_hours=null never to be asked",
        )


def longer_than_allowed(prepared: Prepared, *, local: bool) -> Long | None:
    """What must be asked about before the study starts; None where it is short, or where nobody knows.

    local: the runs go on this machine, so that a few steps can be timed here. They are not where no earlier run tells, but the
    study is obviously small.
    """
    folder, settings = prepared.folder, prepared.plan.baseline.config["study"]
    limit = settings["confirm_hours"]
    if limit is None:
        return None
    plan = settled(prepared.plan, folder, accept_code_change=settings["accept_code_change"])
    plan = at_most(folder, plan)
    waiting = pending(plan, folder)
    free = shareable(plan, folder, waiting)
    waiting = [run for run in waiting if (run.arm, run.seed) not in free]
    slots = num_slots(settings["workers"], settings["slots_per_gpu"])
    if not waiting or obviously_below(plan, waiting, slots, 3600 * limit):
        return None
    try:
        expected = estimate(plan, waiting, folder.parent, slots=slots, measure=local)
    except AblateError:
        return None  # its first steps fail: the run itself says so, at once and with its log
    if expected.seconds is None or expected.seconds <= 3600 * limit:
        return None
    hours = expected.seconds / 3600
    return Long(
        study=plan.study,
        num_runs=len(waiting),
        at_once=expected.at_once,
        hours=hours,
        limit=limit,
        has_looks=bool(plan.looks),
    )

"""A study that adds seeds until its variants are decided: to the next look, look, and on with those that are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ablate.design.looks import Course, course
from ablate.design.plan import Plan
from ablate.errors import StudyError
from ablate.record.looks import Look, read_looks, write_look
from ablate.record.rundir import StudyDir
from ablate.study.claims import Claims
from ablate.study.lent import status

MakeLook = Callable[[Path], Look]
"""What the analysis finds at the next look of a study folder. It is handed in, because running knows no statistics."""


def course_in(folder: Path, plan: Plan) -> Course | None:
    """How far the study has come; None for one whose number of seeds is fixed. Raises RecordError for a broken look."""
    if not plan.looks:
        return None
    return course(plan, read_looks(folder, plan.looks, plan.digest))


def at_most(folder: Path, plan: Plan) -> Plan:
    """The plan less the runs that no longer come, because their variant is decided."""
    found = course_in(folder, plan)
    return plan if found is None else found.at_most(plan)


def stages(
    plan: Plan, folder: Path, claims: Claims, make: MakeLook | None, undone: Callable[[Plan], list[object]]
) -> Iterator[Plan]:
    """The runs of a study, part by part; between two parts a look is made, by whichever process comes first.

    undone: the runs of a part that have no result. A look waits for all of them: a run that failed is no chance that a look
    could do without, and ends the study here until it is tried again.
    """
    while True:
        now = course_in(folder, plan)
        if now is None:
            yield plan
            return
        part = now.due(plan)
        yield part
        if now.over:
            return
        if missing := undone(part):
            print(f"the look at {now.next} seeds waits for {_waiting(folder, part, len(missing))}", flush=True)
            return
        if make is None:
            raise StudyError(f"{folder} has looks, and nobody who looks", "ablate -m ..., which does")
        with claims.alone(f"look.{folder.name}"):
            after = course_in(folder, plan)
            if after is not None and after.made == now.made:
                write_look(folder, make(folder))
        for look in read_looks(folder, plan.looks, plan.digest)[now.made :]:
            print(said(look, plan), flush=True)


def said(look: Look, plan: Plan) -> str:
    """One line per look, when it is made."""
    stopped = [f"{arm} stops ({verdict})" for arm, verdict in look["stops"].items()]
    going = [str(arm) for arm in look["goes_on"]]
    last = look["seeds"] == plan.looks[-1]
    rest = [f"{', '.join(going)} {'undecided' if last else 'goes on' if len(going) == 1 else 'go on'}"] if going else []
    return f"look at {look['seeds']} seeds: {'; '.join([*stopped, *rest])}"


def _waiting(folder: Path, part: Plan, missing: int) -> str:
    failed = [
        f"{run.arm}/seed={run.seed}" for run in part.runs if status(StudyDir(folder).run(run.arm, run.seed)) == "failed"
    ]
    runs = f"{missing} run{'s' * (missing != 1)}"
    return f"{runs}; failed: {', '.join(failed)} (ablate retry {folder})" if failed else runs

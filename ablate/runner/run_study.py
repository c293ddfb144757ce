"""A frozen plan and its runs: what lies there already, and what is still to do. Knows no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import Any

from ablate.config.flatten import changed
from ablate.design.axis import show
from ablate.design.interim import Course, course
from ablate.design.plan import Plan, Run
from ablate.design.plan_file import free_name, read_plan, write_plan
from ablate.errors import RecordError, StudyError
from ablate.hashing import digest_of
from ablate.planning.planner import Prepared
from ablate.records.interim import InterimResult, read_interims, write_interim
from ablate.records.layout import StudyDir
from ablate.records.metadata import read_manifest
from ablate.runner.failures import disk_full, is_disk_full
from ablate.runner.locks import Claims
from ablate.runner.reuse import differs_in_code_alone, has_result, is_kept, said, take_all, with_code_accepted
from ablate.runner.shared_prefix import status, tidy
from ablate.runner.stop import forget_stop

# A study that adds seeds until its variants are decided: to the next look, look, and on with those that are
# not.

MakeLook = Callable[[Path], InterimResult]
"""What the analysis finds at the next look of a study folder. It is handed in, because running knows no statistics."""


def course_in(folder: Path, plan: Plan) -> Course | None:
    """How far the study has come; None for one whose number of seeds is fixed. Raises RecordError for a broken look."""
    if not plan.interim_seeds:
        return None
    return course(plan, read_interims(folder, plan.interim_seeds, plan.digest))


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
                write_interim(folder, make(folder))
        for look in read_interims(folder, plan.interim_seeds, plan.digest)[now.made :]:
            print(look_sentence(look, plan), flush=True)


def look_sentence(look: InterimResult, plan: Plan) -> str:
    """One line per look, when it is made."""
    stopped = [f"{arm} stops ({verdict})" for arm, verdict in look["stops"].items()]
    going = [str(arm) for arm in look["goes_on"]]
    last = look["seeds"] == plan.interim_seeds[-1]
    rest = [f"{', '.join(going)} {'undecided' if last else 'goes on' if len(going) == 1 else 'go on'}"] if going else []
    return f"look at {look['seeds']} seeds: {'; '.join([*stopped, *rest])}"


def _waiting(folder: Path, part: Plan, missing: int) -> str:
    failed = [
        f"{run.arm}/seed={run.seed}" for run in part.runs if status(StudyDir(folder).run(run.arm, run.seed)) == "failed"
    ]
    runs = f"{missing} run{'s' * (missing != 1)}"
    return f"{runs}; failed: {', '.join(failed)} (ablate retry {folder})" if failed else runs


Launch = Callable[[Sequence[Sequence[str]], int], Any]
"""Hydra's `Launcher.launch`: the overrides of every job, and the number of the first one."""

_OPEN = "open"


def freeze(plan: Plan, folder: Path, *, accept_code_change: bool = False) -> Plan:
    """Write plan.json before the first run, unless this very plan lies there. Returns it, with the code it has accepted.

    Raises StudyError naming what differs first, RecordError when the folder cannot be written. Leaves nothing then.
    """
    check_writable(folder)
    now = settled(plan, folder, accept_code_change=accept_code_change)
    path = StudyDir(folder).plan
    if not path.exists() or (read_plan(folder).digest, read_plan(folder).accepted) != (now.digest, now.accepted):
        write_plan(now, folder)
    return now


def settled(plan: Plan, folder: Path, *, accept_code_change: bool = False) -> Plan:
    """The plan as it stands in its folder, or will. Raises StudyError when another study's runs lie there, or runs of this one
    by other code that nobody has accepted."""
    study = StudyDir(folder)
    if not study.plan.exists():
        return plan
    before = read_plan(folder)
    instead = f"study.name={free_name(folder)}"
    if before.digest == plan.digest or differs_in_code_alone(before, plan):
        return with_code_accepted(before, plan, folder, accept=accept_code_change, instead=instead)
    if next(study.runs(), None) is not None or _is_being_run(folder):
        more = (
            "; seeds are not added once a result was seen, but by a rule that was declared before: study.stopping=sequential"
            if len(before.seeds) != len(plan.seeds) and not (before.interim_seeds or plan.interim_seeds)
            else ""
        )
        raise StudyError(
            f"{folder} holds another study: {_first_difference(before, plan)}",
            f"{instead} for a new one beside it, or remove {folder}{more}",
        )
    return plan


def _is_being_run(folder: Path) -> bool:
    """Whether a process works on the study; its first moments leave nothing in the folders of its runs."""
    claims = Claims(folder.parent)
    names = [path.name for path in claims.folder.glob(f"{_OPEN}.{escape(folder.name)}.*")]
    return any(claims.holder(name) is not None for name in names)


def check_writable(folder: Path) -> None:
    """Raises RecordError when `folder` cannot be made or written, before anything is made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise RecordError(f"{folder} cannot be made: {place} is a file", "study.output_dir=<a folder>")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RecordError(
            f"{folder} cannot be written: no permission to write in {place}", "study.output_dir=<a folder>"
        )


def _first_difference(before: Plan, now: Plan) -> str:
    if (before.interim_seeds, before.alpha_spending) != (now.interim_seeds, now.alpha_spending):
        looks = [", ".join(map(str, one.interim_seeds)) for one in (before, now)]
        sides = [
            f"at {when} seeds ({one.alpha_spending})" if when else "once, at the end,"
            for when, one in zip(looks, (before, now), strict=True)
        ]
        return f"it is looked at {sides[0]} there and {sides[1].removesuffix(',')} now"
    for name, key in (
        ("study.seeds", "seeds"),
        ("study.metric", "metric"),
        ("study.smallest_effect", "smallest_effect"),
    ):
        left, right = getattr(before, key), getattr(now, key)
        if left != right:
            left, right = (len(left), len(right)) if key == "seeds" else (left, right)
            return f"{name} is {left} there and {right} now"
    for key, (left, right) in changed(
        before.counted()["arms"][0]["config"], now.counted()["arms"][0]["config"]
    ).items():
        return f"the baseline's {key} is {show(left)} there and {show(right)} now"
    names = ([arm.name for arm in before.arms], [arm.name for arm in now.arms])
    if names[0] != names[1]:
        return f"its arms are {', '.join(names[0])} there and {', '.join(names[1])} now"
    for one, other in zip(before.arms, now.arms, strict=True):
        for what, left, right in (
            ("the data", one.data, other.data),
            ("the files of the model", one.model, other.model),
        ):
            if left != right:
                digests = f"digest {left[:12] or 'none'} there, {right[:12] or 'none'} now"
                return f"{what} of {one.name} are not those that it was planned with ({digests})"
    where = next(key for key, value in before.counted().items() if digest_of(value) != digest_of(now.counted()[key]))
    return f"`{where}` of its plan.json is not what is asked now"


def pending(plan: Plan, folder: Path) -> list[Run]:
    """The runs that are still to do; finished and diverged ones of equal digest are kept."""
    return [run for run in plan.runs if not is_done(plan, folder, run)]


def is_done(plan: Plan, folder: Path, run: Run) -> bool:
    """Whether the run's result lies there, of the same config and data, by the same code or by code that was accepted."""
    place = StudyDir(folder).run(run.arm, run.seed)
    return has_result(place) and place.manifest.exists() and is_kept(plan, run, read_manifest(place))


def run_study(prepared: Prepared, launch: Launch, look: MakeLook | None = None) -> Path:
    """Freeze the plan and launch what is still to do. Several processes may run one study. Returns its folder.

    look: what the analysis finds, for a study that adds seeds until its variants are decided.
    """
    folder, study = prepared.folder, prepared.plan.baseline.config["study"]
    check_writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder) from None
        raise RecordError(f"{folder} cannot be made: {error.strerror}", "study.output_dir=<a folder>") from None
    with Claims(folder.parent) as claims:
        with claims.alone(f"plan.{folder.name}"):
            forget_stop(folder)
            plan = freeze(prepared.plan, folder, accept_code_change=study["accept_code_change"])
            # Until the last run has ended the plan stays as it is.
            claims.forget_dead(f"{_OPEN}.*")
            claims.take(f"{_OPEN}.{folder.name}.{token_hex(4)}")
        for part in stages(plan, folder, claims, look, lambda part: list(pending(part, folder))):
            with claims.alone(f"plan.{folder.name}"):
                taken = take_all(plan, folder, pending(part, folder))
            if taken:
                print(f"{len(taken)} of {len(part.runs)} runs are taken from {said(taken.values())}", flush=True)
            waiting = pending(part, folder)
            if waiting:
                launch([prepared.job(run) for run in waiting], 0)
                tidy(StudyDir(folder), part, part.seeds)
        for run in plan.runs:  # an orphan may have finished what its killed study had taken
            claims.forget_dead(run.digest)
    return folder

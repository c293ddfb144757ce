"""`ablate retry`: runs that are to be done again, and the command with which their study goes on."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from ablate.design.plan import Plan, Run
from ablate.design.plan_file import read_plan
from ablate.errors import RecordError, StudyError, nearest
from ablate.planning.compose import override_text
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import RunStatus, read_status, write_value
from ablate.redact import HIDDEN
from ablate.runner.locks import Claims
from ablate.runner.reuse import forget
from ablate.runner.run_study import at_most

_ASKED = RunStatus(
    status="interrupted", reason="retry", message="it had ended, and `ablate retry` asked for it once more"
)


def again(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(names of the runs that will be done again, arguments for `ablate`).

    names: `<arm>` or `<arm>/seed=<n>`; none: the failed ones. A failed run goes on from its checkpoint if it has one; a run
    that was named begins anew, also where it had finished.
    Raises StudyError for a name that the plan does not have, and for a run that is going.
    """
    plan = at_most(folder, read_plan(folder))
    arguments = _arguments(plan, folder)
    if not names:
        return [_name(run) for run in plan.runs if _has_failed(StudyDir(folder).run(run.arm, run.seed))], arguments
    chosen = list(dict.fromkeys(run for typed in names for run in _named(plan, folder, typed)))
    with Claims(folder.parent) as claims:
        for run in chosen:
            if claims.take(run.digest) is None:
                owner = claims.holder(run.digest)
                where = f" by process {owner.pid} on {owner.host}" if owner else ""
                raise StudyError(f"{_name(run)} is being run{where}", f"ablate stop {folder}, and then again")
        for run in chosen:
            _undo(StudyDir(folder).run(run.arm, run.seed), run, folder.parent)
    return [_name(run) for run in chosen], arguments


def _arguments(plan: Plan, folder: Path) -> list[str]:
    """The study's own command, bound to the folder that it lies in now."""
    program, *typed = shlex.split(plan.command) or [""]
    if program != "ablate":
        raise StudyError(
            f"{folder} was made by {program or 'another program'}", f"type its command again: {plan.command}"
        )
    if "_target_" in plan.command:  # a plan that came from elsewhere must not choose what this machine executes
        raise StudyError(
            f"the command of {folder} names code to run: {plan.command}", "type it yourself, if you trust it"
        )
    if HIDDEN in plan.command:
        raise StudyError(
            f"the command of {folder} held a secret of the environment, which is not kept", "type that command again"
        )
    if safe_name(plan.study) != folder.resolve().name:
        raise StudyError(
            f"{folder} holds the study {plan.study!r}, which belongs in a folder called {safe_name(plan.study)}",
            f"mv {folder} {folder.resolve().with_name(safe_name(plan.study))}",
        )
    return [*typed, override_text("study.output_dir", str(folder.parent)), override_text("study.name", plan.study)]


def _named(plan: Plan, folder: Path, typed: str) -> list[Run]:
    """The runs of an arm, or the one of an arm and a seed."""
    found = [run for run in plan.runs if typed in (run.arm, _name(run))]
    if found:
        return found
    if any(arm.name == typed and arm.replayed for arm in plan.arms):
        raise StudyError(f"{typed} has no runs of its own: it is read from the baseline's record", plan.baseline.name)
    known = [arm.name for arm in plan.arms if not arm.replayed] + ([_name(run) for run in plan.runs] * ("/" in typed))
    raise StudyError(f"{folder} has no run {typed!r}", nearest(typed, known))


def _undo(place: RunDir, run: Run, root: Path) -> None:
    """Nothing of it counts any more: not its result, not its checkpoint, and not that another study has the same."""
    forget(root, run.digest)
    shutil.rmtree(place.checkpoint, ignore_errors=True)
    if place.status.exists() and not _has_failed(place):
        write_value(place, _ASKED)


def _has_failed(place: RunDir) -> bool:
    try:
        outcome = read_status(place)
    except (RecordError, TypeError):
        return True
    return outcome is not None and outcome.status == "failed"


def _name(run: Run) -> str:
    return f"{run.arm}/seed={run.seed}"

"""`ablate retry`: choose the runs to repeat, and the command that continues their study."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from ablate.design.plan import Plan, Run, read_plan
from ablate.errors import StudyError, nearest
from ablate.planning.compose import override_text
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import RunStatus, write_value
from ablate.redact import HIDDEN
from ablate.runner.locks import Locks
from ablate.runner.reuse import forget, stored_status
from ablate.runner.run_study import at_most

_RETRIED = RunStatus(status="interrupted", reason="retry", message="repeated by `ablate retry`")
_FAILED = ("failed", "unreadable")


def again(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the runs that will be repeated, and the arguments for `ablate`.

    names: `<arm>` or `<arm>/seed=<n>`; empty: the failed runs. A failed run continues from its checkpoint if it has one; a run
    that was named begins again, also where it had finished.
    Raises StudyError for a name that the plan does not have, and for a run that is running.
    """
    plan = at_most(folder, read_plan(folder))
    arguments = _arguments(plan, folder)
    if not names:
        return [
            run.name for run in plan.runs if stored_status(StudyDir(folder).run(run.arm, run.seed)) in _FAILED
        ], arguments
    chosen = list(dict.fromkeys(run for name in names for run in _named(plan, folder, name)))
    with Locks(folder.parent) as locks:
        for run in chosen:
            if locks.acquire(run.digest) is None:
                owner = locks.holder(run.digest)
                where = f" by process {owner.pid} on {owner.host}" if owner else ""
                raise StudyError(f"{run.name} is being run{where}", f"ablate stop {folder}, and then again")
        for run in chosen:
            _undo(StudyDir(folder).run(run.arm, run.seed), run, folder.parent)
    return [run.name for run in chosen], arguments


def _arguments(plan: Plan, folder: Path) -> list[str]:
    """Return the study's own command, bound to its present directory."""
    program, *arguments = shlex.split(plan.command) or [""]
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
            f"the command of {folder} held a secret of the environment, which is not stored", "type that command again"
        )
    if safe_name(plan.study) != folder.resolve().name:
        raise StudyError(
            f"{folder} holds the study {plan.study!r}, which belongs in a folder called {safe_name(plan.study)}",
            f"mv {folder} {folder.resolve().with_name(safe_name(plan.study))}",
        )
    return [*arguments, override_text("study.output_dir", str(folder.parent)), override_text("study.name", plan.study)]


def _named(plan: Plan, folder: Path, name: str) -> list[Run]:
    """Return the runs of an arm, or the one of an arm and a seed."""
    matching = [run for run in plan.runs if name in (run.arm, run.name)]
    if matching:
        return matching
    if any(arm.name == name and arm.replayed for arm in plan.arms):
        raise StudyError(
            f"{name} has no runs of its own: it is read from the record of the baseline", plan.baseline.name
        )
    known = [arm.name for arm in plan.arms if not arm.replayed] + ([run.name for run in plan.runs] * ("/" in name))
    raise StudyError(f"{folder} has no run {name!r}", nearest(name, known))


def _undo(run_dir: RunDir, run: Run, root: Path) -> None:
    """Discard a run: its result, its checkpoint, and that other studies can reuse it."""
    forget(root, run.digest)
    shutil.rmtree(run_dir.checkpoint, ignore_errors=True)
    if run_dir.status.exists() and stored_status(run_dir) not in _FAILED:
        write_value(run_dir, _RETRIED)

"""`ablate status`, `ablate stop` and `ablate retry`: a study read from its run directories and locks. Starts nothing."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ablate.design.plan import Plan, Run, read_plan
from ablate.errors import RecordError, StudyError, nearest
from ablate.metrics.eval_metrics import is_target
from ablate.planning.compose import override_text
from ablate.records.interim import read_interims
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Manifest, RunStatus, read_manifest, write_value
from ablate.redact import HIDDEN
from ablate.runner.freeze import is_done
from ablate.runner.locks import Locks, Owner
from ablate.runner.progress import RunProgress, read_progress, seconds_left
from ablate.runner.reuse import forget, stored, stored_status
from ablate.runner.run_study import at_most
from ablate.runner.stop import request_stop, stop_request

State = Literal["done", "running", "failed", "interrupted", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "waiting")

_RETRIED = RunStatus(status="interrupted", reason="retry", message="repeated by `ablate retry`")
_FAILED = ("failed", "unreadable")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """State of one run of the plan. What is unknown, or has no meaning in its state, keeps its default."""

    arm: str
    seed: int
    state: State
    step: int = 0
    """Optimizer steps on record, of `total_steps`."""
    total_steps: int = 0
    samples_per_second: float = 0.0
    seconds_left: float | None = None
    host: str = ""
    pid: int = 0
    """Process that runs it, and its host."""
    reason: str = ""
    sentence: str = ""
    tries: int = 0
    """Number of earlier tries without a result."""

    @property
    def name(self) -> str:
        return f"{self.arm}/seed={self.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyState:
    """State of a study. For a sequential study, runs and time are upper bounds."""

    study: str
    folder: str
    runs: list[RunState] = field(default_factory=list)
    seconds_left: float | None = None
    """With as many runs at a time as now, or one where none is running. None: no run has ended yet."""
    stopping: bool = False
    """Whether `ablate stop` was called."""
    command: str = ""
    """Command that continues the study."""
    interim: list[dict[str, Any]] = field(default_factory=list)
    """Interim analyses of a sequential study, [{seeds, made, stops: {variant: verdict}}]."""
    spending: str = ""
    """How the interim analyses divide the error rate."""

    def count(self, state: State, arm: str | None = None) -> int:
        return sum(run.state == state and arm in (None, run.arm) for run in self.runs)

    def counts(self) -> dict[str, dict[State, int]]:
        """Return the number of runs by arm and state."""
        arms = dict.fromkeys(run.arm for run in self.runs)
        return {arm: {state: self.count(state, arm) for state in STATES} for arm in arms}


def study_state(folder: Path) -> StudyState:
    """Return the state of a study. Raises StudyError for a directory without a plan."""
    plan, locks = read_plan(folder), Locks(folder.parent)
    made = {look["seeds"]: look["stops"] for look in read_interims(folder, plan.interim_seeds, plan.digest)}
    plan = at_most(folder, plan)
    order = {arm.name: number for number, arm in enumerate(plan.arms)}
    wanted = sorted(plan.runs, key=lambda run: (order[run.arm], run.seed))
    runs, took, going = [], list[float](), list[tuple[float, RunProgress | None]]()
    for run in wanted:
        run_dir = StudyDir(folder).run(run.arm, run.seed)
        manifest = _manifest(run_dir)
        progress = read_progress(run_dir, _since_epoch(manifest.started)) if manifest and manifest.started else None
        runs.append(_run_state(plan, folder, run, run_dir, manifest, locks.holder(run.digest), progress))
        if runs[-1].state == "running":
            going.append((0.0, progress))
        if runs[-1].state == "done" and manifest is not None and manifest.ended and manifest.shared_from is None:
            took.append(_since_epoch(manifest.ended) - _since_epoch(manifest.started))
    waiting = sum(run.state in ("waiting", "interrupted") for run in runs)
    return StudyState(
        study=plan.study,
        folder=str(folder),
        runs=runs,
        seconds_left=seconds_left(took, going, waiting, len(going)) if going or waiting else 0.0,
        stopping=stop_request(folder) is not None,
        command=plan.command,
        interim=[{"seeds": n, "made": n in made, "stops": made.get(n, {})} for n in plan.interim_seeds],
        spending=plan.alpha_spending,
    )


def holders(folder: Path) -> list[Owner]:
    """Return the processes that run something of a study directory now, one entry per run."""
    study = StudyDir(folder)
    if study.plan.exists():
        digests = [run.digest for run in read_plan(folder).runs]
    else:
        digests = [manifest.digest for run_dir in study.runs() if (manifest := _manifest(run_dir)) is not None]
    locks = Locks(folder.parent)
    found = (locks.holder(digest) for digest in dict.fromkeys(digests) if digest)
    return [owner for owner in found if owner is not None]


def stop(folder: Path, *, after_current: bool) -> str:
    """Request the stop; return a sentence about what will happen. Raises StudyError for a directory without runs."""
    study = StudyDir(folder)
    if not study.plan.exists() and next(study.runs(), None) is None:
        raise StudyError(f"{folder} is not a study directory: it has no {study.plan.name}", "ablate stop runs/<study>")
    request_stop(folder, after_current=after_current)
    going = Counter((owner.host, owner.pid) for owner in holders(folder))
    if not going:
        return "no process runs it now; what is still in the queue of a cluster will not start"
    where = ", ".join(f"{count} by process {pid} on {host}" for (host, pid), count in sorted(going.items()))
    what = "end before the study stops" if after_current else "save and end at their next step"
    return f"stop requested; its running runs ({where}) {what}, and the same command goes on later"


def retry(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the runs that will be repeated, and the arguments for `ablate`.

    names: `<arm>` or `<arm>/seed=<n>`; empty: the failed runs. A failed run continues from its checkpoint if it has one; a run
    that was named begins again, also where it had finished.
    Raises StudyError for a name that the plan does not have, for a run that is running, and for a command that must be typed,
    because it was read from the folder and does more than set plain keys; the named runs are then made again by that command.
    """
    plan = at_most(folder, read_plan(folder))
    _check_name(plan, folder)
    if not names:
        return [
            run.name for run in plan.runs if stored_status(StudyDir(folder).run(run.arm, run.seed)) in _FAILED
        ], _arguments(plan, folder)
    chosen = list(dict.fromkeys(run for name in names for run in _named(plan, folder, name)))
    with Locks(folder.parent) as locks:
        for run in chosen:
            if locks.acquire(run.digest) is None:
                owner = locks.holder(run.digest)
                where = f" by process {owner.pid} on {owner.host}" if owner else ""
                raise StudyError(f"{run.name} is being run{where}", f"ablate stop {folder}, and then again")
        for run in chosen:
            _undo(StudyDir(folder).run(run.arm, run.seed), run, folder.parent)
    return [run.name for run in chosen], _arguments(plan, folder)


def _run_state(
    plan: Plan,
    folder: Path,
    run: Run,
    run_dir: RunDir,
    manifest: Manifest | None,
    owner: Owner | None,
    progress: RunProgress | None,
) -> RunState:
    named: dict[str, Any] = {"arm": run.arm, "seed": run.seed, "tries": len(manifest.attempts) if manifest else 0}
    outcome, _, problem = stored(run_dir)
    if is_done(plan, folder, run):
        return RunState(state="done", sentence=outcome.message if outcome else "", **named)
    if problem:
        return RunState(state="waiting", reason="unreadable", sentence=f"will be made again: {problem}", **named)
    if progress is not None:
        named |= {"step": progress.step, "total_steps": progress.total_steps}
    if owner is not None:
        pace = (progress.samples_per_second, progress.seconds_left) if progress is not None else (0.0, None)
        named |= {"host": owner.host, "pid": owner.pid, "samples_per_second": pace[0], "seconds_left": pace[1]}
        return RunState(state="running", **named)
    if outcome is not None and outcome.status == "failed":
        named |= {"step": outcome.step}
        return RunState(state="failed", reason=outcome.reason, sentence=outcome.message, **named)
    if outcome is not None and outcome.status == "interrupted" and outcome.reason != _RETRIED.reason:
        return RunState(state="interrupted", reason=outcome.reason, sentence=outcome.message, **named)
    if outcome is None and manifest is not None:
        return RunState(
            state="interrupted", reason="killed", sentence="its process was killed and left no outcome", **named
        )
    return RunState(state="waiting", **named)


def _manifest(run_dir: RunDir) -> Manifest | None:
    try:
        return read_manifest(run_dir)
    except (RecordError, TypeError):
        return None


def _since_epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


_SET_BY_RETRY = ("data", "debug", "eval", "model", "optim", "random_streams", "record", "study", "train")
"""Groups of keys that set plain values. Not among them: `task`, whose entry point is code; `tracker`, which sends; `hydra`."""

_CHOSEN_BY_RETRY = (*_SET_BY_RETRY, "axis", "task")
"""Groups of which a command from a folder may choose a file of ours, by its name."""

_OPTIONS = ("--group", "--full-factorial-up-to", "--permutations", "--through")
"""Options of `ablate attribute` and `ablate mediate`, each with a value."""


def _check_name(plan: Plan, folder: Path) -> None:
    if safe_name(plan.study) != folder.resolve().name:
        raise StudyError(
            f"{folder} holds the study {plan.study!r}, which belongs in a folder called {safe_name(plan.study)}",
            f"mv {folder} {folder.resolve().with_name(safe_name(plan.study))}",
        )


def _arguments(plan: Plan, folder: Path) -> list[str]:
    """Return the study's own command, bound to its present directory."""
    try:
        program, *arguments = shlex.split(plan.command) or [""]
    except ValueError:
        program, arguments = plan.command, []
    if program != "ablate":
        raise StudyError(
            f"{folder} was made by {program or 'another program'}", f"type its command again: {plan.command}"
        )
    if HIDDEN in plan.command:
        raise StudyError(
            f"the command of {folder} held a secret of the environment, which is not stored", "type that command again"
        )
    if (odd := _first_untyped(arguments)) is not None:  # a plan that came from elsewhere must not choose what runs here
        what = "names code to run" if "_target_" in plan.command else f"does more than set plain keys, by {odd!r}"
        raise StudyError(
            f"the command of {folder} {what}: {plan.command}", f"type it yourself, if you trust it: {plan.command}"
        )
    return [*arguments, override_text("study.output_dir", str(folder.parent)), override_text("study.name", plan.study)]


def _first_untyped(arguments: Sequence[str]) -> str | None:
    """Return the first argument that a user must type, None where all set plain keys of ours."""
    verb, rest = (arguments[0], arguments[1:]) if arguments[:1] in (["attribute"], ["mediate"]) else ("", arguments)
    expected = False
    for text in rest:
        if expected:
            expected = False
            allowed = re.fullmatch(r"[\w.,=+-]+", text) is not None
        elif verb and text in _OPTIONS:
            expected = allowed = True
        elif verb == "attribute" and "=" not in text.partition(" ")[0]:
            allowed = not text.strip()  # a file that holds a config is not one to read
        else:
            words = shlex.split(text) if verb == "attribute" else [text]
            allowed = text in ("-m", "--multirun") or all(map(_is_plain_override, words))
        if not allowed:
            return text
    return None


def _is_plain_override(text: str) -> bool:
    key, equals, value = text.partition("=")
    group, _, name = key.partition(".")
    if not equals or "$" in value or "_target_" in text or not re.fullmatch(r"\w+(\.\w+)*", key):
        return False
    if not name:
        return (group in _CHOSEN_BY_RETRY and re.fullmatch(r"[\w,+-]*", value) is not None) or group == "seed"
    if key == "study.metric":
        return ":" not in value or is_target(value)
    if key == "study.axes":
        return re.fullmatch(r"[\w,+\[\] -]*", value) is not None
    return group in _SET_BY_RETRY or key == "tracker.log_every"


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
    run_dir.check_own()
    forget(root, run.digest)
    shutil.rmtree(run_dir.checkpoint, ignore_errors=True)
    if run_dir.status.exists() and stored_status(run_dir) not in _FAILED:
        write_value(run_dir, _RETRIED)

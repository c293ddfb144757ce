"""How far a study is, read from what its runs have left on disk and who holds their claims. Starts nothing, loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from ablate.design.plan import Plan, Run
from ablate.design.plan_file import read_plan
from ablate.errors import RecordError
from ablate.records.interim import read_interims
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, read_manifest, read_status
from ablate.runner.locks import Claims, Owner
from ablate.runner.run_study import at_most, is_done
from ablate.runner.stop import stop_request
from ablate.serialization import read_json

State = Literal["done", "running", "failed", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "failed", "waiting")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """One run of the plan. What is not known, or has no meaning in its state, keeps its default.

    step: of total_steps, optimizer steps that are on record. host, pid: of the process that has the run. tries: how often it
    was begun before and came to no result.
    """

    arm: str
    seed: int
    state: State
    step: int = 0
    total_steps: int = 0
    samples_per_second: float = 0.0
    seconds_left: float | None = None
    host: str = ""
    pid: int = 0
    reason: str = ""
    sentence: str = ""
    tries: int = 0

    @property
    def name(self) -> str:
        return f"{self.arm}/seed={self.seed}"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyState:
    """seconds_left: as many runs at a time as now; of one at a time where none is running. None: nothing has ended yet.

    stopping: whether `ablate stop` has asked for its end. command: with which it goes on. looks: of a study that adds seeds
    until its variants are decided, [{seeds, made, stops: {variant: verdict}}], and how they share the error rate; its runs and
    the time are then the most that may come.
    """

    study: str
    folder: str
    runs: list[RunState] = field(default_factory=list)
    seconds_left: float | None = None
    stopping: bool = False
    command: str = ""
    looks: list[dict[str, Any]] = field(default_factory=list)
    spending: str = ""

    def count(self, state: State, arm: str | None = None) -> int:
        return sum(run.state == state and arm in (None, run.arm) for run in self.runs)

    def counts(self) -> dict[str, dict[State, int]]:
        """By arm and state."""
        arms = dict.fromkeys(run.arm for run in self.runs)
        return {arm: {state: self.count(state, arm) for state in STATES} for arm in arms}


def study_state(folder: Path) -> StudyState:
    """Raises StudyError for a folder that holds no study."""
    plan, claims = read_plan(folder), Claims(folder.parent)
    made = {look["seeds"]: look["stops"] for look in read_interims(folder, plan.interim_seeds, plan.digest)}
    plan = at_most(folder, plan)
    order = {arm.name: number for number, arm in enumerate(plan.arms)}
    wanted = sorted(plan.runs, key=lambda run: (order[run.arm], run.seed))
    runs, took = [], []
    for run in wanted:
        place = StudyDir(folder).run(run.arm, run.seed)
        manifest = _manifest(place)
        runs.append(_run_state(plan, folder, run, place, manifest, claims.holder(run.digest)))
        if runs[-1].state == "done" and manifest is not None and manifest.ended and manifest.shared_from is None:
            took.append(_seconds_between(manifest.started, manifest.ended))
    return StudyState(
        study=plan.study,
        folder=str(folder),
        runs=runs,
        seconds_left=_seconds_left(runs, took),
        stopping=stop_request(folder) is not None,
        command=plan.command,
        looks=[{"seeds": n, "made": n in made, "stops": made.get(n, {})} for n in plan.interim_seeds],
        spending=plan.alpha_spending,
    )


def holders(folder: Path) -> list[Owner]:
    """The processes that have runs of a study, or of the runs of their own in this folder, at the moment; one entry per run."""
    study = StudyDir(folder)
    if study.plan.exists():
        digests = [run.digest for run in read_plan(folder).runs]
    else:
        digests = [manifest.digest for place in study.runs() if (manifest := _manifest(place)) is not None]
    claims = Claims(folder.parent)
    found = (claims.holder(digest) for digest in dict.fromkeys(digests) if digest)
    return [owner for owner in found if owner is not None]


def _run_state(
    plan: Plan, folder: Path, run: Run, place: RunDir, manifest: Manifest | None, owner: Owner | None
) -> RunState:
    named: dict[str, Any] = {"arm": run.arm, "seed": run.seed}
    if manifest is not None:
        named["tries"] = len(manifest.attempts)
    try:
        if is_done(plan, folder, run):
            outcome = read_status(place)
            return RunState(state="done", sentence=outcome.message if outcome else "", **named)
        outcome = read_status(place)
    except (RecordError, TypeError) as error:
        return RunState(state="waiting", reason="unreadable", sentence=f"is made again: {error}", **named)
    if owner is not None:
        return RunState(
            state="running", host=owner.host, pid=owner.pid, **named, **_progress(place, manifest, current=True)
        )
    if outcome is not None and outcome.status == "failed":
        return RunState(state="failed", step=outcome.step, reason=outcome.reason, sentence=outcome.message, **named)
    return RunState(state="waiting", **named, **_progress(place, manifest, current=False))


def _progress(place: RunDir, manifest: Manifest | None, *, current: bool) -> dict[str, Any]:
    """current: only of the session that is going on now."""
    try:
        said = read_json(place.progress)
        if manifest is None or (current and said["updated"] < manifest.started):
            return {}
        before = said["sessions"][-1]["first_step"] - 1
        share = (said["step"] - before) / max(said["total_steps"] - before, 1)
        left = _seconds_between(manifest.started, said["updated"]) * (1 - share) / share if share > 0.05 else None
        known = {"step": said["step"], "total_steps": said["total_steps"]}
        return known | ({"samples_per_second": said["samples_per_second"], "seconds_left": left} if current else {})
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _seconds_left(runs: Sequence[RunState], took: Sequence[float]) -> float | None:
    running = [run for run in runs if run.state == "running"]
    waiting = sum(run.state == "waiting" for run in runs)
    if not (running or waiting):
        return 0.0
    whole = [
        run.seconds_left * run.total_steps / max(run.total_steps - run.step, 1) for run in running if run.seconds_left
    ]
    if not (took or whole):
        return None
    each = mean(took or whole)
    rest = sum(each if run.seconds_left is None else run.seconds_left for run in running) + waiting * each
    return rest / max(len(running), 1)


def _manifest(place: RunDir) -> Manifest | None:
    try:
        return read_manifest(place)
    except (RecordError, TypeError):
        return None


def _seconds_between(earlier: str, later: str) -> float:
    return max(0.0, (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds())

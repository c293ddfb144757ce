"""The record of a run of an external app: what ran, what it printed, and what it returned or why it failed."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ablate.design.plan import Plan, Run, read_plan
from ablate.errors import AblateError, ConfigError, StudyError
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, RunStatus, git_state, now, versions, write_value
from ablate.records.returned_values import (
    BARE,
    FIX,
    all_finite,
    choose_metric,
    numbers_of,
    read_returned,
    write_returned,
)
from ablate.runner.jobs import planned_job
from ablate.runner.launch import lock_or_outcome
from ablate.runner.locks import Locks
from ablate.runner.log_capture import captured
from ablate.runner.reuse import stored
from ablate.serialization import write_text

_PACKAGES = ("hydra-core", "torch", "numpy", "torch-ablate")

UNUSABLE = "no number returned"
"""Reason of a run whose main returned nothing that can be compared: no other run would do better."""


def record_run(folder: Path, main: Callable[[], Any]) -> RunStatus:
    """Run `main` in this process and leave its record, output included. A failure is an outcome; Ctrl-C is raised."""
    plan, run = _planned(folder)
    job = planned_job(plan, folder.parents[1], run)
    with Locks(folder.parents[2]) as locks:
        lock = lock_or_outcome(locks, job)
        if isinstance(lock, RunStatus):
            return lock
        record = RunRecord.begin(folder)
        with captured(record.run.log):
            try:
                return record.end(main())
            except KeyboardInterrupt as error:
                record.end(None, error)
                raise
            except SystemExit as error:
                return record.end(None, StudyError(f"the app ended itself: exit {error.code}"))
            except Exception as error:
                traceback.print_exc()
                return record.end(None, error)


def check_returned(plan: Plan, run: RunDir) -> None:
    """Raise ConfigError where a run shows that no other run would do better.

    Its main returned nothing that can be compared, or no value of the metric's name.
    """
    outcome, _, _ = stored(run)
    if outcome is not None and outcome.reason == UNUSABLE:
        raise ConfigError(f"{run.path.parent.name}/{run.path.name}: {outcome.message}", FIX)
    returned = read_returned(run)
    if returned:
        choose_metric(plan.metric, list(returned))


def outcome_or_lost(run: RunDir, reason: str | None) -> RunStatus:
    """Return the outcome of a run that ended; one without an outcome is recorded as failed, with the launcher's reason."""
    outcome, _, _ = stored(run)
    if outcome is None:
        outcome = RunStatus(status="failed", reason="lost", message=reason or f"left no outcome; see {run.log}")
        run.path.mkdir(parents=True, exist_ok=True)
        write_value(run, outcome)
    return outcome


def _planned(folder: Path) -> tuple[Plan, Run]:
    """Return the plan and the run that a run directory belongs to. Raises StudyError where there is none."""
    study = StudyDir(folder.parents[1])
    plan = read_plan(folder.parents[1])
    run = next((run for run in plan.runs if study.run(run.arm, run.seed).path == folder), None)
    if run is None:
        raise StudyError(f"{folder} is not a run of the plan in {folder.parents[1]}")
    return plan, run


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of one run of a frozen plan, written in the process of the run."""

    run: RunDir
    plan: Plan
    planned: Run
    started: str

    @classmethod
    def begin(cls, folder: Path) -> RunRecord:
        """Write config and manifest, and remove what an earlier try left. Raises StudyError for a directory of no plan."""
        (plan, planned), run = _planned(folder), RunDir(folder)
        run.check_own()
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (run.status, run.returned, run.trace, run.evals, run.predictions, run.fingerprint, run.progress):
            stale.unlink(missing_ok=True)
        record = cls(run, plan, planned, now())
        record._write(ended=None)
        return record

    def end(self, returned: Any, error: BaseException | None = None) -> RunStatus:
        """Write what main returned, or why it failed. What a Recorder in the app has recorded is kept."""
        recorded, _, _ = stored(self.run)
        outcome = self._outcome(returned, error)
        if recorded is not None:
            outcome = replace(recorded, status=outcome.status, reason=outcome.reason, message=outcome.message)
        self._write(ended=now())
        write_value(self.run, outcome)
        return outcome

    def _outcome(self, returned: Any, error: BaseException | None) -> RunStatus:
        if isinstance(error, KeyboardInterrupt):
            return RunStatus(status="interrupted", reason="SIGINT", message="interrupted")
        if error is not None:
            sentence = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            return RunStatus(status="failed", reason=type(error).__name__, message=sentence)
        try:
            values = numbers_of(returned)
        except StudyError as unusable:
            return RunStatus(status="failed", reason=UNUSABLE, message=unusable.problem)
        write_returned(self.run, values)
        sentence = "returned " + ", ".join(
            f"{name} {value:g}" if name != BARE else f"{value:g}" for name, value in values.items()
        )
        if not all_finite(values) and not (self.plan.metric and all_finite({"": values.get(self.plan.metric, 0.0)})):
            return RunStatus(status="diverged", reason="not finite", message=sentence)
        return RunStatus(status="finished", reason="returned", message=sentence)

    def _write(self, *, ended: str | None) -> None:
        arm = self.plan.arm(self.planned.arm)
        assert self.plan.app is not None
        text = yaml.safe_dump(_with(arm.config, self.plan.app.seed_key, self.planned.seed), sort_keys=False)
        write_text(self.run.config, text, hide=True)  # at the end again: a Recorder in the app has written its own
        write_value(self.run, Manifest(
            arm=arm.name, seed=self.planned.seed, overrides=arm.changes, digest=self.planned.digest,
            request=self.planned.request, code_digest=self.plan.code_digest, code=self.plan.code, git=git_state(),
            versions=versions(_PACKAGES), started=self.started, ended=ended,
        ))  # fmt: skip


def _with(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {**config, head: _with(config.get(head, {}), rest, value) if rest else value}

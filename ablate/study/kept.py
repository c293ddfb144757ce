"""The record of a run of an app that is not ours: what it was, what it printed, what it returned or why it did not."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ablate.design.plan import Plan, Run
from ablate.errors import AblateError, StudyError
from ablate.record.provenance import git_state, now, versions
from ablate.record.returned import BARE, all_finite, numbers_of, write_returned
from ablate.record.rundir import RunDir, StudyDir, write_text
from ablate.record.values import Manifest, Outcome, read_outcome, write_value
from ablate.study.capture import captured
from ablate.study.foreign import read_app_plan

_PACKAGES = ("hydra-core", "torch", "numpy", "torch-ablate")


@dataclass(frozen=True, slots=True)
class Kept:
    """One run of a frozen plan, by its folder: the process that it runs in need not know more."""

    run: RunDir
    plan: Plan
    planned: Run
    started: str

    @classmethod
    def begin(cls, folder: Path) -> Kept:
        """Write config and manifest, and remove what an earlier try left. Raises StudyError for a folder of no plan."""
        plan, run = read_app_plan(folder.parents[1]), RunDir(folder)
        study = StudyDir(folder.parents[1])
        planned = next((one for one in plan.runs if study.run(one.arm, one.seed).path == folder), None)
        if planned is None:
            raise StudyError(f"{folder} is no run of the plan in {folder.parents[1]}")
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (run.outcome, run.returned, run.trace, run.evals, run.predictions, run.fingerprint, run.progress):
            stale.unlink(missing_ok=True)
        kept = cls(run, plan, planned, now())
        kept._write(ended=None)
        return kept

    def end(self, returned: Any, error: BaseException | None = None) -> Outcome:
        """Write what main returned, or that it did not. What a Recorder in the app has said of the run is kept."""
        recorded = read_outcome(self.run)
        outcome = self._outcome(returned, error)
        if recorded is not None:
            outcome = replace(recorded, status=outcome.status, reason=outcome.reason, sentence=outcome.sentence)
        self._write(ended=now())
        write_value(self.run, outcome)
        return outcome

    def _outcome(self, returned: Any, error: BaseException | None) -> Outcome:
        if isinstance(error, KeyboardInterrupt):
            return Outcome(status="interrupted", reason="SIGINT", sentence="interrupted")
        if error is not None:
            said = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            return Outcome(status="failed", reason=type(error).__name__, sentence=said)
        try:
            values = numbers_of(returned)
        except StudyError as unusable:
            return Outcome(status="failed", reason=UNUSABLE, sentence=unusable.problem)
        write_returned(self.run, values)
        said = "returned " + ", ".join(
            f"{name} {value:g}" if name != BARE else f"{value:g}" for name, value in values.items()
        )
        if not all_finite(values) and not (self.plan.metric and all_finite({"": values.get(self.plan.metric, 0.0)})):
            return Outcome(status="diverged", reason="not finite", sentence=said)
        return Outcome(status="finished", reason="returned", sentence=said)

    def _write(self, *, ended: str | None) -> None:
        arm = self.plan.arm(self.planned.arm)
        assert self.plan.app is not None
        text = yaml.safe_dump(_with(arm.config, self.plan.app["seed_key"], self.planned.seed), sort_keys=False)
        write_text(self.run.config, text, hide=True)  # at the end again: a Recorder in the app has written its own
        write_value(self.run, Manifest(
            arm=arm.name, seed=self.planned.seed, overrides=arm.changes, digest=self.planned.digest,
            request=self.planned.request, code_digest=self.plan.code_digest, code=self.plan.code, git=git_state(),
            versions=versions(_PACKAGES), started=self.started, ended=ended,
        ))  # fmt: skip


UNUSABLE = "no number returned"
"""Reason of the outcome of a run whose main returned nothing that can be compared: no other run would do better."""


def keep(folder: Path, main: Callable[[], Any]) -> Outcome:
    """Run `main` in this process and leave its record, output included. A failure is an outcome; Ctrl-C goes on."""
    kept = Kept.begin(folder)
    with captured(kept.run.log):
        try:
            return kept.end(main())
        except KeyboardInterrupt as error:
            kept.end(None, error)
            raise
        except SystemExit as error:
            return kept.end(None, StudyError(f"the app ended itself: exit {error.code}"))
        except Exception as error:
            traceback.print_exc()
            return kept.end(None, error)


def _with(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {**config, head: _with(config.get(head, {}), rest, value) if rest else value}

"""The runs of a study on an app that is not ours, as they end: said, checked at once, and nobody else at the same study."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ablate.design.plan import Run
from ablate.errors import ConfigError, StudyError
from ablate.record.returned import FIX, choose_metric, read_returned
from ablate.record.values import Outcome, read_outcome, write_value
from ablate.study.foreign import AppStudy, freeze_app, is_done
from ablate.study.kept import UNUSABLE
from ablate.study.sweep import check_writable

Launched = Callable[[Sequence[Run]], Iterable[tuple[Run, str | None]]]
"""Runs them, and gives each as it ends, with why it was lost where it has left no outcome."""


def sweep_app(study: AppStudy, launch: Launched) -> Path:
    """Freeze the plan and run what is missing. Returns the study's folder.

    Raises ConfigError as soon as a run shows that no other would do better: main returns nothing that can be compared, or
    not the metric that was asked for.
    """
    check_writable(study.folder)
    study.folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(study.folder):
        freeze_app(study)
        waiting = [run for run in study.plan.runs if not is_done(study, run)]
        total, done = len(study.plan.runs), len(study.plan.runs) - len(waiting)
        print(f"{study.plan.study}  {total} runs, {done} done; {_what_counts(study)}", flush=True)
        for run in study.plan.runs:
            if run not in waiting:
                _check(study, run)
        for run, lost in launch(waiting) if waiting else ():
            outcome = _outcome(study, run, lost)
            done += outcome.status in ("finished", "diverged")
            print(f"{outcome.status:<11} {run.arm}/seed={run.seed}  {outcome.sentence}  ({done}/{total})", flush=True)
            _check(study, run)
    return study.folder


def _what_counts(study: AppStudy) -> str:
    plan = study.plan
    return f"compared: {plan.metric or 'what main returns'}; smallest effect that matters {plan.smallest_effect:g}"


def _outcome(study: AppStudy, run: Run, lost: str | None) -> Outcome:
    place = study.place(run)
    outcome = read_outcome(place)
    if outcome is None:
        outcome = Outcome(status="failed", reason="lost", sentence=lost or f"left no outcome; see {place.log}")
        place.path.mkdir(parents=True, exist_ok=True)
        write_value(place, outcome)
    return outcome


def _check(study: AppStudy, run: Run) -> None:
    place = study.place(run)
    outcome = read_outcome(place)
    if outcome is not None and outcome.reason == UNUSABLE:
        raise ConfigError(f"{run.arm}/seed={run.seed}: {outcome.sentence}", FIX)
    returned = read_returned(place)
    if returned:
        choose_metric(study.plan.metric, list(returned))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with it, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(
                f"{folder} is being run by another process", "wait for it, or hydra.sweeper.name=<another>"
            ) from None
        yield
    finally:
        os.close(handle)

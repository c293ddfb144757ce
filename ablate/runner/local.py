"""Runs on this machine: the jobs of a study, or one run of its own (`ablate key=value ...`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ablate.config.schema import TrackerConfig, make_config
from ablate.errors import StudyError
from ablate.records.metadata import RunStatus, read_manifest, read_status
from ablate.runner.freeze import check_writable
from ablate.runner.jobs import Job, composed_job
from ablate.runner.reuse import has_result, holds_result, what_changed
from ablate.runner.scheduler import run_all
from ablate.runner.stop import forget_stop
from ablate.tracking import notice

if TYPE_CHECKING:
    from ablate.planning.compose import Composer


def launch_local(jobs: Sequence[Job], title: str, already_done: int) -> list[RunStatus]:
    """Run the jobs of one study, each in a fresh process, as many simultaneously as `study.workers` says."""
    config = make_config(jobs[0].config)
    _print_notice(config.tracker)
    return run_all(jobs, config.study, title=title, already_done=already_done)


def run_single(composer: Composer, overrides: Sequence[str]) -> tuple[Job, RunStatus, bool]:
    """Make one run of its own. The last value tells whether it was made now or existed already.

    Raises DataError or ModelError before a directory is made, and StudyError where the result of another run is stored.
    """
    job = composed_job(composer, overrides)
    run = job.run
    check_writable(job.folder)
    if holds_result(run, job.digest):
        outcome = read_status(run)
        assert outcome is not None
        return job, outcome, False
    config = make_config(job.config)
    earlier = read_manifest(run) if run.manifest.exists() else None
    if earlier is not None and earlier.request != job.planned.request:
        raise StudyError(
            f"{job.folder} holds a run of another config or of other data",
            f"study.name=<another>, or remove {job.folder}",
        )
    if earlier is not None and has_result(run):
        if config.study.accept_code_change and (outcome := read_status(run)) is not None:
            return job, outcome, False
        raise StudyError(
            f"{job.folder} was made by other code: {', '.join(what_changed(earlier, job.planned.code))}",
            f"--accept-code-change keeps it; or study.name=<another>, or remove {job.folder}",
        )
    _print_notice(config.tracker)
    forget_stop(job.folder.parents[1])
    return job, run_all([job], replace(config.study, workers=1, fail_fast=False))[0], True


def _print_notice(tracker: TrackerConfig) -> None:
    """Say here that runs are not tracked: what a run prints goes to its own log."""
    if line := notice(tracker):
        print(line, flush=True)

"""Start runs: the jobs of a study or a single run in fresh processes, and a run in a process that a cluster has started.

Slurm and Ray start their processes on other machines; a run there has the same threads, log, locks and stop requests as here.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.schema import TrackerConfig, make_config
from ablate.design.plan import read_plan
from ablate.errors import RecordError, StudyError
from ablate.records.layout import StudyDir
from ablate.records.metadata import RunStatus, read_status
from ablate.runner.freeze import check_writable
from ablate.runner.jobs import Job, composed_job, planned_job
from ablate.runner.locks import Lock, Locks
from ablate.runner.log_capture import captured
from ablate.runner.processes import leases
from ablate.runner.reuse import has_result, holds_result, stored, what_changed
from ablate.runner.scheduler import run_all, stored_result
from ablate.runner.stop import forget_stop, stop_request
from ablate.tracking import notice
from ablate.training.stop import stop_on_signals

if TYPE_CHECKING:
    from ablate.planning.compose import Composer

_WARNING_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals with which a cluster tells a handler of its own that the job's time is nearly over."""

_POLL_SECONDS = 2.0


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
    _, earlier, _ = stored(run)
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


def run_planned(
    study: Path, arm: str, seed: int, *, launched_from: Path, tracker: Mapping[str, Any] | None = None
) -> RunStatus:
    """Make one run of a frozen plan in this process, for launchers that start their own processes.

    study: its directory, relative to `launched_from`, the directory in which the study was started. tracker: of the run's own
    config; None takes the plan's, without passwords.
    Raises RecordError where this machine does not share the study directory.
    """
    with working_in(launched_from):
        if not (path := StudyDir(study).plan).exists():
            raise RecordError(
                f"{path.absolute()} does not exist on {socket.gethostname()}",
                "study.output_dir=<a folder that all machines share>",
            )
        plan = read_plan(study)
        run = next((run for run in plan.runs if (run.arm, run.seed) == (arm, seed)), None)
        if run is None:
            raise StudyError(f"the plan in {study} has no run {arm}, seed {seed}")
        job = planned_job(plan, study, run)
        return run_here(job if tracker is None else replace(job, config={**job.config, "tracker": dict(tracker)}))


def run_here(job: Job) -> RunStatus:
    """Make one run in this process. An existing result is kept."""
    from ablate.runner.worker import execute

    study = job.folder.parents[1]
    job.run.check_own()
    with Locks(study.parent) as locks:
        lock = lock_or_outcome(locks, job)
        if isinstance(lock, RunStatus):
            return lock
        with as_local_run(job.run.log) as stop:
            return execute(
                make_config(job.config),
                job.run,
                changes=job.changes,
                digest=job.digest,
                planned=job.planned,
                stop=_StopReasons(stop, locks, lock, study),
            )


def lock_or_outcome(locks: Locks, job: Job) -> Lock | RunStatus:
    """Lock a run once no other process runs it; return the outcome instead where nothing is left to do."""
    while True:
        if stop_request(job.folder.parents[1]) is not None:
            return RunStatus(status="interrupted", reason="stop", message="not started: `ablate stop` asked for it")
        if (lock := locks.acquire(job.digest)) is not None:
            outcome = stored_result(job)
            return lock if outcome is None else outcome
        time.sleep(_POLL_SECONDS)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in the directory in which the study was started. Raises RecordError where this machine has no such directory."""
    before = Path.cwd()
    try:
        os.chdir(folder)
    except OSError as error:
        raise RecordError(
            f"{folder}, where the study was started, is not on {socket.gethostname()}: {error.strerror or error}",
            "start it in a folder that all machines of the engine share",
        ) from None
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def as_local_run(log: Path) -> Iterator[Callable[[], str | None]]:
    """Give a run the threads and the log of a local run. Yields a function that returns why the run has to stop, or None.

    The cluster's warning ends the run at its next step, with a checkpoint. Only then does the cluster's own handler receive
    it: the handler raises, exits or queues the job again, and must not do so in the middle of a step.
    """
    import torch

    log.parent.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(leases(None)[0].num_threads)  # how a sum is split decides how it rounds
    try:
        with _delayed_warning() as stop, captured(log):
            yield stop
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _delayed_warning() -> Iterator[Callable[[], str | None]]:
    numbers = [number for number in _WARNING_SIGNALS if callable(signal.getsignal(number))]
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    with stop_on_signals(*numbers) as caught:
        yield caught
        name = caught()
    if name is not None:
        signal.raise_signal(signal.Signals[name])


class _StopReasons:
    """Why a run in a cluster job has to stop early: the cluster, `ablate stop`, or another process that took the run over."""

    def __init__(self, cluster: Callable[[], str | None], locks: Locks, lock: Lock, study: Path) -> None:
        self._cluster, self._locks, self._lock, self._study = cluster, locks, lock, study
        self._next_poll = 0.0

    def __call__(self) -> str | None:
        if (reason := self._cluster()) is not None:
            return reason
        if self._locks.is_lost(self._lock):
            return "another process has taken this run over"
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + _POLL_SECONDS
            request = stop_request(self._study)
            if request is not None and not request.after_current:
                return "`ablate stop` asked for it"
        return None

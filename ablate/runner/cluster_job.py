"""A run in a process that a cluster launcher started: same threads, log, locks and stop requests as a local run.

Slurm and Ray start these processes on other machines, so a run arrives here as overrides and is composed again.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.config.schema import make_config
from ablate.errors import RecordError
from ablate.records.layout import StudyDir
from ablate.records.metadata import RunStatus
from ablate.runner.devices import leases
from ablate.runner.jobs import Job, composed_job
from ablate.runner.locks import Lock, Locks
from ablate.runner.log_capture import captured
from ablate.runner.scheduler import stored_result
from ablate.runner.stop import stop_request
from ablate.training.stop import stop_on_signals

if TYPE_CHECKING:
    from ablate.planning.compose import Composer

_WARNING_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals with which a cluster tells a handler of its own that the job's time is nearly over."""

_POLL_SECONDS = 2.0


def run_here(composer: Composer, overrides: Sequence[str], *, launched_from: Path | None = None) -> RunStatus:
    """Make one run in this process, for launchers that start their own processes. An existing result is kept.

    launched_from: the directory in which the study was started; relative paths are relative to it.
    Raises RecordError where this machine does not share the study directory.
    """
    from ablate.runner.worker import execute

    with working_in(launched_from):
        job = composed_job(composer, overrides)
        study = job.folder.parents[1]
        if launched_from is not None and not (plan := StudyDir(study).plan).exists():
            raise RecordError(
                f"{plan.absolute()} does not exist on {socket.gethostname()}",
                "study.output_dir=<a folder that all machines share>",
            )
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
def working_in(folder: Path | None) -> Iterator[None]:
    """Work in the directory in which the study was started; None: stay in the current one.

    Raises RecordError where this machine has no such directory.
    """
    if folder is None:
        yield
        return
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

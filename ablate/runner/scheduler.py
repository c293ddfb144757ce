"""Run jobs simultaneously on this machine, sharing them with other processes that work on the same study."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ablate.config.schema import StudyConfig
from ablate.errors import RecordError
from ablate.records.metadata import RESULTS, RunStatus, read_status, write_value
from ablate.runner import failures
from ablate.runner.jobs import Job
from ablate.runner.locks import Lock, Locks, started_at
from ablate.runner.processes import (
    DUMP_SIGNAL,
    LOST_EXIT,
    CommandProcess,
    Lease,
    end_orphans,
    leases,
    server,
    server_is_lost,
    server_pid,
    start,
)
from ablate.runner.progress import LiveView, plain_or_live
from ablate.runner.reuse import copy_run, find_equal, holds_result, stored
from ablate.runner.stop import StudyStopped, interrupts, stop_request

_PASS_SECONDS = 0.5
_ELSEWHERE_SECONDS = 1.0
"""How often to check whether a run that another process has locked is done, or its process gone."""
_PAUSE_SECONDS = 10.0
"""Wait before a retry after a fault of the network or of a device."""
_DUMP_SECONDS, _GRACE_SECONDS = 1.0, 15.0
"""Time of a run that hangs from the dump of its stacks to SIGTERM, and from there to SIGKILL."""


def run_all(
    jobs: Sequence[Job],
    study: StudyConfig,
    *,
    title: str = "",
    already_done: int = 0,
    on_end: Callable[[Job, RunStatus], None] | None = None,
) -> list[RunStatus]:
    """Run every job that no other process runs; return the outcomes in the order of `jobs` when all have one.

    on_end: called after each run that ended here or elsewhere. An exception that it raises ends the running runs.

    A run that raises, exits, hangs or is killed is recorded as `failed` and the rest goes on, unless `study.fail_fast`. After
    a fault that may be temporary it is retried, `study.retries` times. A run that another process has locked is waited for,
    and taken over when that process is gone. An interrupt (Ctrl-C, SIGTERM) is passed on to the running runs, which then end
    at their next step. Then KeyboardInterrupt is raised, StudyStopped after `ablate stop`, DiskFullError where no disk space
    is left.
    """
    if not jobs:
        return []
    folder = jobs[0].folder.parents[1]
    with (
        plain_or_live(title, len(jobs) + already_done, already_done) as view,
        interrupts() as caught,
        Locks(folder.parent) as locks,
    ):
        scheduler = _Scheduler(jobs, study, folder, locks, view, caught, on_end)
        try:
            scheduler.work()
        finally:
            scheduler.kill_all()
    if caught:
        raise KeyboardInterrupt
    if scheduler.disk_is_full:
        raise failures.disk_full(folder)
    if scheduler.was_stopped:
        raise StudyStopped("stopped by `ablate stop`")
    return [scheduler.outcomes[job.folder] for job in jobs if job.folder in scheduler.outcomes]


def stored_result(job: Job) -> RunStatus | None:
    """Return the result of a run, from its own directory or reused from another study under the same root.

    The caller must hold the lock of the run.
    """
    run = job.run
    if not holds_result(run, job.digest):
        if job.external:
            return None
        there = find_equal(job.folder.parents[2], job.digest, device=job.config["train"]["device"])
        if there is None or there.run.path == run.path:
            return None
        copy_run(there, run, job.config, job.changes)
    return read_status(run)


@dataclass(slots=True, kw_only=True)
class _Running:
    """A run in its process."""

    job: Job
    process: BaseProcess | CommandProcess
    lease: Lease
    lock: Lock
    began: str
    """When its process did, as `locks.started_at` tells: its pid may be another's after the server of the runs was lost."""
    server: int = 0
    """Process that forked it."""
    is_lost: bool = False
    """Whether the server that forked it is gone."""
    shared_gpu: bool = False
    """Whether another run was on its GPU."""
    is_ending: bool = False
    """Whether it was signalled to end because the study failures."""
    signs: tuple[_Mark, ...] = ()
    """Of the files that it last wrote."""
    silent_seconds: float = 0.0
    """Time for which `signs` have been the same."""
    hung_at: float | None = None
    is_terminated: bool = False
    """Whether it was signalled to end because it hangs."""


@dataclass
class _Scheduler:
    """State of `run_all`. Its jobs move from waiting to running, maybe back for another try, and to an outcome."""

    jobs: Sequence[Job]
    study: StudyConfig
    folder: Path
    locks: Locks
    view: LiveView
    interrupts: Sequence[int]
    on_end: Callable[[Job, RunStatus], None] | None
    outcomes: dict[Path, RunStatus] = field(default_factory=dict)
    disk_is_full: bool = False
    was_stopped: bool = False

    def __post_init__(self) -> None:
        self._context = server()
        devices = {job.config.get("train", {}).get("device", "auto") for job in self.jobs}
        device = devices.pop() if len(devices) == 1 else "auto"
        self._free = leases(self.study.workers, self.study.runs_per_gpu, device)
        self._alone = set[Path]()
        """Runs that ran out of memory while others used their GPU: they are tried once more with the GPU to themselves."""
        self._waiting = list(self.jobs)
        self._before = {job.folder: _mark(job.run.status) for job in self.jobs}
        """Of the outcomes that were stored before."""
        self._tries, self._retry_at = Counter[Path](), dict[Path, float]()
        self._running: list[_Running] = []
        self._checked_elsewhere = self._watched = 0.0
        self._only_elsewhere = False
        self._oom_kills = failures.oom_kills()

    def work(self) -> None:
        """Run until nothing is left to do, here and elsewhere."""
        while self._waiting or self._running:
            with self._disk_space():
                self._start_what_can()
            for running in self._ended():
                with self._disk_space():
                    self._close(running)
            self._oom_kills = failures.oom_kills()
            self._watch()
            self._obey()
            self.view.refresh()

    def kill_all(self) -> None:
        """Kill what still runs, which is only after an error of our own. A lock is released when its run has ended."""
        for running in self._running:
            running.process.kill()
        for running in self._running:
            running.process.join()

    # ---- starting ------------------------------------------------------------------------------------------------

    def _start_what_can(self) -> None:
        now = time.monotonic()
        if not self._free or (self._only_elsewhere and now - self._checked_elsewhere < _ELSEWHERE_SECONDS):
            return
        self._checked_elsewhere = now
        elsewhere = 0
        for job in list(self._waiting):
            if not self._free:
                break
            if self._retry_at.get(job.folder, now) > now or self._lease_for(job) is None:
                continue
            lock = self.locks.acquire(job.digest)
            if lock is None:
                elsewhere += not any(running.job.digest == job.digest for running in self._running)
                continue
            self._waiting.remove(job)
            outcome = self._result_elsewhere(job)
            if outcome is None:
                self._start(job, lock)
            else:
                self.locks.release(lock)
                self._finish(job, outcome)
        self.view.elsewhere, self._only_elsewhere = elsewhere, elsewhere == len(self._waiting)

    def _result_elsewhere(self, job: Job) -> RunStatus | None:
        """Return the outcome that another process has stored since this one began, be it a result or a failure."""
        outcome = stored_result(job)
        if outcome is not None or _mark(job.run.status) == self._before[job.folder]:
            return outcome
        outcome, _, _ = stored(job.run)
        return outcome if outcome is not None and outcome.status == "failed" else None

    def _lease_for(self, job: Job) -> Lease | None:
        """Return the first free lease that a run can have, be it that it needs a GPU alone or that another one does."""
        taken = {
            running.lease.gpu
            for running in self._running
            if job.folder in self._alone or running.job.folder in self._alone
        }
        return next((lease for lease in self._free if lease.gpu is None or lease.gpu not in taken), None)

    def _start(self, job: Job, lock: Lock) -> None:
        self._before[job.folder] = _mark(job.run.status)
        lease = self._lease_for(job)
        assert lease is not None
        self._free.remove(lease)
        try:
            process = start(self._context, job, lease, lock)
        except OSError:
            self.locks.release(lock)
            self._free.append(lease)
            raise
        began = (started_at(process.pid) if process.pid is not None else None) or ""
        beside = [running for running in self._running if lease.gpu is not None and running.lease.gpu == lease.gpu]
        for running in beside:
            running.shared_gpu = True
        self._running.append(
            _Running(
                job=job,
                process=process,
                lease=lease,
                lock=lock,
                began=began,
                server=server_pid(),
                shared_gpu=bool(beside),
            )
        )
        self.view.started(job.name, job.run)

    # ---- ending --------------------------------------------------------------------------------------------------

    def _ended(self) -> list[_Running]:
        """Return the runs whose process has ended; waits a moment for the first one."""
        wait([running.process.sentinel for running in self._running], timeout=_PASS_SECONDS)
        ended = [running for running in self._running if not running.process.is_alive()]
        lost = [running for running in ended if server_is_lost(running.process, running.server)]
        for running in lost:
            running.is_lost = True
        if lost:
            pids = {running.process.pid: running.began for running in lost if running.process.pid is not None}
            end_orphans(pids, grace=_GRACE_SECONDS)
        return ended

    def _close(self, running: _Running) -> None:
        """Record how a run ended, and retry it where that may help."""
        job = running.job
        self._running.remove(running)
        self._free.append(running.lease)
        if running.process.exitcode == LOST_EXIT or self.locks.is_lost(running.lock):
            self._waiting.append(job)  # the process that has it now records how it ended
            self.view.lost(job.name)
            return
        outcome = self._outcome_of(running)
        self.locks.release(running.lock)
        self._tries[job.folder] += 1
        tries, ending = self._tries[job.folder], running.is_ending or self._is_ending()
        if tries <= self.study.retries and not ending and failures.is_temporary(outcome):
            pause = _PAUSE_SECONDS if outcome.reason in (failures.NETWORK, failures.DEVICE) else 0.0
            self._retry_at[job.folder] = time.monotonic() + pause
            self._before[job.folder] = _mark(job.run.status)
            self._waiting.insert(0, job)
            self.view.again(job.name, outcome, f"try {tries + 1} of {self.study.retries + 1}")
            return
        out_of_memory = outcome.status == "failed" and outcome.reason == failures.OUT_OF_MEMORY
        if out_of_memory and running.shared_gpu and not ending and job.folder not in self._alone:
            self._alone.add(job.folder)
            self._before[job.folder] = _mark(job.run.status)
            self._waiting.insert(0, job)
            self.view.again(job.name, outcome, "once more, with its GPU to itself")
            return
        self._finish(job, outcome)
        if outcome.reason == failures.DISK_FULL:
            self._stop_disk_full()
        elif outcome.status == "failed" and self.study.fail_fast:
            self._waiting.clear()

    def _finish(self, job: Job, outcome: RunStatus) -> None:
        self.outcomes[job.folder] = outcome
        self.view.ended(job.name, outcome)
        if self.on_end is not None:
            self.on_end(job, outcome)

    def _outcome_of(self, running: _Running) -> RunStatus:
        """Return the outcome that the run wrote, or else what its exit code tells."""
        run = running.job.run
        written = None
        if _mark(run.status) != self._before[running.job.folder]:
            with suppress(RecordError):
                written = read_status(run)
        if running.is_lost and (written is None or written.status not in RESULTS):
            lost = failures.server_lost(oom_killed=failures.oom_kills() > self._oom_kills)
            outcome = replace(written or lost, status=lost.status, reason=lost.reason, message=lost.message)
        elif running.hung_at is not None and (written is None or written.status in ("failed", "interrupted")):
            message = (
                f"no sign of life for {self.study.hang_timeout_minutes:g} minutes (study.hang_timeout_minutes): "
                "the run was ended; log.txt has the stacks of where it hung"
            )
            outcome = replace(
                written or RunStatus(status="failed"), status="failed", reason=failures.HANG, message=message
            )
        elif written is not None:
            return written
        else:
            code = running.process.exitcode or 0
            reason, sentence = failures.how(code, running.job.config, oom_killed=failures.oom_kills() > self._oom_kills)
            outcome = RunStatus(status="failed", reason=reason, message=sentence)
        with suppress(OSError):  # a full disk: the run counts as killed then
            write_value(run, outcome)
        return outcome

    # ---- while they run ------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """End the runs that hang and those whose lock another process has taken over."""
        now = time.monotonic()
        passed, self._watched = min(now - self._watched, 2 * _PASS_SECONDS), now  # a machine that slept has not waited
        for running in self._running:
            if self.locks.is_lost(running.lock):
                running.process.kill()  # its new process writes into the same directory
            elif running.hung_at is not None:
                _end_hung(running, now - running.hung_at)
            elif self.study.hang_timeout_minutes is not None and _is_silent(
                running, passed, 60 * self.study.hang_timeout_minutes
            ):
                running.hung_at = now
                if running.process.pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(running.process.pid, DUMP_SIGNAL)

    def _obey(self) -> None:
        """Act on interrupts and on `ablate stop`."""
        request = stop_request(self.folder)
        if not self.interrupts and request is None:
            return
        at_next_step = bool(self.interrupts) or (request is not None and not request.after_current)
        if self._waiting or (self._running and at_next_step):
            self.was_stopped = True
        self._waiting.clear()
        if at_next_step:
            self._end_running(force=len(self.interrupts) >= 3)

    def _end_running(self, *, force: bool = False) -> None:
        """Ask every run to end at its next step; force: kill it."""
        for running in self._running:
            if force:
                running.process.kill()
            elif not running.is_ending:
                running.process.terminate()
            running.is_ending = True

    def _is_ending(self) -> bool:
        return self.disk_is_full or self.was_stopped or bool(self.interrupts)

    def _stop_disk_full(self) -> None:
        self.disk_is_full = True
        self._waiting.clear()
        self._end_running()

    @contextmanager
    def _disk_space(self) -> Iterator[None]:
        """Stop the study when the disk is full; that is not an error of ours."""
        try:
            yield
        except (OSError, RecordError) as error:
            if not failures.is_disk_full(error):
                raise
            self._stop_disk_full()


_Mark = tuple[int, int, int]
"""Inode, size and modification time of a file, which differ once it was written or replaced. (0, 0, 0): no file."""


def _mark(path: Path) -> _Mark:
    try:
        state = path.stat()
    except OSError:
        return 0, 0, 0
    return state.st_ino, state.st_size, state.st_mtime_ns


def _is_silent(running: _Running, passed: float, limit: float) -> bool:
    """Return whether no file has changed for `limit` seconds. A run touches its log whenever it checks whether to stop."""
    run = running.job.run
    signs = tuple(_mark(path) for path in (run.log, run.progress, run.trace, run.evals, run.checkpoint))
    running.silent_seconds = running.silent_seconds + passed if signs == running.signs else 0.0
    running.signs = signs
    return running.silent_seconds >= limit


def _end_hung(running: _Running, seconds: float) -> None:
    """Send SIGTERM once its stacks are written, which it may still handle, and SIGKILL later."""
    if seconds >= _DUMP_SECONDS + _GRACE_SECONDS:
        running.process.kill()
    elif seconds >= _DUMP_SECONDS and not running.is_terminated:
        running.is_terminated = True
        running.process.terminate()

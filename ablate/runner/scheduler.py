"""Runs side by side on this machine, shared with whoever else works on the same study: whatever one does, the rest goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ablate.config.schema import StudyConfig
from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_status, write_value
from ablate.runner import failures as ends
from ablate.runner.devices import Lease, leases
from ablate.runner.locks import Claim, Claims
from ablate.runner.log_capture import interrupts
from ablate.runner.progress import LiveView, plain_or_live
from ablate.runner.reuse import find, holds_result, take
from ablate.runner.stop import StudyStopped, stop_request
from ablate.runner.subprocess_run import DUMP_SIGNAL, LOST_EXIT, Job, server, start

_PASS_SECONDS = 0.5
_ELSEWHERE_SECONDS = 1.0
"""How often to ask whether a run that another process has taken is done, or its process gone."""
_PAUSE_SECONDS = 10.0
"""Before a run is tried again that the network or a device has let down."""
_DUMP_SECONDS, _GRACE_SECONDS = 1.0, 15.0
"""Of a run that hangs: from the dump of its stacks to SIGTERM, and from there to SIGKILL."""


def run_all(
    jobs: Sequence[Job],
    study: StudyConfig,
    *,
    title: str = "",
    already_done: int = 0,
    after: Mapping[str, str] | None = None,
) -> list[RunStatus]:
    """Run every job that no other process runs, and return the outcomes in the order of `jobs` when all have one.

    after: {digest: digest of a run that this one waits for while some process runs it}.
    A run that raises, exits, hangs or is killed is recorded as `failed` and the rest goes on, unless `study.fail_fast`; one
    that ended by what can pass is tried again, `study.retries` times. A run that another process has taken is waited for, and
    taken over when that process is gone. An interrupt (Ctrl-C, SIGTERM) is passed on to the running runs, which then end at
    their next step; KeyboardInterrupt is raised when they have, StudyStopped where `ablate stop` asked for it, DiskFullError
    where there is no room left to write.
    """
    if not jobs:
        return []
    folder = jobs[0].folder.parents[1]
    with (
        plain_or_live(title, len(jobs) + already_done, already_done) as view,
        interrupts() as caught,
        Claims(folder.parent) as claims,
    ):
        crew = _Crew(jobs, study, folder, claims, view, caught, after or {})
        try:
            crew.work()
        finally:
            crew.dismiss()
    if caught:
        raise KeyboardInterrupt
    if crew.disk_is_full:
        raise ends.disk_full(folder)
    if crew.was_stopped:
        raise StudyStopped("stopped, as `ablate stop` has asked")
    return [crew.outcomes[job.folder] for job in jobs if job.folder in crew.outcomes]


def result_by_now(job: Job) -> RunStatus | None:
    """The result of a run, in its own folder or taken from another study under the same root. Ask with its claim in hand."""
    run = RunDir(job.folder)
    if not holds_result(run, job.digest):
        there = find(job.folder.parents[2], job.digest, device=job.config["train"]["device"])
        if there is None or there.run.path == run.path:
            return None
        take(there, run, job.config, job.changes)
    return read_status(run)


@dataclass(slots=True, kw_only=True)
class _Going:
    """A run in its process.

    mark: of the outcome that lay there before. told: whether it was asked to end because the study ends. signs: what it last
    left on disk, and for how many seconds that has been the same. hung_at: when it was found to hang. asked: and then to end.
    """

    job: Job
    process: BaseProcess
    lease: Lease
    claim: Claim
    tries: int
    mark: _Mark
    told: bool = False
    signs: tuple[_Mark, ...] = ()
    silent_seconds: float = 0.0
    hung_at: float | None = None
    asked: bool = False


@dataclass(slots=True, kw_only=True)
class _Paused:
    """A run that is tried again in a moment; its slot waits with it."""

    job: Job
    lease: Lease
    claim: Claim
    tries: int
    until: float


@dataclass
class _Crew:
    """waiting: the jobs that are neither done nor started here, in order."""

    jobs: Sequence[Job]
    study: StudyConfig
    folder: Path
    claims: Claims
    view: LiveView
    interrupts: Sequence[int]
    after: Mapping[str, str]
    outcomes: dict[Path, RunStatus] = field(default_factory=dict)
    disk_is_full: bool = False
    was_stopped: bool = False

    def __post_init__(self) -> None:
        self._context = server()
        self._free = leases(self.study.workers, self.study.runs_per_gpu)
        self._waiting = list(self.jobs)
        self._before = {job.folder: _mark(RunDir(job.folder).status) for job in self.jobs}
        self._running: list[_Going] = []
        self._paused: list[_Paused] = []
        self._asked_elsewhere = self._looked = 0.0
        self._only_elsewhere = False
        self._oom_kills = ends.oom_kills()

    def work(self) -> None:
        """Until nothing is left to do, here and elsewhere."""
        while self._waiting or self._running or self._paused:
            with self._room():
                self._start_what_can()
            for going in self._ended():
                with self._room():
                    self._close(going)
            self._oom_kills = ends.oom_kills()
            self._look_after_the_running()
            self._heed()
            self.view.refresh()

    def dismiss(self) -> None:
        """End what still runs, which is only after an error of our own: a claim is given back when its run has ended."""
        for going in self._running:
            going.process.kill()
        for going in self._running:
            going.process.join()

    # ---- starting ------------------------------------------------------------------------------------------------

    def _start_what_can(self) -> None:
        now = time.monotonic()
        for paused in [one for one in self._paused if one.until <= now]:
            self._paused.remove(paused)
            self._start(paused.job, paused.lease, paused.claim, tries=paused.tries)
        if not self._free or (self._only_elsewhere and now - self._asked_elsewhere < _ELSEWHERE_SECONDS):
            return
        self._asked_elsewhere = now
        elsewhere = 0
        for job in list(self._waiting):
            if not self._free:
                break
            if self._is_early(job):
                continue
            claim = self.claims.take(job.digest)
            if claim is None:
                elsewhere += not any(going.job.digest == job.digest for going in self._running)
                continue
            self._waiting.remove(job)
            outcome = self._result_by_now(job)
            if outcome is None:
                self._start(job, self._free.pop(0), claim, tries=0)
            else:
                self.claims.release(claim)
                self.outcomes[job.folder] = outcome
                self.view.ended(job.name, outcome)
        self.view.elsewhere, self._only_elsewhere = elsewhere, elsewhere == len(self._waiting)

    def _is_early(self, job: Job) -> bool:
        """Whether the sibling at whose checkpoint a run may begin is still going: to wait is less work than to run in full."""
        sibling = self.after.get(job.digest)
        return sibling is not None and self.claims.holder(sibling) is not None

    def _result_by_now(self, job: Job) -> RunStatus | None:
        """What another process has made of it since this one began; its failure counts as well as its success."""
        outcome = result_by_now(job)
        if outcome is not None or _mark(RunDir(job.folder).status) == self._before[job.folder]:
            return outcome
        outcome = read_status(RunDir(job.folder))
        return outcome if outcome is not None and outcome.status == "failed" else None

    def _start(self, job: Job, lease: Lease, claim: Claim, *, tries: int) -> None:
        mark = _mark(RunDir(job.folder).status)
        try:
            process = start(self._context, job, lease, claim)
        except OSError:
            self.claims.release(claim)
            self._free.append(lease)
            raise
        self._running.append(_Going(job=job, process=process, lease=lease, claim=claim, tries=tries, mark=mark))
        self.view.started(job.name, RunDir(job.folder))

    # ---- ending --------------------------------------------------------------------------------------------------

    def _ended(self) -> list[_Going]:
        """Those whose process has ended; waits a moment for the first one."""
        wait([going.process.sentinel for going in self._running], timeout=_PASS_SECONDS)
        return [going for going in self._running if not going.process.is_alive()]

    def _close(self, going: _Going) -> None:
        """Put down how a run ended, and try it again where that may help."""
        self._running.remove(going)
        if going.process.exitcode == LOST_EXIT or self.claims.is_lost(going.claim):
            self._free.append(going.lease)
            self._waiting.append(going.job)  # whoever has it now will say how it ended
            self.view.lost(going.job.name)
            return
        outcome = self._outcome_of(going)
        if going.tries < self.study.retries and not going.told and not self._is_ending() and ends.can_pass(outcome):
            pause = _PAUSE_SECONDS if outcome.reason in (ends.NETWORK, ends.DEVICE) else 0.0
            self._paused.append(
                _Paused(
                    job=going.job,
                    lease=going.lease,
                    claim=going.claim,
                    tries=going.tries + 1,
                    until=time.monotonic() + pause,
                )
            )
            self.view.again(going.job.name, outcome, f"try {going.tries + 2} of {self.study.retries + 1}")
            return
        self._free.append(going.lease)
        self.claims.release(going.claim)
        self.outcomes[going.job.folder] = outcome
        self.view.ended(going.job.name, outcome)
        if outcome.reason == ends.DISK_FULL:
            self._stop_for_want_of_room()
        elif outcome.status == "failed" and self.study.fail_fast:
            self._waiting.clear()

    def _outcome_of(self, going: _Going) -> RunStatus:
        """What the run wrote; when it was ended before it could, what its exit says."""
        run = RunDir(going.job.folder)
        written = _written(run, going.mark)
        if going.hung_at is not None and (written is None or written.status in ("failed", "interrupted")):
            sentence = (
                f"no sign of life for {self.study.hang_timeout_minutes:g} minutes (study.hang_timeout_minutes): the run was ended; "
                "where it hung stands in log.txt"
            )
            outcome = replace(
                written or RunStatus(status="failed"), status="failed", reason=ends.HANG, message=sentence
            )
        elif written is not None:
            return written
        else:
            code = going.process.exitcode or 0
            reason, sentence = ends.how(code, going.job.config, oom_killed=ends.oom_kills() > self._oom_kills)
            outcome = RunStatus(status="failed", reason=reason, message=sentence)
        with suppress(OSError):  # a full disk: the run counts as killed then
            write_value(run, outcome)
        return outcome

    # ---- while they run ------------------------------------------------------------------------------------------

    def _look_after_the_running(self) -> None:
        """End the runs that hang, and those whose claim another process has taken over."""
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * _PASS_SECONDS), now  # a machine that slept has not waited
        for going in self._running:
            if self.claims.is_lost(going.claim):
                going.process.kill()  # at once: whoever has it now writes into the same folder
            elif going.hung_at is not None:
                _end_hung(going, now - going.hung_at)
            elif self.study.hang_timeout_minutes is not None and _is_silent(
                going, passed, 60 * self.study.hang_timeout_minutes
            ):
                going.hung_at = now
                _send(going.process, DUMP_SIGNAL)

    def _heed(self) -> None:
        """Interrupts, and `ablate stop`."""
        request = stop_request(self.folder)
        if not self.interrupts and request is None:
            return
        at_next_step = bool(self.interrupts) or (request is not None and not request.after_current)
        if self._waiting or self._paused or (self._running and at_next_step):
            self.was_stopped = True
        self._start_no_more()
        if at_next_step:
            self._end_running(at_once=len(self.interrupts) >= 3)

    def _start_no_more(self) -> None:
        self._waiting.clear()
        for paused in self._paused:
            self.claims.release(paused.claim)
        self._paused.clear()

    def _end_running(self, *, at_once: bool = False) -> None:
        """Ask every run to end at its next step."""
        for going in self._running:
            if at_once:
                going.process.kill()
            elif not going.told:
                going.process.terminate()
            going.told = True

    def _is_ending(self) -> bool:
        return self.disk_is_full or self.was_stopped or bool(self.interrupts)

    def _stop_for_want_of_room(self) -> None:
        self.disk_is_full = True
        self._start_no_more()
        self._end_running()

    @contextmanager
    def _room(self) -> Iterator[None]:
        """A disk that is full ends the study; it is not an error of ours."""
        try:
            yield
        except (OSError, RecordError) as error:
            if not ends.is_disk_full(error):
                raise
            self._stop_for_want_of_room()


_Mark = tuple[int, int, int]
"""Of a file: what is another after it was written or replaced. (0, 0, 0): there is none."""


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


def _written(run: RunDir, before: _Mark) -> RunStatus | None:
    """The outcome that this try has written."""
    if _mark(run.status) == before:
        return None
    try:
        return read_status(run)
    except RecordError:
        return None


def _is_silent(going: _Going, passed: float, limit: float) -> bool:
    """Whether nothing in its folder has changed for so many seconds: a run touches its log whenever it asks whether to stop."""
    run = RunDir(going.job.folder)
    signs = tuple(_mark(path) for path in (run.log, run.progress, run.trace, run.evals, run.checkpoint))
    going.silent_seconds = going.silent_seconds + passed if signs == going.signs else 0.0
    going.signs = signs
    return going.silent_seconds >= limit


def _end_hung(going: _Going, seconds: float) -> None:
    """SIGTERM once its stacks are written, which it may still hear, and SIGKILL if it did not."""
    if seconds >= _DUMP_SECONDS + _GRACE_SECONDS:
        going.process.kill()
    elif seconds >= _DUMP_SECONDS and not going.asked:
        going.asked = True
        going.process.terminate()


def _send(process: BaseProcess, number: signal.Signals) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)

"""Runs side by side, each in a fresh process forked from a server that has imported the libraries and done nothing else."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ablate.record.rundir import RunDir
from ablate.record.values import Outcome, read_outcome, write_value
from ablate.study.progress import plain_or_live

_PRELOAD = [
    "torch", "transformers", "ablate.tasks.text_classification", "ablate.tasks.causal_lm", "ablate.tasks.unpad",
    "ablate.loop.train", "ablate.study.worker",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run to do. config: resolved and whole, with its seed and arm. folder: of the run."""

    arm: str
    seed: int
    config: dict[str, Any]
    folder: Path
    changes: dict[str, Any]
    digest: str


@dataclass(frozen=True, slots=True)
class _Lease:
    """What a run may use: threads, and the GPU that it sees (None on a CPU)."""

    num_threads: int
    gpu: str | None


def run_all(
    jobs: Sequence[Job], *, slots: int | None, fail_fast: bool, title: str, already_done: int = 0
) -> list[Outcome]:
    """Run every job, at most `slots` at a time, and return the outcomes in the order of `jobs`.

    slots: None takes one per visible GPU, or one per CPU core. A run that raises, exits or is killed is recorded as
    `failed` and the rest goes on, unless `fail_fast`. An interrupt (Ctrl-C, SIGTERM) is passed on to the running runs,
    which then end at their next step; KeyboardInterrupt is raised when they have.
    """
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    free, waiting, running = _leases(slots), list(jobs), list[_Going]()
    outcomes: dict[Path, Outcome] = {}
    with plain_or_live(title, len(jobs) + already_done, already_done) as view, _interrupts() as interrupts:
        while waiting or running:
            while waiting and free:
                running.append(_start(context, waiting.pop(0), free.pop(0)))
                view.started(running[-1].name, RunDir(running[-1].job.folder))
            for going in _ended(running):
                running.remove(going)
                free.append(going.lease)
                outcome = outcomes[going.job.folder] = _outcome_of(going)
                view.ended(going.name, outcome)
                if outcome.status == "failed" and fail_fast:
                    waiting.clear()
            if interrupts:
                waiting.clear()
                _pass_on(running, interrupts)
            view.refresh()
    if interrupts:
        raise KeyboardInterrupt
    return [outcomes[job.folder] for job in jobs if job.folder in outcomes]


@dataclass(slots=True)
class _Going:
    """A run in its process. told: whether an interrupt was passed on to it."""

    job: Job
    process: BaseProcess
    lease: _Lease
    told: bool = False

    @property
    def name(self) -> str:
        return f"{self.job.arm}/seed={self.job.seed}"


def _start(context: mp.context.ForkServerContext, job: Job, lease: _Lease) -> _Going:
    job.folder.mkdir(parents=True, exist_ok=True)
    RunDir(job.folder).outcome.unlink(missing_ok=True)
    process = context.Process(target=_in_process, args=(job, lease), name=f"{job.arm}/seed={job.seed}")
    with _quiet_main():
        process.start()
    return _Going(job, process, lease)


def _in_process(job: Job, lease: _Lease) -> None:
    """The whole life of a run's process."""
    log = os.open(RunDir(job.folder).log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    if lease.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = lease.gpu  # before anything in this process has touched a device
    import torch

    from ablate.config import make_config
    from ablate.study.worker import execute

    torch.set_num_threads(lease.num_threads)
    execute(make_config(job.config), RunDir(job.folder), changes=job.changes, digest=job.digest, stop=_orphaned)


def _orphaned() -> str | None:
    """A run whose study was killed ends as well: the study's next start would run it again beside it."""
    study = mp.parent_process()
    return "the study's process is gone" if study is not None and not study.is_alive() else None


def _ended(running: list[_Going]) -> list[_Going]:
    """Those whose process has ended; waits up to half a second for the first one."""
    wait([going.process.sentinel for going in running], timeout=0.5)
    return [going for going in running if not going.process.is_alive()]


def _outcome_of(going: _Going) -> Outcome:
    """What the run wrote; when it was ended before it could, what its exit says."""
    run = RunDir(going.job.folder)
    outcome = read_outcome(run)
    if outcome is None:
        code = going.process.exitcode or 0
        reason = signal.Signals(-code).name if code < 0 else f"exit {code}"
        hint = " (often: out of memory)" if reason == "SIGKILL" else ""
        outcome = Outcome(
            status="failed", reason=reason, sentence=f"the run's process ended by {reason}{hint}; see log.txt"
        )
        write_value(run, outcome)
    return outcome


def _leases(slots: int | None) -> list[_Lease]:
    gpus = _visible_gpus()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if gpus:
        return [_Lease(cores, gpus[k % len(gpus)]) for k in range(slots or len(gpus))]
    # One thread per run, whatever else runs: a sum that is split over more threads rounds otherwise, so the number of
    # threads must not depend on how many runs happen to be in flight.
    return [_Lease(1, None)] * (slots or cores)


def _visible_gpus() -> list[str]:
    """Asked of the driver in a way that does not initialise CUDA in this process."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [gpu for gpu in given.split(",") if gpu not in ("", "-1")]
    devices = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(devices.iterdir())))] if devices.is_dir() else []


@contextmanager
def _quiet_main() -> Iterator[None]:
    """Keep multiprocessing from importing the caller's script again in every run."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them, so that the running runs can end well."""
    caught: list[int] = []
    before = {n: signal.signal(n, lambda number, _: caught.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(running: list[_Going], interrupts: list[int]) -> None:
    """Ask every run to end at its next step; at the third interrupt, end it at once."""
    for going in running:
        if len(interrupts) >= 3:
            going.process.kill()
        elif not going.told:
            going.told = True
            going.process.terminate()


def num_slots(slots: int | None) -> int:
    """How many runs go at a time."""
    return len(_leases(slots))

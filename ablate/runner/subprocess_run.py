"""One run in a fresh process, forked from a server that has imported the libraries and done nothing else."""

from __future__ import annotations

import faulthandler
import io
import multiprocessing as mp
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ablate.hashing import Planned
from ablate.records.layout import RunDir
from ablate.runner.devices import Lease
from ablate.runner.failures import DISK_FULL_EXIT, is_disk_full
from ablate.runner.locks import Claim
from ablate.runner.log_capture import captured

DUMP_SIGNAL = signal.SIGUSR1
"""Makes a run write the stacks of its threads into its log, even where no Python code gets a turn."""

LOST_EXIT = 75
"""Exit code of a run whose claim another process has taken over: it leaves at once, and writes nothing more."""

_PRELOAD = [
    "torch", "transformers", "ablate.tasks.text_classification", "ablate.tasks.causal_lm", "ablate.models.unpadding",
    "ablate.hashing", "ablate.tasks.custom", "ablate.training.train", "ablate.runner.worker",
]  # fmt: skip

_SIGN_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run to do. config: resolved and whole, with its seed and arm. folder: of the run. planned: parts of its digest."""

    arm: str
    seed: int
    config: dict[str, Any]
    folder: Path
    changes: dict[str, Any]
    digest: str
    planned: Planned = field(default_factory=Planned)

    @property
    def name(self) -> str:
        return f"{self.arm}/seed={self.seed}"


def server() -> mp.context.ForkServerContext:
    """What makes the processes; the libraries are imported once, when the first one is made."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def start(context: mp.context.ForkServerContext, job: Job, lease: Lease, claim: Claim) -> BaseProcess:
    """Start the run and come back at once."""
    job.folder.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_in_process, args=(job, lease, claim), name=job.name)
    with _quiet_main():
        process.start()
    return process


def _in_process(job: Job, lease: Lease, claim: Claim) -> None:
    """The whole life of a run's process. What cannot be written down ends in the exit code."""
    if lease.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = lease.gpu  # before anything in this process has touched a device
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a killed run has printed what it has printed
    code = 0
    try:
        with captured(RunDir(job.folder).log) as log, _stacks_into(log):
            try:
                _execute(job, lease, _Watch(log, claim))
            except Exception as error:
                traceback.print_exc()
                code = DISK_FULL_EXIT if is_disk_full(error) else 1
    except OSError as error:  # not even a log
        code = DISK_FULL_EXIT if is_disk_full(error) else 1
    sys.exit(code)


def _execute(job: Job, lease: Lease, watch: _Watch) -> None:
    import torch

    from ablate.config.schema import make_config
    from ablate.runner.worker import execute

    torch.set_num_threads(lease.num_threads)
    execute(
        make_config(job.config),
        RunDir(job.folder),
        changes=job.changes,
        digest=job.digest,
        planned=job.planned,
        stop=watch,
    )


class _Watch:
    """What a run asks at every step, and at every batch of an evaluation: whether to stop. To be asked is its sign of life."""

    def __init__(self, log: int, claim: Claim) -> None:
        self._log, self._claim, self._next = log, claim, 0.0

    def __call__(self) -> str | None:
        study = mp.parent_process()
        if study is not None and not study.is_alive():
            # The study's next start would run it again beside this process.
            return "the study's process is gone"
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SIGN_SECONDS
            with suppress(OSError):
                os.utime(self._log)
                if self._claim.is_lost():
                    os._exit(LOST_EXIT)
        return None


@contextmanager
def _stacks_into(log: int) -> Iterator[None]:
    """Of a crash in native code, and of a run that hangs."""
    faulthandler.enable(log)
    faulthandler.register(DUMP_SIGNAL, log, all_threads=True)
    try:
        yield
    finally:
        faulthandler.unregister(DUMP_SIGNAL)
        faulthandler.disable()


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

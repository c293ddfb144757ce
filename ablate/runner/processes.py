"""Processes of runs: the machine divided among them, and one run in a fresh process.

The process is forked from a server that has imported the libraries, or it is a command line of its own.
"""

from __future__ import annotations

import faulthandler
import io
import multiprocessing as mp
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

from ablate.redact import redact
from ablate.runner.failures import DISK_FULL_EXIT, is_disk_full
from ablate.runner.jobs import Job
from ablate.runner.locks import Lock, is_running, started_at
from ablate.runner.log_capture import captured, log_for_child
from ablate.training.hardware import visible_gpus

DUMP_SIGNAL = signal.SIGUSR1
"""Signal that makes a run write the stacks of its threads into its log, even while native code runs."""

LOST_EXIT = 75
"""Exit code of a run whose lock another process has taken over: it exits immediately and writes nothing more."""

_PRELOAD = [
    "torch", "transformers", "ablate.tasks.text_classification", "ablate.tasks.causal_lm", "ablate.models.unpadding",
    "ablate.hashing", "ablate.tasks.custom", "ablate.training.train", "ablate.runner.worker",
]  # fmt: skip

_SIGN_SECONDS = 2.0
_PATIENCE_SECONDS = 10.0
"""How long a command that was interrupted may take to end."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Share of the machine for one run. gpu: the only GPU that it sees; None on a CPU."""

    num_threads: int
    gpu: str | None


def leases(workers: int | None, runs_per_gpu: int = 1, device: str = "auto") -> list[Lease]:
    """Return a lease for each run at a time. workers=None: `runs_per_gpu` per visible GPU, or one per CPU core.

    device: `train.device` of the runs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = visible_gpus(device)
    if gpus:
        # From what the machine has and not from `workers`: the number of threads must not depend on how many runs go.
        threads = max(1, cores // (len(gpus) * runs_per_gpu))
        count = workers or len(gpus) * runs_per_gpu
        return [Lease(threads, gpus[k % len(gpus)]) for k in range(count)]
    # One thread per run, whatever else runs: a sum that is split over more threads rounds otherwise (decision 0006).
    return [Lease(1, None)] * (workers or cores)


def server() -> mp.context.ForkServerContext:
    """Return the context that makes the processes; the libraries are imported once, when the first one is made."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def start(context: mp.context.ForkServerContext, job: Job, lease: Lease, lock: Lock) -> BaseProcess | CommandProcess:
    """Start the run and return its process."""
    job.run.check_own()
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.command:
        return CommandProcess(job, lease)
    safe = os.environ.get(_SAFE_PATH)
    process = context.Process(target=_in_process, args=(job, lease, lock, safe), name=job.name)
    with _quiet_main(), _safe_path():
        process.start()
    return process


_SAFE_PATH = "PYTHONSAFEPATH"


@contextmanager
def _safe_path() -> Iterator[None]:
    """Start processes of Python without the working directory on their path: a file there must not replace a library."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        _set_safe_path(before)


def _set_safe_path(value: str | None) -> None:
    if value is None:
        os.environ.pop(_SAFE_PATH, None)
    else:
        os.environ[_SAFE_PATH] = value


def _working_folder_last() -> None:
    """Look a module up in the working directory after the libraries, where the caller's path has it first."""
    here = Path.cwd()
    own = [path for path in sys.path if not path or Path(path) == here]
    sys.path[:] = [*(path for path in sys.path if path not in own), *own]


_SERVER_LOST_EXIT = 255
"""Exit code that multiprocessing gives to a run when its server is gone; a run may also end by it."""


def remove_pools() -> None:
    """Remove the temporary folders of killed studies, in which multiprocessing keeps the socket of a server."""
    for folder in Path(tempfile.gettempdir()).glob("pymp-*"):
        with suppress(OSError):
            mine = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
            if mine and (sockets := list(folder.iterdir())) and all(map(_is_deserted, sockets)):
                shutil.rmtree(folder)


def _is_deserted(path: Path) -> bool:
    """Return whether it is a socket to which no process listens any more; False where the system does not list its sockets.

    Asked of the system's list, never by a connection: a server that is met by an empty connection ends, and its runs with it.
    """
    if not path.is_socket():
        return False
    try:
        listed = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return not any(line.endswith(f" {path}") for line in listed.splitlines())


def server_pid() -> int:
    """Return the process that forks the runs at present; 0 for none."""
    return getattr(forkserver._forkserver, "_forkserver_pid", None) or 0


def server_is_lost(process: BaseProcess | CommandProcess, server: int) -> bool:
    """Return whether a run's exit code is unknown because the server that forked it was ended: the run may still go on."""
    if isinstance(process, CommandProcess) or process.exitcode != _SERVER_LOST_EXIT:
        return False
    return not started_at(server)  # "" of a zombie: nobody has waited for it yet


def end_orphans(pids: Mapping[int, str], *, grace: float) -> None:
    """End the runs that outlived their server, which nobody waits for. pids: {pid: when it started}. grace: seconds to save."""
    deadline = time.monotonic() + grace
    number = signal.SIGTERM
    while left := [pid for pid, started in pids.items() if started and is_running(pid, started)]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        number = signal.SIGKILL
        while time.monotonic() < deadline and any(is_running(pid, pids[pid]) for pid in left):
            time.sleep(0.05)
        deadline = time.monotonic() + 1.0


class CommandProcess:
    """A run that is a command line of its own, as its user would start it. Output goes to the run's log."""

    def __init__(self, job: Job, lease: Lease) -> None:
        env = dict(os.environ)
        if lease.gpu is not None:
            env["CUDA_VISIBLE_DEVICES"] = lease.gpu
        else:
            env.setdefault("OMP_NUM_THREADS", str(lease.num_threads))
        with log_for_child(job.run.log, f"$ {redact(' '.join(job.command))}\n") as log:
            # A session of its own: a Ctrl-C reaches it through us, once.
            self._popen = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env,
                start_new_session=True,
            )  # fmt: skip
        self._kill_after: float | None = None
        self.sentinel, end = os.pipe()
        threading.Thread(target=self._close_at_exit, args=(end,), name=job.name, daemon=True).start()

    def _close_at_exit(self, end: int) -> None:
        self._popen.wait()
        os.close(end)  # `multiprocessing.connection.wait` returns then

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exitcode(self) -> int | None:
        return self._popen.poll()

    def is_alive(self) -> bool:
        if self._popen.poll() is None:
            if self._kill_after is not None and time.monotonic() >= self._kill_after:
                self.kill()
            return True
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.sentinel = -1
        return False

    def terminate(self) -> None:
        """Interrupt the run as Ctrl-C would; it is killed if it does not end in time."""
        self._kill_after = time.monotonic() + _PATIENCE_SECONDS
        self._send(signal.SIGINT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def join(self) -> None:
        self._popen.wait()

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


def _in_process(job: Job, lease: Lease, lock: Lock, safe_path: str | None) -> None:
    """Run a job from start to end of its process. What cannot be recorded becomes the exit code.

    safe_path: PYTHONSAFEPATH of the user, which the processes that the run starts inherit.
    """
    _set_safe_path(safe_path)
    _working_folder_last()
    if lease.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = lease.gpu  # before anything in this process has touched a device
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # a killed run has printed what it has printed
    code = 0
    try:
        with captured(job.run.log) as log, _stacks_into(log):
            try:
                import torch

                from ablate.config.schema import make_config
                from ablate.runner.worker import execute

                torch.set_num_threads(lease.num_threads)
                execute(
                    make_config(job.config),
                    job.run,
                    changes=job.changes,
                    digest=job.digest,
                    planned=job.planned,
                    stop=_Watch(log, lock),
                    gpu=lease.gpu,
                )
            except Exception as error:
                traceback.print_exc()
                code = DISK_FULL_EXIT if is_disk_full(error) else 1
    except OSError as error:  # not even a log
        code = DISK_FULL_EXIT if is_disk_full(error) else 1
    sys.exit(code)


class _Watch:
    """Whether a run has to stop, called at every step and every batch of an evaluation. Each call is its sign of life."""

    def __init__(self, log: int, lock: Lock) -> None:
        self._log, self._lock, self._next = log, lock, 0.0

    def __call__(self) -> str | None:
        study = mp.parent_process()
        if study is not None and not study.is_alive():
            # The next start of the study would run it again simultaneously.
            return "the study's process is gone"
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SIGN_SECONDS
            with suppress(OSError):
                os.utime(self._log)
                if self._lock.is_lost():
                    os._exit(LOST_EXIT)
        return None


@contextmanager
def _stacks_into(log: int) -> Iterator[None]:
    """Write the stacks of a crash in native code, and of a run that hangs, into the log."""
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

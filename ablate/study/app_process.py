"""Runs of an app that is not ours, side by side, each started as the user would start it: a command line of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ablate.design.plan import Run
from ablate.record.redact import redact, secrets
from ablate.study.capture import Hider
from ablate.study.interrupts import interrupts
from ablate.study.leases import Lease, leases

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0
"""How long a run that was asked to end may take."""


def run_processes(
    commands: Sequence[tuple[Run, list[str], Path]], workers: int | None
) -> Iterator[tuple[Run, str | None]]:
    """Run every command, at most `workers` at a time, and give each run as its process ends, with why where that was bad.

    commands: run, what to start, and where its output goes. An interrupt (Ctrl-C, SIGTERM), and a caller that stops asking,
    end the running ones.
    """
    free, waiting = leases(workers), list(commands)
    going: list[tuple[subprocess.Popen[bytes], Run, Lease]] = []
    with interrupts() as caught:
        try:
            while (waiting or going) and not caught:
                while waiting and free:
                    run, command, log = waiting.pop(0)
                    going.append((_start(command, log, lease := free.pop(0)), run, lease))
                ended = [one for one in going if one[0].poll() is not None]
                for one in ended:
                    going.remove(one)
                    free.append(one[2])
                    yield one[1], _why(one[0])
                if not ended:
                    time.sleep(_LOOK_SECONDS)
        finally:
            _end([process for process, _, _ in going])
    if caught:
        raise KeyboardInterrupt


def _start(command: list[str], log: Path, lease: Lease) -> subprocess.Popen[bytes]:
    env = dict(os.environ)
    if lease.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = lease.gpu
    else:
        env.setdefault("OMP_NUM_THREADS", str(lease.num_threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    hidden = secrets()
    with log.open("ab") as file:
        file.write(f"$ {redact(' '.join(command))}\n".encode())
        file.flush()
        # A session of its own: a Ctrl-C reaches it through us, once.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if hidden else file, stderr=subprocess.STDOUT, env=env,
            start_new_session=True,
        )  # fmt: skip
    if hidden:
        threading.Thread(target=_hide, args=(process, log, hidden), name="log", daemon=True).start()
    return process


def _hide(process: subprocess.Popen[bytes], log: Path, hidden: Sequence[str]) -> None:
    """What a run prints, less the secrets of the environment."""
    assert process.stdout is not None
    hider = Hider(hidden)
    with log.open("ab", buffering=0) as file, process.stdout as pipe:
        while piece := os.read(pipe.fileno(), 1 << 16):
            file.write(hider.pass_on(piece))
        file.write(hider.pass_on(b""))


def _why(process: subprocess.Popen[bytes]) -> str | None:
    code = process.returncode
    if code == 0:
        return None
    how = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return f"its process ended by {how}; see log.txt"


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _send(process, signal.SIGINT)
    until = time.monotonic() + _PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _send(process, signal.SIGKILL)
            process.wait()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)

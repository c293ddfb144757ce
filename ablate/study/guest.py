"""A run in a process that an engine made and may use again: it runs as one of ours does, and leaves the process as it was."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ablate.errors import RecordError
from ablate.loop.signals import stop_on_signals
from ablate.study.capture import captured
from ablate.study.leases import leases

_ENGINES_OWN = (signal.SIGUSR1, signal.SIGUSR2)
"""With these an engine says that the job's time is nearly over, to a handler of its own."""


@contextmanager
def working_in(folder: Path | None) -> Iterator[None]:
    """The current folder is the one in which the command was typed, which is what relative paths in it mean; None: stay here.

    Raises RecordError where this machine has no such folder.
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
def as_in_its_own(log: Path) -> Iterator[Callable[[], str | None]]:
    """What our own processes give a run: threads as there, and output in its log. Yields what `train` wants as `stop`.

    The engine's warning ends the run at its next step, with a checkpoint. Only then does the engine's own handler see it: it
    raises, exits or queues the job again, and must not do so in the middle of a step.
    """
    import torch

    log.parent.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(leases(None)[0].num_threads)  # how a sum is split decides how it rounds
    try:
        with _engine_heard_last() as stop, captured(log):
            yield stop
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _engine_heard_last() -> Iterator[Callable[[], str | None]]:
    numbers = [number for number in _ENGINES_OWN if callable(signal.getsignal(number))]
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    with stop_on_signals(*numbers) as caught:
        yield caught
        name = caught()
    if name is not None:
        signal.raise_signal(signal.Signals[name])

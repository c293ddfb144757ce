"""Capture what a run prints in its log.txt, C code and child processes included, without secrets of the environment."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ablate.redact import Hider, secrets
from ablate.serialization import open_own

_DRAIN_SECONDS = 5.0
"""How long to wait at the end for what is still in the pipe: a child process that goes on keeps it open."""


@contextmanager
def captured(log: Path) -> Iterator[int]:
    """Append standard output and error to `log`; yields its file descriptor, for dumps that must not be lost.

    Without secrets in the environment the output goes there directly. With some, it goes through a pipe and a thread that
    hides them; a kill loses what is in the pipe.
    """
    file = open_own(log, os.O_APPEND)
    hidden = secrets()
    reader = _Reader(file, hidden) if hidden else None
    _flush()
    before = os.dup(1), os.dup(2)
    for number in (1, 2):
        os.dup2(reader.entrance if reader else file, number)
    try:
        yield file
    finally:
        _flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)
        if reader:
            reader.close()
        os.close(file)


@contextmanager
def log_for_child(log: Path, head: str) -> Iterator[int]:
    """Yield a file descriptor for the output of a child process, which goes to the end of `log` without secrets.

    head: written before it. A child that was started meanwhile goes on writing afterwards.
    """
    file = open_own(log, os.O_APPEND)
    hidden = secrets()
    reader = _Reader(file, hidden) if hidden else None
    try:
        _write(file, head.encode())
        yield reader.entrance if reader else file
    finally:
        if reader:
            os.close(reader.entrance)  # the reader ends with the child
        os.close(file)


class _Reader:
    """A pipe into a file, through a Hider."""

    def __init__(self, file: int, hidden: Sequence[str]) -> None:
        self._exit, self.entrance = os.pipe()
        self._file, self._hider = os.dup(file), Hider(hidden)
        self._thread = threading.Thread(target=self._read, name="log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self.entrance)
        self._thread.join(_DRAIN_SECONDS)

    def _read(self) -> None:
        piece = b"begin"
        while piece:
            piece = os.read(self._exit, 1 << 16)
            with suppress(OSError):  # a full disk must not stop the run in the middle of a print: its record says so
                _write(self._file, self._hider.pass_on(piece))
        os.close(self._file)
        os.close(self._exit)


def _write(file: int, ready: bytes) -> None:
    left = memoryview(ready)
    while left:
        left = left[os.write(file, left) :]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a full disk, or a stream that is closed
            stream.flush()

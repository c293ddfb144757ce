"""Requests to stop: signals, and the file of `ablate stop` in the study directory, which all processes of the study read."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ablate.records.metadata import now
from ablate.serialization import read_json, write_json

_FILE = ".stop"


class StudyStopped(KeyboardInterrupt):
    """Raised after a study was stopped by request; its caller treats it as an interrupt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StopRequest:
    """Content of the file."""

    after_current: bool = False
    """Let the running runs finish, and start no more."""
    requested: str = ""
    host: str = ""


def request_stop(folder: Path, *, after_current: bool) -> None:
    """Write the request into the study directory."""
    request = StopRequest(after_current=after_current, requested=now(), host=socket.gethostname())
    write_json(folder / _FILE, asdict(request))


def stop_request(folder: Path) -> StopRequest | None:
    """Return the stored request, or None."""
    try:
        return StopRequest(**read_json(folder / _FILE))
    except (OSError, ValueError, TypeError):
        return None


def forget_stop(folder: Path) -> None:
    """Remove the request: a study that is started again is not stopped."""
    (folder / _FILE).unlink(missing_ok=True)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of ending by them, so that the running runs can save."""
    caught: list[int] = []
    before = {n: signal.signal(n, lambda number, _: caught.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Ending well when asked to: a signal is noted, and the loop ends at its next step with its record and checkpoint whole."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals(*numbers: signal.Signals) -> Iterator[Callable[[], str | None]]:
    """What `train` wants as `stop`, for as long as the context lasts; outside it, signals do what they did before.

        with stop_on_signals() as stop:
            train(..., stop=stop)

    numbers: which signals; none given means SIGTERM and SIGINT. Only in the main thread, where Python handles signals.
    """
    caught: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        caught.append(signal.Signals(number).name)

    wanted = numbers or (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Ending a run before its budget: polling `should_stop`, and turning signals into a reason to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.training.distributed import Ranks

ShouldStop = Callable[[], str | None]
"""() -> the reason to stop; None to go on."""


class StopPoll:
    """Polls `should_stop`: the first reason that it gives stays the reason.

    One process polls at every step and every batch of an evaluation. Several processes must end at the same step: they
    agree every `AGREE_EVERY` steps, and not during an evaluation.
    """

    def __init__(self, should_stop: ShouldStop, ranks: Ranks) -> None:
        self._should_stop, self._ranks = should_stop, ranks
        self._reason: str | None = None

    def after_step(self, step: int, *, diverged: bool = False, last: bool = False) -> tuple[str | None, bool]:
        """Return the reason to stop after `step` steps, and whether the run has diverged.

        diverged: as this process sees it, which may be before the others see it.
        last: of the run.
        """
        reason = self._poll()
        return self._ranks.agree(reason, diverged) if last or self._ranks.agrees_at(step) else (None, False)

    def during_evaluation(self) -> str | None:
        """Return the reason to abandon an evaluation."""
        return self._poll() if self._ranks.size == 1 else None

    def _poll(self) -> str | None:
        if self._reason is None:
            self._reason = self._should_stop()
        return self._reason


@contextmanager
def stop_on_signals(*numbers: signal.Signals) -> Iterator[ShouldStop]:
    """Yield a `should_stop` for `train` that gives the name of the first signal that arrives.

        with stop_on_signals() as should_stop:
            train(..., should_stop=should_stop)

    The run ends after its next step with its record and checkpoint whole. Afterwards the signals do what they did before.

    numbers: signals to catch; SIGTERM and SIGINT if none is given. Only in the main thread, where Python handles signals.
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

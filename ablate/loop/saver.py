"""When a run is saved, and where it goes on: the loop's side of checkpoints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ablate.errors import LoopError
from ablate.interval import SECONDS, UNITS, parse_interval
from ablate.loop import checkpoint
from ablate.loop.parallel import Ranks
from ablate.loop.position import Position
from ablate.record.rundir import RunDir


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """When a run is saved, and what becomes of it. Ending a run by `stop` saves it as well, whatever stands here.

    every: `500 steps`, `4096 samples`, `1 epochs`, or by the clock `5 minutes`; None saves only when the run is stopped.
    keep: how many are kept, the newest ones.
    keep_final: save once more when the run has finished; otherwise a finished run leaves no checkpoint.
    resume: go on from the newest one that lies in the run's folder, if there is one. False refuses a folder that holds one.
    """

    every: str | int | None = "5 minutes"
    keep: int = 1
    keep_final: bool = True
    resume: bool = True


class Saver:
    """setup: what must be equal for a run to go on from a checkpoint. sizes: samples per step and per epoch.

    Raises LoopError for a checkpoint that was made with another set-up, or that lies there and is not asked for.
    """

    def __init__(
        self,
        wanted: Checkpoints | None,
        folder: str | Path | None,
        setup: Mapping[str, Any],
        *,
        ranks: Ranks,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
        sizes: dict[str, int],
    ) -> None:
        self.wanted, self.setup = wanted, setup
        self._ranks, self._optimizer, self._scaler = ranks, optimizer, scaler
        self._folder = None if folder is None else RunDir(Path(folder)).checkpoint
        self._saved = None if self._folder is None else checkpoint.latest(self._folder)
        if self._saved is not None:
            self._check(self._saved)
        state = self._saved.state if self._saved else {}
        self.position = Position(**state.get("position", {}))
        self.observer_state: dict[str, Any] | None = state.get("observer")
        self._samples, self._seconds = _every(wanted, sizes)
        self._last_samples, self._last_time = self.position.samples, time.monotonic()

    def load(self) -> None:
        """Put weights, moments and scaler in place."""
        if self._saved is not None:
            self._saved.load(self._ranks, self._optimizer, self._scaler)

    def is_due(self, at: Position, *, final: bool) -> bool:
        """Whether to save now. final: after the last step. All processes decide alike."""
        if self.wanted is None:
            return False
        if final:
            return self.wanted.keep_final
        if self._samples is not None:
            return at.samples // self._samples > self._last_samples // self._samples
        if self._seconds is None:
            return False
        due = time.monotonic() - self._last_time >= self._seconds
        return self._ranks.add_counts(due) != [0]

    def save(self, at: Position, observer_state: Mapping[str, Any]) -> None:
        """Write a checkpoint; nothing where none was asked for."""
        if self.wanted is None or self._folder is None:
            return
        state = {"setup": self.setup, "position": asdict(at), "observer": observer_state}
        checkpoint.save(self._folder, at.step, state, self._ranks, self._optimizer, self._scaler, keep=self.wanted.keep)
        self._last_samples, self._last_time = at.samples, time.monotonic()

    def clear(self) -> None:
        """Remove what a run that has ended for good would only be continued from by mistake."""
        if self.wanted is not None and not self.wanted.keep_final and self._folder is not None and self._ranks.records:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self, saved: checkpoint.Saved) -> None:
        if self.wanted is None or not self.wanted.resume:
            raise LoopError(
                f"{saved.folder} holds a checkpoint of a run that was begun there",
                "checkpoints=Checkpoints() goes on from it; or another folder, or remove it",
            )
        checkpoint.check_same_setup(saved, self.setup)


def _every(wanted: Checkpoints | None, sizes: dict[str, int]) -> tuple[int | None, float | None]:
    """Samples, or seconds, between two checkpoints."""
    if wanted is None or wanted.every is None:
        return None, None
    interval = parse_interval(wanted.every, key="every", units=(*UNITS, *SECONDS))
    return (None, interval.seconds) if interval.seconds is not None else (interval.samples(**sizes), None)

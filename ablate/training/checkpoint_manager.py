"""Decides when a run is saved, and what it resumes from."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ablate.errors import LoopError
from ablate.records.layout import RunDir
from ablate.training import checkpoint
from ablate.training.distributed import Ranks
from ablate.training.state import Position
from ablate.units import SECONDS, UNITS, parse_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """When a run is saved, and how many checkpoints stay. A run that `should_stop` ends is saved as well.

    every: `500 steps`, `4096 samples`, `1 epochs`, or by the clock `5 minutes`; None saves only when the run is stopped.
    keep: number of checkpoints that stay, the newest ones.
    keep_final: save once more when the run has finished; otherwise a finished run leaves no checkpoint.
    resume: continue from the newest checkpoint in the run directory, if there is one. False refuses a directory that has one.
    """

    every: str | int | None = "5 minutes"
    keep: int = 1
    keep_final: bool = True
    resume: bool = True


class CheckpointManager:
    """Saves a run when it is due, and restores it.

    settings: None never saves.
    setup: settings that must be equal for a run to resume from a checkpoint.
    sizes: samples per step and per epoch.
    Raises LoopError for a checkpoint that was made with another setup, or that `settings` does not ask to resume from.
    """

    def __init__(
        self,
        settings: Checkpoints | None,
        run_dir: str | Path | None,
        setup: Mapping[str, Any],
        *,
        ranks: Ranks,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
        sizes: dict[str, int],
    ) -> None:
        self.settings, self.setup = settings, setup
        self._ranks, self._optimizer, self._scaler = ranks, optimizer, scaler
        self._folder = None if run_dir is None else RunDir(Path(run_dir)).checkpoint
        self._saved = None if self._folder is None else checkpoint.latest(self._folder)
        if settings is not None:
            checkpoint.check_can_hold(optimizer)
        if self._saved is not None:
            self._check(self._saved)
        state = self._saved.state if self._saved else {}
        self.position = Position(**state.get("position", {}))
        self.evaluated_at: int = state.get("evaluated_at", -1)
        self.recorder_state: dict[str, Any] | None = state.get("recorder")
        self._samples, self._seconds = _every(settings, sizes)
        self._last_samples, self._last_time = self.position.samples, time.monotonic()

    def load(self) -> None:
        """Restore weights, optimizer and scaler."""
        if self._saved is not None:
            self._saved.load(self._ranks, self._optimizer, self._scaler)

    def is_due(self, position: Position, *, final: bool) -> bool:
        """Return whether to save now; all processes decide alike. final: after the last step."""
        if self.settings is None:
            return False
        if final:
            return self.settings.keep_final
        if self._samples is not None:
            return position.samples // self._samples > self._last_samples // self._samples
        if self._seconds is None or not self._ranks.agrees_at(position.step):
            return False
        due = time.monotonic() - self._last_time >= self._seconds
        return self._ranks.sum_counts(due) != [0]

    def save(self, position: Position, recorder_state: Mapping[str, Any], *, evaluated_at: int) -> None:
        """Write a checkpoint; nothing where there are no settings for it."""
        if self.settings is None or self._folder is None:
            return
        state = {
            "setup": self.setup, "position": asdict(position), "evaluated_at": evaluated_at, "recorder": recorder_state,
        }  # fmt: skip
        checkpoint.save(
            self._folder, position.step, state, self._ranks, self._optimizer, self._scaler, keep=self.settings.keep
        )
        self._last_samples, self._last_time = position.samples, time.monotonic()

    def clear(self) -> None:
        """Remove the checkpoints of a run that has ended for good, unless the final one is kept."""
        if (
            self.settings is not None
            and not self.settings.keep_final
            and self._folder is not None
            and self._ranks.records
        ):
            shutil.rmtree(self._folder, ignore_errors=True)

    def _check(self, saved: checkpoint.Saved) -> None:
        if self.settings is None or not self.settings.resume:
            raise LoopError(
                f"{saved.folder} is a checkpoint of a run that was begun in this directory",
                "checkpoint=Checkpoints() resumes from it; or another run_dir, or remove it",
            )
        checkpoint.check_same_setup(saved, self.setup)


def _every(settings: Checkpoints | None, sizes: dict[str, int]) -> tuple[int | None, float | None]:
    """Return the samples, or the seconds, between two checkpoints."""
    if settings is None or settings.every is None:
        return None, None
    interval = parse_interval(settings.every, key="every", units=(*UNITS, *SECONDS))
    return (None, interval.seconds) if interval.seconds is not None else (interval.samples(**sizes), None)

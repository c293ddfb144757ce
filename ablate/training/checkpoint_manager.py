"""When a run is saved, and where it goes on: the loop's side of checkpoints."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ablate.errors import LoopError
from ablate.records.layout import RunDir
from ablate.training import checkpoint
from ablate.training.distributed import Ranks
from ablate.training.shared_prefix import Lend, Prefix, begin, prune, remove_after
from ablate.training.state import Position
from ablate.units import SECONDS, UNITS, parse_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """When a run is saved, and what becomes of it. Ending a run by `stop` saves it as well, whatever stands here.

    every: `500 steps`, `4096 samples`, `1 epochs`, or by the clock `5 minutes`; None saves only when the run is stopped.
    keep: how many are kept, the newest ones.
    keep_final: save once more when the run has finished; otherwise a finished run leaves no checkpoint.
    resume: go on from the newest one that lies in the run's folder, if there is one. False refuses a folder that holds one.
    lend: what is left for siblings that begin with the same steps. prefix: where this run begins itself, as long as it has no
        checkpoint of its own.
    """

    every: str | int | None = "5 minutes"
    keep: int = 1
    keep_final: bool = True
    resume: bool = True
    lend: Lend | None = None
    prefix: Prefix | None = None


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
        self._run = None if folder is None else RunDir(Path(folder))
        self._saved = None if self._run is None else checkpoint.latest(self._run.checkpoint)
        if wanted is not None:
            checkpoint.check_can_hold(optimizer)
        if self._saved is not None:
            self._check(self._saved)
        elif wanted is not None and wanted.prefix is not None and self._run is not None:
            self._saved = begin(wanted.prefix, setup, self._run, records=ranks.records)
        state = self._saved.state if self._saved else {}
        self.position = Position(**state.get("position", {}))
        self.observer_state: dict[str, Any] | None = state.get("observer")
        self._samples, self._seconds = _every(wanted, sizes)
        self._last_samples, self._last_time = self.position.samples, time.monotonic()
        self._lend = None if wanted is None else wanted.lend
        if self._run is not None and ranks.records:
            remove_after(self._run.lent, self.position.step)

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
        if self.wanted is None or self._run is None:
            return
        self._write(self._run.checkpoint, at, observer_state, keep=self.wanted.keep)
        self._last_samples, self._last_time = at.samples, time.monotonic()

    def lend_if_due(self, at: Position, observer_state: Callable[[], Mapping[str, Any]]) -> None:
        """Leave a checkpoint for siblings where one is of use. A run does not fail because it could not do them this favour."""
        if self._lend is None or self._run is None or not self._lend.may_be_wanted(at.step):
            return
        state = observer_state()
        if not self._lend.is_wanted(at.step, state["largest_norm"]):
            return
        try:
            self._write(self._run.lent, at, state, keep=None)
        except (OSError, SafetensorError) as error:  # a full disk, mostly
            shutil.rmtree(self._run.lent, ignore_errors=True)
            warnings.warn(f"no checkpoint is left for siblings: {error}", stacklevel=2)
            self._ranks.wait()
            return
        if self._ranks.records:
            prune(self._run.lent, self._lend)

    def clear(self) -> None:
        """Remove what a run that has ended for good would only be continued from by mistake."""
        if self.wanted is not None and not self.wanted.keep_final and self._run is not None and self._ranks.records:
            shutil.rmtree(self._run.checkpoint, ignore_errors=True)

    def _write(self, folder: Path, at: Position, observer_state: Mapping[str, Any], *, keep: int | None) -> None:
        state = {"setup": self.setup, "position": asdict(at), "observer": observer_state}
        checkpoint.save(folder, at.step, state, self._ranks, self._optimizer, self._scaler, keep=keep)

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

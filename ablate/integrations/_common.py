"""What the callbacks of every trainer share: one Recorder, and the step in progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ablate.errors import LoopError
from ablate.integrations.recorder import Gradient, Recorder, run_identity
from ablate.training.fingerprint import setting_items
from ablate.training.grad_norms import Grouping
from ablate.training.lr_schedule import LRSchedule
from ablate.training.precision import Precision


@dataclass(slots=True)
class Step:
    """Step in progress: loss [] and samples summed over its forward passes."""

    gradient: Gradient | None = None
    learning_rate: float = nan
    loss_scale: torch.Tensor | float = 1.0
    loss: torch.Tensor | float = 0.0
    samples: int = 0


class TrainerTrace:
    """Base of the callbacks: the record of one run of a trainer."""

    def __init__(
        self,
        run_dir: str | Path,
        config: Mapping[str, Any] | None,
        arm: str | None,
        seed: int | None,
        grad_norm_groups: Grouping | None,
        facts: Mapping[str, Any] | None,
        num_samples: Callable[[Any], int] | None,
    ) -> None:
        run_identity(Path(run_dir), arm, seed)  # raises here rather than at the first step
        self.config, self.facts, self.num_samples = config, dict(facts or {}), num_samples or count_samples
        self._recorder = partial(Recorder, run_dir, arm=arm, seed=seed, grad_norm_groups=grad_norm_groups)
        self._run: Recorder | None = None
        self._step = Step()

    def _open(
        self,
        wrapped: nn.Module,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: str,
        max_grad_norm: float | None,
        dataset: Any,
        settings: Mapping[str, Any],
    ) -> None:
        """Begin the record.

        wrapped: the model as it is trained, perhaps by several processes. model: the same without the wrapper.
        precision: as in `Precision`.
        dataset: training set, for the column `epoch`; it may have no length.
        settings: what the trainer knows, unless the user gave `config`.
        """
        device = next(model.parameters()).device
        # The schedule of a trainer is its own and is not part of the fingerprint.
        items = setting_items(
            optimizer, Precision(precision, device), schedule=LRSchedule(), max_grad_norm=max_grad_norm, model=model
        )
        facts = {name: items[name] for name in ("optimizer", "precision", "max_grad_norm")} | self.facts
        config = settings if self.config is None else self.config
        self._run = self._recorder(
            wrapped, facts=facts, samples_per_epoch=length_of(dataset), config=config
        ).__enter__()
        self._step = Step()

    def _close(self, error: BaseException | None) -> None:
        """End the record: finished without an error, else failed or interrupted. Does nothing if there is none."""
        if self._run is not None:
            run, self._run = self._run, None
            run.__exit__(None if error is None else type(error), error, None)


def count_samples(batch: Any) -> int:
    """Return the length of the first tensor in a nested batch. Raises LoopError for a batch without one."""
    first = _first(batch)
    if first is None:
        raise LoopError(
            f"a batch of type {type(batch).__name__} holds no tensor to count its samples by",
            "TraceCallback(..., num_samples=lambda batch: ...)",
        )
    return len(first)


def _first(batch: Any) -> torch.Tensor | None:
    if isinstance(batch, torch.Tensor):
        return batch if batch.dim() else None
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((first for part in parts if (first := _first(part)) is not None), None)


def length_of(dataset: Any) -> int | None:
    """Return the number of examples; None for a dataset without a length."""
    try:
        return len(dataset)
    except TypeError:
        return None

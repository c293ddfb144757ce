"""What a trainer of somebody else has set, as items of a fingerprint."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ablate.loop.fingerprint import setting_items
from ablate.loop.precision import Precision
from ablate.loop.schedule import Schedule


def trainer_items(
    optimizer: torch.optim.Optimizer, model: nn.Module, *, precision: str, clip_norm: float | None
) -> dict[str, Any]:
    """`optimizer`, `precision` and `clip_norm`. precision: as in `Precision`; the trainer's schedule is its own."""
    device = next(model.parameters()).device
    items = setting_items(
        optimizer, Precision(precision, device), schedule=Schedule("constant", 0.0, 1), clip_norm=clip_norm, model=model
    )
    return {name: items[name] for name in ("optimizer", "precision", "clip_norm")}

"""How many samples a batch holds, whatever it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import nn

from ablate.errors import LoopError
from ablate.training.fingerprint import setting_items
from ablate.training.lr_schedule import Schedule
from ablate.training.precision import Precision


def num_samples(batch: Any) -> int:
    """Length of the first tensor in a nested batch. Raises LoopError for a batch without one."""
    found = _first(batch)
    if found is None:
        raise LoopError(
            f"a batch of type {type(batch).__name__} holds no tensor to count its samples by",
            "TraceCallback(..., num_samples=lambda batch: ...)",
        )
    return len(found)


def _first(batch: Any) -> torch.Tensor | None:
    if isinstance(batch, torch.Tensor):
        return batch if batch.dim() else None
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return next((found for part in parts if (found := _first(part)) is not None), None)


# What a trainer of somebody else has set, as items of a fingerprint.


def trainer_items(
    optimizer: torch.optim.Optimizer, model: nn.Module, *, precision: str, max_grad_norm: float | None
) -> dict[str, Any]:
    """`optimizer`, `precision` and `max_grad_norm`. precision: as in `Precision`; the trainer's schedule is its own."""
    device = next(model.parameters()).device
    items = setting_items(
        optimizer,
        Precision(precision, device),
        schedule=Schedule("constant", 0.0, 1),
        max_grad_norm=max_grad_norm,
        model=model,
    )
    return {name: items[name] for name in ("optimizer", "precision", "max_grad_norm")}


# A method of somebody else's object, wrapped for a while.


@contextmanager
def wrapped(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """Inside, `owner.name(...)` is `around(original, ...)`; afterwards it is as it was. Other objects of its class are not
    touched."""
    original, own = getattr(owner, name), vars(owner).get(name)
    setattr(owner, name, wraps(original)(partial(around, original)))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)

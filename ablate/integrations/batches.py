"""How many samples a batch holds, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ablate.errors import LoopError


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

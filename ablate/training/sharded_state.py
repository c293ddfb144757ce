"""State of a model that FSDP2 shards. Imported only for such a model: torch's module takes half a second to import."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the whole optimizer state on the host, in the first process; every process must call this."""
    return get_optimizer_state_dict(model, optimizer, options=_WHOLE)


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load each process's part of a whole optimizer state."""
    set_optimizer_state_dict(model, optimizer, state, options=_WHOLE)


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load each process's part of whole weights."""
    set_model_state_dict(model, dict(weights), options=_WHOLE)

"""The loop that anybody would write by hand, in plain PyTorch. `train` has to give its numbers, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn


def train_by_hand(
    model: nn.Module,
    steps: Sequence[Sequence[Any]],
    loss_of: Callable[[nn.Module, Any], tuple[torch.Tensor, int]],
    optimizer: torch.optim.Optimizer,
    *,
    rates: Sequence[float],
    max_grad_norm: float | None,
    autocast: torch.dtype | None,
    dropout: Callable[[int, int], Any] = lambda step, micro: nullcontext(),
) -> tuple[list[float], list[float]]:
    """Losses and gradient norms (before clipping) of every step. steps: the micro-batches of each; loss_of: sum and count."""
    losses, norms = [], []
    for step, micro_batches in enumerate(steps):
        total, count = torch.zeros(()), sum(len(batch[1]) for batch in micro_batches)
        for micro, batch in enumerate(micro_batches):
            with dropout(step, micro), torch.autocast("cpu", autocast, enabled=autocast is not None):
                loss, _ = loss_of(model, batch)
            (loss / count).backward()
            total += loss.detach()
        norms.append(
            nn.utils.clip_grad_norm_(model.parameters(), float("inf") if max_grad_norm is None else max_grad_norm)
        )
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total / count)
    return torch.stack(losses).tolist(), torch.stack(norms).tolist()

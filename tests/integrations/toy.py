"""A network that both trainers and a loop by hand can train, and that loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ablate import Streams
from tests.training.toy import points

BATCH, RATE = 4, 0.5


class Network(nn.Module):
    """Gives what Hugging Face's Trainer wants; no `**kwargs`, so that it divides the loss by the number of passes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with Streams(seed=seed).scope("init"):
            self.body = nn.Sequential(nn.Linear(10, 16), nn.ReLU())
            self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.body(x))
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


def examples(num: int, seed: int = 0) -> list[dict[str, Any]]:
    return [{"x": x, "labels": int(y)} for x, y in points(num, seed)]


@dataclass
class Step:
    loss: float
    norm: float
    groups: tuple[float, float]
    """Of `body` and `head`."""


def by_hand(
    steps: int, *, grad_accum_steps: int = 1, max_grad_norm: float | None = None, autocast: bool = False
) -> tuple[nn.Module, list[Step]]:
    """Plain SGD over `examples` in their order, round and round; nothing of ours measures."""
    model, rows = Network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    x, y = points(10 * BATCH).tensors
    for step in range(steps):
        total = 0.0
        for micro in range(grad_accum_steps):
            start = (step * grad_accum_steps + micro) * BATCH % len(x)
            batch = slice(start, start + BATCH)
            context: AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
            with context:
                loss = model(x[batch], y[batch])["loss"] / grad_accum_steps
            loss.backward()
            total += loss.item()
        groups = (_norm(model.body.parameters()), _norm(model.head.parameters()))
        rows.append(Step(total, _norm(model.parameters()), groups))
        if max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return model, rows


def _norm(parameters: Any) -> float:
    grads: Sequence[torch.Tensor] = [p.grad for p in parameters if p.grad is not None]
    return float(torch.cat([grad.flatten() for grad in grads]).norm())

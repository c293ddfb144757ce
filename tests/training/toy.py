"""A small problem with a known answer: which side of a plane a point lies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from ablate import Evaluation, Streams, train
from ablate.training import trace_buffer as rows
from ablate.training.train import Result


def points(num: int = 256, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, 10, generator=generator)
    return TensorDataset(x, (2 * x[:, 0] + x[:, 1] > 0).long())


def network(seed: int = 0, dropout: float = 0.1) -> nn.Module:
    with Streams(seed=seed).scope("init"):
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 2))


def objective(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    x, y = batch
    return functional.cross_entropy(model(x), y, reduction="sum"), len(y)


def sample_losses(model: nn.Module, batch: Any) -> tuple[torch.Tensor, list[int]]:
    x, y = batch
    return functional.cross_entropy(model(x), y, reduction="none"), [1] * len(y)


def measure(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
    x, y = batch
    logits = model(x)
    return {
        "loss": functional.cross_entropy(logits, y, reduction="none"),
        "accuracy": (logits.argmax(-1) == y).float(),
    }


def jitter(example: Any, generator: np.random.Generator) -> Any:
    """An augmentation: a little noise on a point."""
    x, y = example
    return x + 0.1 * torch.from_numpy(generator.normal(size=x.shape)).float(), y


def rows_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace's rows believe that their numbers lie on another device, where reading them would wait."""
    plain = rows.TraceRows._allocate

    def allocate(self: rows.TraceRows, row: rows.DeviceRow) -> None:
        plain(self, row)
        self._on_host = False

    monkeypatch.setattr(rows.TraceRows, "_allocate", allocate)


def evaluation(every: str | int = "64 samples", **settings: Any) -> Evaluation:
    return Evaluation(examples=points(100, seed=9), measure=measure, every=every, **settings)


def run(
    model: nn.Module | None = None, *, seed: int = 0, lr: float = 1e-2, fused: bool = True, **settings: Any
) -> tuple[nn.Module, Result]:
    model = network(seed) if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=fused)
    settings = {"budget": "256 samples", "batch_size": 8, "streams": Streams(seed=seed), "device": "cpu"} | settings
    examples = settings.pop("examples", points())
    goal = settings.pop("objective", objective)
    return model, train(model, examples, goal, optimizer=optimizer, **settings)

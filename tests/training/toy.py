"""A small problem with a known answer: the side of a plane on which a point is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from ablate import (
    Evaluation,
    Loader,
    LRSchedule,
    RandomStreams,
    Recording,
    SubsampledLoss,
    TrainResult,
    train,
)
from ablate.training import trace_buffer as rows


def points(num: int = 256, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, 10, generator=generator)
    return TensorDataset(x, (2 * x[:, 0] + x[:, 1] > 0).long())


def network(seed: int = 0, dropout: float = 0.1) -> nn.Module:
    with RandomStreams(seed=seed).scope("init"):
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 2))


def loss_fn(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
    x, y = batch
    return functional.cross_entropy(model(x), y, reduction="sum"), len(y)


def sample_losses(model: nn.Module, batch: Any) -> tuple[torch.Tensor, list[int]]:
    x, y = batch
    return functional.cross_entropy(model(x), y, reduction="none"), [1] * len(y)


def items_per_sample(batch: Any) -> list[int]:
    return [1] * len(batch[1])


def metric_fn(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
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
    """Make a trace's rows take their numbers to be on another device, where reading them would wait."""
    plain = rows.TraceRows._allocate

    def allocate(self: rows.TraceRows, row: rows.DeviceRow) -> None:
        plain(self, row)
        self._on_host = False

    monkeypatch.setattr(rows.TraceRows, "_allocate", allocate)


def evaluation(every: str | int = "64 samples", **settings: Any) -> Evaluation:
    return Evaluation(points(100, seed=9), metric_fn, every=every, **settings)


def arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `train`: settings of `Loader` and `Recording` are grouped, the schedule gets its warm-up."""
    groups: dict[str, Any] = {}
    for name, group in (("loader", Loader), ("recording", Recording)):
        names = {field.name for field in fields(group)} & set(settings)
        groups[name] = group(**{key: settings[key] for key in names})
        settings = {key: value for key, value in settings.items() if key not in names}
    if warmup := settings.pop("warmup_ratio", None):
        settings["lr_schedule"] = LRSchedule(settings["lr_schedule"], warmup)
    return settings | groups


def run(
    model: nn.Module | None = None, *, seed: int = 0, lr: float = 1e-2, fused: bool = True, **settings: Any
) -> tuple[nn.Module, TrainResult]:
    """Train the small network. noise_batch_size, sample_losses: train on `SubsampledLoss`."""
    model = network(seed) if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=fused)
    defaults = {"budget": "256 samples", "batch_size": 8, "random_streams": RandomStreams(seed=seed), "device": "cpu"}
    settings = arguments(defaults | settings)
    dataset = settings.pop("dataset", points())
    goal = settings.pop("loss_fn", loss_fn)
    losses, drawn = settings.pop("sample_losses", None), settings.pop("noise_batch_size", None)
    if drawn is not None:
        goal = subsampled(settings, losses, drawn)
    return model, train(model, dataset, goal, optimizer=optimizer, **settings)


def subsampled(settings: dict[str, Any], losses: Any, drawn: int) -> SubsampledLoss:
    """A loss over the drawn samples; prepares the loader and the recording in `settings` for it."""
    goal = SubsampledLoss(
        losses, drawn, settings["random_streams"], items_per_sample=settings.pop("items_per_sample", None)
    )
    size = settings["batch_size"] * settings.get("grad_accum_steps", 1)
    prepared = goal.prepare(settings["loader"], settings["recording"], samples_per_step=size)
    settings["loader"], settings["recording"] = prepared
    return goal

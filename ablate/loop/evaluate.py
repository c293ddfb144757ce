"""Evaluation: sums and counts over examples, never a mean of batch means; leaves no trace in the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ablate.loop.precision import Precision

Measure = Callable[[nn.Module, Any], Mapping[str, torch.Tensor]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What is looked at, how, and when.

    examples: a map-style data set. measure(model, batch) gives every metric per example: {"loss": [batch], ...}.
    order: positions in the order in which they are batched (by length, say); None keeps theirs. The result is the same.
    every: `20 steps`, `64 samples` or `0.1 epochs`, used when spacing is `even`; num_looks: used when it is `log`.
    """

    examples: Any
    measure: Measure
    every: str | int = "20 steps"
    spacing: str = "even"
    num_looks: int = 20
    batch_size: int = 64
    order: Sequence[int] | None = None
    split: str = "held_out"


def evaluate(
    model: nn.Module, evaluation: Evaluation, collate: Callable[[list[Any]], Any], precision: Precision
) -> dict[str, tuple[float, int]]:
    """{metric: (sum over the examples, number of examples)}. Every module's train/eval mode is as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    order = list(evaluation.order) if evaluation.order is not None else list(range(len(evaluation.examples)))
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(order), evaluation.batch_size):
                chosen = order[start : start + evaluation.batch_size]
                batch = to_device(collate([evaluation.examples[k] for k in chosen]), precision.device)
                with precision.autocast():
                    measured = evaluation.measure(model, batch)
                for name, values in measured.items():
                    # float64: the sum over 25,000 examples must not depend on how they were batched
                    sums[name] = sums.get(name, 0.0) + values.double().sum()
                    counts[name] = counts.get(name, 0) + values.numel()
    finally:
        for module, mode in modes:
            module.training = mode
    return {name: (float(total), counts[name]) for name, total in sums.items()}


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of a nested batch."""
    if isinstance(batch, torch.Tensor):
        if device.type == "cuda" and batch.device.type == "cpu":
            return batch.pin_memory().to(device, non_blocking=True)
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch

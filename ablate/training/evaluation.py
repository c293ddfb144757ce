"""The best look of every metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ablate.errors import LoopError
from ablate.metric_direction import lower_is_better
from ablate.training.distributed import Ranks
from ablate.training.precision import Precision
from ablate.training.predictions import Kept


class Best:
    """The best evaluation of every metric whose name says which side is better.

    values: {metric: {"value", "step"}}.
    """

    def __init__(self, values: Mapping[str, Mapping[str, float]] | None = None) -> None:
        given = (values or {}).items()
        self.values = {name: {"value": float(best["value"]), "step": best["step"]} for name, best in given}

    def update(self, means: Mapping[str, float], step: int) -> None:
        """Take in one evaluation. means: by metric. Equal values keep the earlier step; nan is never best."""
        for name, value in means.items():
            lower = lower_is_better(name)
            if lower is None or math.isnan(value):
                continue
            sign = -1 if lower else 1
            if name not in self.values or sign * value > sign * self.values[name]["value"]:
                self.values[name] = {"value": value, "step": step}


# Evaluation: sums and counts over examples, never a mean of batch means; leaves no trace in the training.

Measure = Callable[[nn.Module, Any], Mapping[str, torch.Tensor]]
Stop = Callable[[], str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What is looked at, how, and when.

    examples: a map-style data set. measure(model, batch) gives every metric per example: {"loss": [batch], ...}.
    order: positions in the order in which they are batched (by length, say); None keeps theirs. The result is the same.
    keep_examples: keep what the final evaluation gives of each example, where the run has a folder. ids: who the examples are,
        the same in every arm; None takes their positions. groups: of examples that were drawn together, such as the pieces of
        one document; None takes each by itself. items(batch): how many values of the metrics each example of a batch on the
        host has, one after the other; None where they have one each.
    every: `20 steps`, `64 samples` or `0.1 epochs`, used when spacing is `even`; num_evaluations: used when it is `log`.
    """

    examples: Any
    measure: Measure
    every: str | int = "20 steps"
    spacing: str = "even"
    num_evaluations: int = 20
    batch_size: int = 64
    keep_examples: bool = True
    order: Sequence[int] | None = None
    split: str = "held_out"
    ids: Sequence[int] | None = None
    groups: Sequence[int] | None = None
    items: Callable[[Any], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        for name, given in (("ids", self.ids), ("groups", self.groups)):
            if given is not None and len(given) != len(self.examples):
                raise LoopError(
                    f"Evaluation({name}=...) has {len(given)} entries for {len(self.examples)} examples",
                    f"{name}=None, or one for each example",
                )


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one metric over the examples."""

    total: float
    sum_squares: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @classmethod
    def of(cls, sums: torch.Tensor) -> Measured:
        """sums: as `sums_of` makes them. Waits for the device."""
        total, squares, count = sums.tolist()
        return cls(total, squares, round(count))


def evaluate(
    evaluation: Evaluation,
    collate: Callable[[list[Any]], Any],
    precision: Precision,
    ranks: Ranks,
    stop: Stop = lambda: None,
    keep: Kept | None = None,
) -> dict[str, Measured] | None:
    """Every metric over all examples; None when `stop` gave a reason on the way.

    keep: takes what each example gave.

    Draws from no generator, and every module's train/eval mode is as it was afterwards. Several processes share the work.
    """
    model = ranks.model if ranks.sharded else ranks.bare
    modes = [(module, module.training) for module in model.modules()]
    order = list(evaluation.order) if evaluation.order is not None else list(range(len(evaluation.examples)))
    sums: dict[str, torch.Tensor] = {}  # per metric, fp64 [3]: sum, sum of squares, count
    model.eval()
    try:
        # Not inference_mode: what a model keeps of its first forward pass (a cached mask, a weight that FSDP gathers) could
        # then not be used in training, and evaluation would leave a trace.
        with torch.no_grad():
            for start in range(0, len(order), evaluation.batch_size):
                if ranks.agree(stop()) is not None:
                    return None
                chosen, counts = ranks.share(order[start : start + evaluation.batch_size])
                on_host = collate([evaluation.examples[k] for k in chosen])
                items = (
                    None if evaluation.items is None else evaluation.items(on_host)
                )  # a mistake shows at the first look
                batch = to_device(on_host, precision.device)
                with precision.autocast():
                    measured = evaluation.measure(model, batch)
                if keep is not None and counts:
                    keep.add(chosen, items, measured)
                for name, values in measured.items():
                    own = sums_of(values) if counts else torch.zeros(3, dtype=torch.float64, device=values.device)
                    sums[name] = sums.get(name, 0.0) + own
            return {name: Measured.of(ranks.add(one)) for name, one in sums.items()}
    finally:
        for module, mode in modes:
            module.training = mode


def sums_of(values: torch.Tensor) -> torch.Tensor:
    """[sum, sum of squares, count] in fp64: the sum over 25,000 examples must not depend on how they were batched."""
    values = values.detach().double()
    return torch.stack([values.sum(), values.square().sum(), values.new_full((), values.numel())])


def to_device(batch: Any, device: torch.device) -> Any:
    """Move every tensor of a nested batch; to a GPU from pinned memory, so that the host goes on meanwhile."""
    if isinstance(batch, torch.Tensor):
        if device.type == "cuda" and batch.device.type == "cpu":
            return batch.pin_memory().to(device, non_blocking=True)
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch

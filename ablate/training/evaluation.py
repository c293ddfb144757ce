"""Evaluation: sums and counts over examples, never a mean of batch means. It leaves no trace in the training."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import nn

from ablate.errors import LoopError
from ablate.metric_direction import lower_is_better
from ablate.training.distributed import Ranks
from ablate.training.precision import Precision
from ablate.training.predictions import Columns, Predictions
from ablate.units import evaluation_points, parse_interval

MetricFn = Callable[[nn.Module, Any], Mapping[str, torch.Tensor]]


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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The examples on which the model is evaluated during training, the metrics, and how often.

    dataset: a map-style data set.
    metric_fn: (model, batch) -> every metric per example, {"loss": [batch], ...}.
    every: `20 steps`, `64 samples` or `0.1 epochs`, used with even spacing.
    spacing: `even`, or `log` for `num_evaluations` that are dense early and sparse late.
    batch_size: examples of one forward pass; the result does not depend on it.
    save_predictions: store what the final evaluation gives for each example, where the run has a directory.
    order: indices in the order in which they are batched (by length, say); None keeps theirs. The result is the same.
    split: name of the examples in the record.
    sample_ids: identity of each example, the same in every arm; None takes the index.
    groups: group of each example, for examples that were drawn together, such as the pieces of one document; None takes each by
        itself.
    items_per_sample: batch on the host -> number of values of each example in the metrics, in their order; None for one each.
    """

    dataset: Any
    metric_fn: MetricFn
    _: KW_ONLY
    every: str | int = "20 steps"
    spacing: str = "even"
    num_evaluations: int = 20
    batch_size: int = 64
    save_predictions: bool = True
    order: Sequence[int] | None = None
    split: str = "held_out"
    sample_ids: Sequence[int] | None = None
    groups: Sequence[int] | None = None
    items_per_sample: Callable[[Any], Sequence[int]] | None = None

    def __post_init__(self) -> None:
        for name, given in (("sample_ids", self.sample_ids), ("groups", self.groups)):
            if given is not None and len(given) != len(self.dataset):
                raise LoopError(
                    f"Evaluation({name}=...) has {len(given)} entries for {len(self.dataset)} examples",
                    f"{name}=None, or one for each example",
                )

    def points(self, total_samples: int, *, samples_per_step: int, samples_per_epoch: int) -> list[int]:
        """Return the numbers of training samples after which to evaluate, rising; 0 is not included."""
        return evaluation_points(
            every=parse_interval(self.every, key="every"), spacing=self.spacing, count=self.num_evaluations,
            total_samples=total_samples, samples_per_step=samples_per_step, samples_per_epoch=samples_per_epoch,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricSum:
    """A metric summed over the examples of one evaluation."""

    total: float
    sum_squares: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @classmethod
    def of(cls, sums: torch.Tensor) -> MetricSum:
        """Read what `sums_of` made. Waits for the device."""
        total, squares, count = sums.tolist()
        return cls(total, squares, round(count))


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One evaluation. seconds: its wall time. num_samples: examples evaluated. predictions: of each example, where stored."""

    metrics: Mapping[str, MetricSum]
    seconds: float
    num_samples: int
    split: str
    predictions: Columns | None = None


class Evaluator:
    """Evaluates a model when it is due.

    points: numbers of training samples after which to evaluate, rising; 0 (before training) comes on top of them.
    collate: makes a batch from a list of examples.
    """

    def __init__(
        self,
        evaluation: Evaluation | None,
        points: Sequence[int],
        *,
        collate: Callable[[list[Any]], Any],
        precision: Precision,
        ranks: Ranks,
    ) -> None:
        self.evaluation, self.points = evaluation, points
        self.collate, self.precision, self.ranks = collate, precision, ranks
        self.evaluated_at = -1
        """Training samples at the last evaluation; -1 before the first."""

    def is_due(self, samples: int) -> bool:
        """Return whether to evaluate after `samples` training samples: before training, and wherever a point was passed."""
        if self.evaluation is None or samples == self.evaluated_at:
            return False
        following = bisect_right(self.points, self.evaluated_at)
        passed = following < len(self.points) and self.points[following] <= samples
        return passed or self.evaluated_at < 0

    def run(
        self, samples: int, should_stop: Callable[[], str | None] = lambda: None, *, final: bool = False
    ) -> EvalResult | None:
        """Evaluate; None where `should_stop` gives a reason before all examples are evaluated.

        final: collect the predictions of each example, if the evaluation saves them.
        """
        assert self.evaluation is not None
        evaluation, device = self.evaluation, self.precision.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # queued training is not billed to the evaluation
        began = time.perf_counter()
        predictions = Predictions() if final and evaluation.save_predictions else None
        metrics = self._sum_metrics(evaluation, should_stop, predictions)
        if metrics is None:
            return None
        columns = None
        if predictions is not None:
            columns = predictions.columns(self.ranks, evaluation.sample_ids, evaluation.groups)
        self.evaluated_at = samples
        seconds = time.perf_counter() - began
        return EvalResult(metrics, seconds, len(evaluation.dataset), evaluation.split, columns)

    def _sum_metrics(
        self, evaluation: Evaluation, should_stop: Callable[[], str | None], predictions: Predictions | None
    ) -> dict[str, MetricSum] | None:
        """Sum every metric over all examples; the processes share the work.

        Draws from no generator, and restores the train or eval mode of every module.
        """
        model = self.ranks.model if self.ranks.sharded else self.ranks.bare
        modes = [(module, module.training) for module in model.modules()]
        order = list(evaluation.order) if evaluation.order is not None else list(range(len(evaluation.dataset)))
        sums: dict[str, torch.Tensor] = {}
        model.eval()
        try:
            # Not inference_mode: what a model caches in its first forward pass (a mask, a weight that FSDP gathers) could then
            # not be used in training, and evaluation would leave a trace.
            with torch.no_grad():
                for start in range(0, len(order), evaluation.batch_size):
                    if should_stop() is not None:
                        return None
                    indices, included = self.ranks.share(order[start : start + evaluation.batch_size])
                    on_host = self.collate([evaluation.dataset[index] for index in indices])
                    # Called for every batch: a mistake in it shows at the first evaluation, not at the last.
                    items = None if evaluation.items_per_sample is None else evaluation.items_per_sample(on_host)
                    with self.precision.autocast():
                        metrics = evaluation.metric_fn(model, to_device(on_host, self.precision.device))
                    if predictions is not None and included:
                        predictions.add(indices, items, metrics)
                    for name, values in metrics.items():
                        own = sums_of(values) if included else values.new_zeros(3, dtype=torch.float64)
                        sums[name] = sums.get(name, 0.0) + own
                return {name: MetricSum.of(self.ranks.sum(values)) for name, values in sums.items()}
        finally:
            for module, mode in modes:
                module.training = mode


def sums_of(values: torch.Tensor) -> torch.Tensor:
    """Return [sum, sum of squares, count] in fp64: a sum over 25,000 examples must not depend on how they were batched."""
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

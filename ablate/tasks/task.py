"""A task: everything that `train` needs to know of what is trained, and the evaluation that a config sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from ablate.config.schema import Config, TrainConfig
from ablate.data.batching import Samples, with_spans
from ablate.training.data_loading import Collate, Loader
from ablate.training.evaluation import Evaluation, MetricFn
from ablate.training.gradient_noise import ItemsPerSample, SampleLosses
from ablate.training.train import LossFn


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The arguments of `train` that depend on what is trained.

    model: on the CPU, its weights drawn from the `init` stream.
    dataset: a map-style data set. `collate` makes a batch from a list of its examples.
    loss_fn: (model, batch) -> (sum of the losses of the batch's items, number of items).
    sample_losses: (model, batch) -> (sum of the losses of each sample's items [samples], number of items of each sample, on the
        host); needed by `train.noise_batch_size` alone.
    items_per_sample: batch on the host -> number of loss items of each sample. With it the items of an optimizer step are
        counted before its forward passes, see `Loader.count_items`.
    evaluation: None never evaluates; `make_evaluation` makes one that evaluates as often as the config sets.
    count_tokens: batch on the host -> number of real tokens, for the trace.
    sample_ids: identity of each training sample in the whole pool, the same in every arm; None takes the index.
    facts: items for the fingerprint, such as {"splits": {"train": hash}}; {"data": {"source": digest}} identifies the data.
    hub: {"model" or "data": {"name", "revision"}} of what came from a hub.
    """

    model: nn.Module
    dataset: Any
    loss_fn: LossFn
    sample_losses: SampleLosses | None = None
    items_per_sample: ItemsPerSample | None = None
    evaluation: Evaluation | None = None
    collate: Collate = default_collate
    count_tokens: Callable[[Any], int] | None = None
    sample_ids: Sequence[int] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, dict[str, str]] = field(default_factory=dict)

    def loader(self, *, num_workers: int = 0) -> Loader:
        """Return how `train` makes and counts this task's batches."""
        items = self.items_per_sample
        return Loader(
            collate=self.collate,
            num_workers=num_workers,
            sample_ids=self.sample_ids,
            count_items=None if items is None else lambda batch: sum(items(batch)),
            count_tokens=self.count_tokens,
        )


def speed_up(model: nn.Module, config: TrainConfig) -> str:
    """Compile the model, or leave padding out of its layers, as `loop` sets. Returns what is done about padding, in words."""
    if config.compile:
        # One graph for all lengths. Padding stays: leaving it out depends on the batch, and would break the graph.
        model.compile(dynamic=True)
        return "kept: the model is compiled"
    from ablate.models.unpadding import leave_unread, prepare_masks, unpad

    why_not = unpad(model) if config.unpad else "train.unpad=false"
    if why_not is not None:
        if any(p.is_cuda for p in model.parameters()):
            prepare_masks(model)
        return f"kept: {why_not}"
    return "left out" + (", and the last layer computed for first tokens only" if leave_unread(model) is None else "")


def make_evaluation(
    config: Config,
    dataset: Any,
    metric_fn: MetricFn,
    *,
    sample_ids: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    items_per_sample: Callable[[Any], Sequence[int]] | None = None,
) -> Evaluation:
    """Return an `Evaluation` of a map-style data set that runs as often as the config sets.

    metric_fn: (model, batch) -> {metric: [batch]}.
    sample_ids, groups, items_per_sample: as in `Evaluation`.
    """
    return Evaluation(
        dataset,
        metric_fn,
        every=config.eval.every,
        spacing=config.eval.spacing,
        num_evaluations=config.eval.num_evaluations,
        batch_size=config.eval.batch_size,
        order=dataset.by_length() if isinstance(dataset, Samples) else None,
        save_predictions=config.eval.save_predictions,
        sample_ids=sample_ids,
        groups=groups,
        items_per_sample=items_per_sample,
    )


def evaluation_of(task: Task, config: Config) -> Evaluation | None:
    """Return the task's evaluation; it saves predictions only if both the task and the config do."""
    evaluation = task.evaluation
    if evaluation is None:
        return None
    return replace(evaluation, save_predictions=evaluation.save_predictions and config.eval.save_predictions)


def count_tokens(batch: Any) -> int:
    """Count the real tokens of a padded batch on the host."""
    return int(batch["attention_mask"].sum())


def logits_of(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """Return the logits of a padded batch, in fp32 whatever autocast the model ran in."""
    mask = with_spans(batch["attention_mask"], batch["spans"])
    logits: torch.Tensor = model(input_ids=batch["input_ids"], attention_mask=mask).logits
    return logits.float()

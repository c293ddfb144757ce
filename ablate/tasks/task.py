"""What a task is to the loop, and which one a config asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import default_collate

from ablate.config.schema import Config, TrainConfig
from ablate.data.batching import Samples
from ablate.training.evaluation import Evaluation
from ablate.training.gradient_noise import SampleLosses


def no_tokens(batch: Any) -> int:  # noqa: ARG001
    """What is not made of tokens has none."""
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The arguments of `train` that depend on what is trained.

    model: on the CPU, its weights drawn from the `init` stream. examples: a map-style data set; `collate` makes a batch of a
        list of them. objective(model, batch) -> (sum of the losses of the batch's items, number of items).
    sample_losses(model, batch) -> (sum of the losses of each sample's items [samples], number of items of each sample, on the
        host): needed by `train.noise_batch_size` alone.
    evaluation: None never looks; `make_evaluation` makes one that looks when `observe` says.
    num_tokens(batch): real tokens in a batch on the host, for the trace.
    ids: identity of each training sample in the whole pool, the same in every arm; None takes the position.
    facts: items for the fingerprint, such as {"splits": {"train": hash}}; {"data": {"source": digest}} says which data it is.
    hub: {"model" or "data": {"name", "revision"}} of what came from a hub.
    """

    model: nn.Module
    examples: Any
    objective: Callable[[nn.Module, Any], tuple[torch.Tensor, int]]
    sample_losses: SampleLosses | None = None
    evaluation: Evaluation | None = None
    collate: Callable[[list[Any]], Any] = default_collate
    num_tokens: Callable[[Any], int] = no_tokens
    ids: Sequence[int] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, dict[str, str]] = field(default_factory=dict)


def quicken(model: nn.Module, config: TrainConfig) -> str:
    """Compile the model, or leave padding out of its layers, as `loop` asks. Returns what becomes of padding, in words."""
    if config.compile:
        # One graph for all lengths. Padding stays: what leaves it out depends on the batch, and would break the graph.
        model.compile(dynamic=True)
        return "kept: the model is compiled"
    if not config.unpad:
        return "kept: train.unpad=false"
    from ablate.models.unpadding import leave_unread, unpad

    why_not = unpad(model)
    if why_not is not None:
        return f"kept: {why_not}"
    return "left out" + (", and the last layer computed for first tokens only" if leave_unread(model) is None else "")


def make_evaluation(
    config: Config,
    examples: Any,
    measure: Callable[[nn.Module, Any], Any],
    *,
    ids: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    items: Callable[[Any], Sequence[int]] | None = None,
) -> Evaluation:
    """How `examples` are looked at, as `observe` says: a map-style data set, and measure(model, batch) -> {metric: [batch]}.

    ids, groups, items: as in `Evaluation`, for what is kept of each example.
    """
    return Evaluation(
        examples=examples,
        measure=measure,
        every=config.eval.every,
        spacing=config.eval.spacing,
        num_evaluations=config.eval.num_evaluations,
        batch_size=config.eval.batch_size,
        order=examples.by_length() if isinstance(examples, Samples) else None,
        keep_examples=config.eval.save_predictions,
        ids=ids,
        groups=groups,
        items=items,
    )


def evaluation_of(task: Task, config: Config) -> Evaluation | None:
    """The task's evaluation; whether its examples are kept is for `observe` to say, whoever made it."""
    made = task.evaluation
    return None if made is None else replace(made, keep_examples=made.keep_examples and config.eval.save_predictions)


def count_tokens(batch: Any) -> int:
    """Real tokens of a padded batch on the host."""
    return int(batch["attention_mask"].sum())

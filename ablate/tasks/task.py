"""What a task is to the loop, and which one a config asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ablate.config import Config, LoopConfig
from ablate.loop.evaluate import Evaluation
from ablate.loop.streams import Streams
from ablate.tasks.samples import Sample, Samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The arguments of `train` that depend on what is trained.

    ids: identity of each training sample in the whole pool, the same in every arm. facts: items for the fingerprint.
    """

    model: nn.Module
    examples: Samples
    objective: Callable[[nn.Module, Any], tuple[torch.Tensor, int]]
    evaluation: Evaluation
    collate: Callable[[list[Sample]], dict[str, Any]]
    num_tokens: Callable[[Any], int]
    ids: Sequence[int]
    facts: dict[str, Any]


def build_task(config: Config, streams: Streams) -> Task:
    """Load, split and tokenise the data and build the model of `task.name`, weights from the `init` stream.

    Raises DataError or ModelError.
    """
    if config.task.name == "causal_lm":
        from ablate.tasks.causal_lm import causal_lm

        return causal_lm(config, streams)
    from ablate.tasks.text_classification import text_classification

    return text_classification(config, streams)


def quicken(model: nn.Module, config: LoopConfig) -> str:
    """Compile the model, or leave padding out of its layers, as `loop` asks. Returns what becomes of padding, in words."""
    if config.compile:
        # One graph for all lengths. Padding stays: what leaves it out depends on the batch, and would break the graph.
        model.compile(dynamic=True)
        return "kept: the model is compiled"
    if not config.unpad:
        return "kept: loop.unpad=false"
    from ablate.tasks.unpad import unpad
    from ablate.tasks.unread import leave_unread

    why_not = unpad(model)
    if why_not is not None:
        return f"kept: {why_not}"
    return "left out" + (", and the last layer computed for first tokens only" if leave_unread(model) is None else "")


def make_evaluation(config: Config, examples: Samples, measure: Callable[[nn.Module, Any], Any]) -> Evaluation:
    """How `examples` are looked at, as `observe` says."""
    return Evaluation(
        examples=examples,
        measure=measure,
        every=config.observe.eval_every,
        spacing=config.observe.eval_spacing,
        num_looks=config.observe.eval_looks,
        batch_size=config.observe.eval_batch_size,
        order=examples.by_length(),
    )


def count_tokens(batch: Any) -> int:
    """Real tokens of a padded batch on the host."""
    return int(batch["attention_mask"].sum())

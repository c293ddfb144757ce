"""Quantities that follow from a config and its data: steps, evaluations, epochs. An axis declares each as held or accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from ablate.config.schema import Config
from ablate.units import evaluation_points, parse_interval

DERIVED = (
    "steps_per_epoch",
    "total_steps",
    "warmup_steps",
    "schedule_steps",
    "evaluations",
    "effective_batch",
    "samples_seen",
    "epochs",
    "train_examples",
    "eval_examples",
)
"""Known of every config. `parameters.count` and `parameters.trainable` join them where arms differ in the model."""

SPENT = ("tokens_seen", "flops")
"""What follows from a config as well, but is known only once the texts have been read: each run counts it."""


class Sizes(Protocol):
    """num_train: training examples. num_eval: examples of one evaluation. num_classes: 0 without labels.
    data, model: digests of the pool, and of the model's local files; '' where unknown. notes: sentences about the data."""

    @property
    def num_train(self) -> int: ...
    @property
    def num_eval(self) -> int: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def data(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


def derive(config: Config, sizes: Sizes, parameters: Mapping[str, int] | None = None) -> dict[str, float]:
    """The quantities of `DERIVED`, as the loop will have them, and those of the model where they were counted.

    parameters: `count` of the weights, and how many are `trainable`.
    steps_per_epoch: a fraction where the last step of an epoch reaches into the next one.
    total_steps: optimizer steps; the last one may be smaller. warmup_steps: those taken while the rate still rises.
    schedule_steps: those after them. evaluations: number of them, the one before training included.
    effective_batch: samples per optimizer step. epochs: passes over the training set.
    """
    samples = config.budget.samples(samples_per_step=config.samples_per_step, samples_per_epoch=sizes.num_train)
    total_steps = -(-samples // config.samples_per_step)
    # A step's rate is the schedule's at the middle of the step.
    warmup_steps = sum((step + 0.5) / total_steps < config.optim.warmup_ratio for step in range(total_steps))
    return {
        "steps_per_epoch": sizes.num_train / config.samples_per_step,
        "total_steps": total_steps,
        "warmup_steps": warmup_steps,
        "schedule_steps": total_steps - warmup_steps,
        "evaluations": _evaluations(config, samples, sizes.num_train),
        "effective_batch": config.samples_per_step,
        "samples_seen": samples,
        "epochs": samples / sizes.num_train,
        "train_examples": sizes.num_train,
        "eval_examples": sizes.num_eval,
        **{f"parameters.{name}": count for name, count in (parameters or {}).items()},
    }


def shape_of(config: Config) -> str:
    """What decides how many parameters a config's model has, the number of classes apart; equal texts have equal counts."""
    surgery = [typed for typed in config.model.module_edits if not typed.startswith("reinit:")]
    model = replace(config.model, init="random", dropout=None, reinit_top_layers=0, module_edits=surgery, pooling=None)
    return repr((model, config.task))


def _evaluations(config: Config, samples: int, samples_per_epoch: int) -> int:
    """Return the number of evaluations, the one before training included; those within one optimizer step are one."""
    points = evaluation_points(
        every=parse_interval(config.eval.every, key="eval.every"),
        spacing=config.eval.spacing,
        count=config.eval.num_evaluations,
        total_samples=samples,
        samples_per_step=config.samples_per_step,
        samples_per_epoch=samples_per_epoch,
    )
    return 1 + len({math.ceil(point / config.samples_per_step) for point in points})

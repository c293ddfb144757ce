"""`train.*`, `optim.*`, `checkpoint.*`, `random_streams.*` and `task.*`: how a run trains."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ablate.config.fields import check_fields, choice, number
from ablate.errors import ConfigError
from ablate.units import SECONDS, UNITS, parse_interval

OPTIMIZERS = ("adamw", "sgd", "rmsprop", "adagrad", "muon")
SCHEDULES = ("linear", "cosine", "constant", "wsd", "multistep")


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    budget: str = "1024 samples"
    """How long to train, in steps, samples or epochs; schedules are fractions of it."""
    grad_accum_steps: int = number(1, at_least=1)
    """Forward passes per optimizer step."""
    max_grad_norm: float | None = number(1.0, above=0)
    """Largest global gradient norm that is applied; None never clips."""
    noise_batch_size: int | None = number(None, at_least=1)
    """Give the gradient the noise of a batch of this size: of the samples of each step, this many are drawn at random, and only
    their gradient updates the weights. All samples are run, counted and recorded. None uses the gradient of all of them."""
    precision: str = choice("auto", "auto", "fp32", "tf32", "bf16", "fp16")
    """`fp32`, `tf32` (matrix products of a CUDA GPU keep 10 bits of the mantissa), `bf16`, `fp16` (with a gradient scaler), or
    `auto`: bf16 where the hardware computes in it (a CPU does with AVX512-BF16, AMX or Arm BF16), else fp16 on a GPU and fp32
    on a CPU."""
    device: str = "auto"
    """`auto` takes a GPU when there is one."""
    max_skipped_steps: int = number(10, at_least=1)
    """Consecutive steps with non-finite gradients after which the run counts as diverged."""
    unpad: bool = True
    """Leave padding out of the model's layers, and out of a classifier's last layer what its head does not read: the same
    result but for rounding and the dropout masks drawn, in less time."""
    compile: bool = False
    """`torch.compile` the model: other kernels, so other rounding. Batches stay padded then, because shapes must be regular."""
    num_workers: int = number(0, at_least=0)
    """Processes that make the batches; 0 makes them in the run's own process. The batches are the same."""

    def __post_init__(self) -> None:
        parse_interval(self.budget, key="train.budget")
        check_fields(self, "train")


@dataclass(kw_only=True, slots=True)
class OptimConfig:
    name: str = choice("adamw", *OPTIMIZERS)
    """`adamw`; `sgd` with momentum `beta1`; `rmsprop`; `adagrad`; or `muon` for the matrices of the layers, with AdamW at the
    same rate for the rest. Each optimizer needs its own rate: change it together with `lr`."""
    lr: float = number(5e-5, above=0)
    """Peak learning rate."""
    weight_decay: float = number(0.01, at_least=0)
    """Biases and normalisation weights are exempt. Decoupled under `adamw` and `muon`; `sgd`, `rmsprop` and `adagrad` add it to
    the gradient instead."""
    beta1: float = number(0.9, at_least=0, below=1)
    """Decay of the running mean of the gradient in AdamW, and the momentum of `sgd`; `muon` uses 0.95 for the matrices."""
    beta2: float = number(0.999, at_least=0, below=1)
    """Decay of the running mean of the squared gradient, in AdamW and `rmsprop`."""
    eps: float = number(1e-8, above=0)
    """Added to the denominator of the update of AdamW, `rmsprop` and `adagrad`."""
    lr_schedule: str = choice("linear", *SCHEDULES)
    """`linear` or `cosine` (both to `min_lr_ratio` of the peak at the end of the budget), `constant`, `wsd` (constant, and
    linear to 0 over the last fifth) or `multistep` (a tenth from half of the budget on, a hundredth from three quarters on)."""
    warmup_ratio: float = number(0.0, at_least=0, at_most=1)
    """Fraction of the budget over which the rate rises linearly from 0."""
    min_lr_ratio: float = number(0.0, at_least=0, at_most=1)
    """Final learning rate of `linear` and `cosine`, as a fraction of the peak."""

    def __post_init__(self) -> None:
        check_fields(self, "optim")
        if self.min_lr_ratio and self.lr_schedule not in ("linear", "cosine"):
            raise ConfigError(
                f"expected optim.min_lr_ratio=0 with optim.lr_schedule={self.lr_schedule}, got {self.min_lr_ratio:g}: only "
                "linear and cosine decay to it",
                "optim.min_lr_ratio=0, or optim.lr_schedule=cosine",
            )


@dataclass(kw_only=True, slots=True)
class CheckpointConfig:
    every: str | None = "5 minutes"
    """How often a run is saved, in steps, samples, epochs, seconds, minutes or hours; it continues from there after a kill. A
    run is saved on a request to stop in any case; a finished run keeps no checkpoint. None saves only on a request to stop."""
    keep: int = number(1, at_least=1)
    """Number of checkpoints that are kept, the newest ones."""

    def __post_init__(self) -> None:
        if self.every is not None:
            parse_interval(self.every, key="checkpoint.every", units=(*UNITS, *SECONDS))
        check_fields(self, "checkpoint")


@dataclass(kw_only=True, slots=True)
class RandomStreamsConfig:
    """Added to the run's seed, stream by stream: 0 everywhere pairs a run with the baseline of the same seed."""

    init: int = 0
    """Weights drawn at random before training."""
    order: int = 0
    """Order in which the training samples are fed."""
    augment: int = 0
    """Random changes to samples."""
    dropout: int = 0
    """Dropout masks."""
    noise: int = 0
    """Which samples of a step update the weights, under `train.noise_batch_size`."""
    labels: int = 0
    """Which training labels are wrong, under `data.label_noise`."""


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    name: str = choice("text_classification", "text_classification", "causal_lm", "custom")
    """Task to train: `text_classification`, `causal_lm` (the next token from those before it) or `custom`."""
    entry_point: str | None = None
    """With `name=custom`: `<module>:<function>`, called with the run's Config and RandomStreams. Returns an
    `ablate.Task`."""
    options: dict[str, Any] = field(default_factory=dict)
    """With `name=custom`: options of the function; an axis may change `task.options.<key>`."""

    def __post_init__(self) -> None:
        check_fields(self, "task")
        if (self.name == "custom") != (self.entry_point is not None):
            raise ConfigError(
                f"task.name={self.name} and task.entry_point={self.entry_point}: expected an entry point with "
                "task.name=custom, and only there",
                "task.name=custom task.entry_point=my_module:my_task",
            )
        if self.entry_point is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.entry_point):
            raise ConfigError(
                f"task.entry_point={self.entry_point!r} does not name a function of a module",
                "task.entry_point=my_module:my_task",
            )

"""The whole configuration: one dataclass per group, with its checks.

Nothing here knows Hydra. Build a `Config` by hand, from YAML with `make_config`, or with `ablate.planning.compose`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from ablate.config.data import FEATURES, DataConfig
from ablate.config.fields import check_fields, number
from ablate.config.model import ACTIONS, ModelConfig
from ablate.config.record import TRACKERS, EvalConfig, RecordConfig, TrackerConfig
from ablate.config.study import DESIGNS, MOST_DRAWS, SPENDING, StudyConfig
from ablate.config.train import (
    OPTIMIZERS,
    SCHEDULES,
    CheckpointConfig,
    OptimConfig,
    RandomStreamsConfig,
    TaskConfig,
    TrainConfig,
)
from ablate.errors import ConfigError, nearest
from ablate.units import Interval, parse_interval

__all__ = [
    "ACTIONS", "BASELINE", "DESIGNS", "FEATURES", "MOST_DRAWS", "OPTIMIZERS", "SCHEDULES", "SPENDING", "TRACKERS",
    "CheckpointConfig", "Config", "DataConfig", "EvalConfig", "ModelConfig", "OptimConfig", "RandomStreamsConfig",
    "RecordConfig", "StudyConfig", "TaskConfig", "TrackerConfig", "TrainConfig", "make_config",
]  # fmt: skip

BASELINE = "baseline"
"""Name of the arm with which the others are compared."""


@dataclass(kw_only=True, slots=True)
class Config:
    """All that determines one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    record: RecordConfig = field(default_factory=RecordConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    study: StudyConfig = field(default_factory=StudyConfig)
    random_streams: RandomStreamsConfig = field(default_factory=RandomStreamsConfig)
    seed: int = 0
    """Seed of this run, from which its random streams are drawn. A study sets it to 0 .. study.seeds - 1."""
    rerun: int = number(0, at_least=0)
    """Number of this run among identical ones: it changes nothing but the digest. `axis=rerun` sets it."""
    arm: str = BASELINE
    """Name of the arm this run belongs to; a study sets it."""

    def __post_init__(self) -> None:
        check_fields(self, "")
        steps = self.train.grad_accum_steps
        if self.record.grad_noise_scale and steps < 2:
            raise ConfigError(
                f"record.grad_noise_scale=true needs two forward passes in a step, and train.grad_accum_steps={steps}",
                f"data.batch_size={max(1, self.data.batch_size // 2)} train.grad_accum_steps=2 is the same step in two passes",
            )
        self._check_noise()
        self._check_task()

    def _check_task(self) -> None:
        if self.task.name != "causal_lm":
            return
        if self.data.label_noise:
            raise ConfigError(
                f"data.label_noise={self.data.label_noise:g} with task.name=causal_lm, which reads no label",
                "data.label_noise=0",
            )
        if self.model.pooling is not None:
            raise ConfigError(
                f"model.pooling={self.model.pooling} with task.name=causal_lm: every token is read, none represents the text",
                "model.pooling=null",
            )

    def _check_noise(self) -> None:
        size = self.train.noise_batch_size
        if size is not None and size >= self.samples_per_step:
            raise ConfigError(
                f"train.noise_batch_size={size}: the gradient of a step of {self.samples_per_step} samples has no more noise "
                f"than that of {size}, and noise can only be added",
                f"train.noise_batch_size={max(1, self.samples_per_step // 2)}, data.batch_size={2 * size}, or "
                "train.noise_batch_size=null",
            )
        if size is not None and self.record.grad_noise_scale:
            raise ConfigError(
                f"train.noise_batch_size={size} and record.grad_noise_scale=true: the first forward pass of a step may hold "
                "none of the samples that are drawn, and then its gradient has no norm to compare",
                "record.grad_noise_scale=false, or train.noise_batch_size=null",
            )

    @property
    def samples_per_step(self) -> int:
        return self.data.batch_size * self.train.grad_accum_steps

    @property
    def budget(self) -> Interval:
        return parse_interval(self.train.budget, key="train.budget")


_GROUPS: dict[str, Any] = {
    item.name: item.default_factory for item in fields(Config) if item.default_factory is not MISSING
}


def make_config(values: Mapping[str, Any]) -> Config:
    """Config from plain nested values, such as a run's config.yaml; keys that are left out keep their defaults.

    Raises ConfigError for a key that does not exist and for a value out of range.
    """
    _known("", values, (item.name for item in fields(Config)))
    groups = {}
    for name, group in _GROUPS.items():
        part = values.get(name, {})
        if not isinstance(part, Mapping):
            raise ConfigError(f"{name}={part!r} is not a group of keys", f"{name}.<key>=<value>")
        _known(f"{name}.", part, (item.name for item in fields(group)))
        groups[name] = group(**part)
    return Config(**{**values, **groups})


def _known(prefix: str, typed: Mapping[str, Any], keys: Iterable[str]) -> None:
    keys = tuple(keys)
    for key in typed:
        if key not in keys:
            raise ConfigError(f"there is no key {prefix + key!r}", nearest(prefix + key, (prefix + k for k in keys)))

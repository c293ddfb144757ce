"""Settings that a log recorded: which can change the result, which only say where a run goes, and which is the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ablate.config.flatten import leaves
from ablate.errors import RecordError
from ablate.serialization import read_json, read_text

BOOKKEEPING = (
    "output_dir", "overwrite_output_dir", "run_name", "project", "report_to", "disable_tqdm", "logging_dir",
    "logging_nan_inf_filter", "log_level", "log_on_each_node", "push_to_hub", "hub_", "trackio_", "do_train", "do_eval",
    "do_predict", "local_rank", "resume_from_checkpoint", "debug", "skip_memory_metrics", "save_", "_", "transformers_version",
    "model/num_parameters", "default_root_dir", "logger", "callbacks", "problem_type", "auto_find_batch_size",
)  # fmt: skip
"""Prefixes of settings that say where a run goes and what it prints. They do not make an arm another one."""

_CADENCE = (
    "eval_steps", "eval_strategy", "evaluation_strategy", "eval_on_start", "eval_delay", "eval_every", "eval_interval",
    "logging_steps", "logging_strategy", "logging_first_step", "log_every_n_steps", "log_every", "log_interval",
    "val_check_interval", "check_val_every_n_epoch",
)  # fmt: skip

_SEEDS = ("seed", "random_seed", "manual_seed", "seed_everything")
_BATCH_SIZES = ("per_device_train_batch_size", "train_batch_size", "batch_size")
_ACCUMULATION = ("gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum_steps")


@dataclass(slots=True)
class Settings:
    """Settings of a log, sorted by purpose."""

    config: dict[str, Any]
    """Settings that can change the result."""
    cadence: dict[str, Any]
    """Settings that say when the run was evaluated and logged."""
    seed: int | None
    seed_from: str
    """Key of the seed."""
    batch: int | None
    """Samples per step as far as the settings say."""
    batch_from: str


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Sort settings. Groups are kept, and a name counts in every group."""
    trained, cadence = _split(_plain(config))
    settings = leaves(config)
    seeds = {key: value for key, value in settings.items() if _name(key) in _SEEDS and type(value) is int}
    values = {value for value in seeds.values() if value >= 0}
    unique = len(values) == 1
    batch, batch_from = _batch(settings)
    return Settings(
        trained, cadence, values.pop() if unique else None, next(iter(seeds)) if unique else "", batch, batch_from
    )


def read_settings(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read a JSON or YAML file of settings. Returns them, and the names of those with a Python object as their value.

    Raises RecordError for anything else.
    """
    unread: list[str] = []
    try:
        value = read_json(path) if path.suffix == ".json" else _plain_tags(read_text(path), unread)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        fix = "plain values, as --config-file baseline=settings.yaml"
        problem = " ".join(str(error).split())[:200] or type(error).__name__
        raise RecordError(f"cannot read settings from {path}: {problem}", fix) from None
    if not isinstance(value, Mapping):
        raise RecordError(f"{path}: expected names with values, got {type(value).__name__}", "seed: 1")
    return dict(value), unread


class _Object:
    """Stands for a value under a tag of Python's, which nothing is made of."""


class _Tagged(yaml.SafeLoader):
    """Reads what `save_hyperparameters` writes: a tuple is a list, an alias of a few values is followed."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > 20:  # fifty of them can stand for billions of values
            raise yaml.YAMLError("it holds more than 20 aliases (*name)")
        return super().compose_node(parent, index)


def _construct(loader: _Tagged, _suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.SequenceNode) and node.tag.endswith("python/tuple"):
        return loader.construct_sequence(node, deep=True)
    return _Object()


for _prefix in ("tag:yaml.org,2002:python/", "!"):
    _Tagged.add_multi_constructor(_prefix, _construct)


def _plain_tags(text: str, unread: list[str]) -> Any:
    """Return the value of a YAML text without the keys whose value is a Python object; their names are added to `unread`."""
    loader = _Tagged(text)
    try:
        return _without_objects(loader.get_single_data(), "", unread)
    finally:
        loader.dispose()


def _without_objects(value: Any, name: str, unread: list[str]) -> Any:
    if isinstance(value, _Object) or (isinstance(value, list) and any(isinstance(item, _Object) for item in value)):
        unread.append(name)
        return None
    if not isinstance(value, Mapping):
        return value
    inner = {key: _without_objects(item, f"{name}.{key}" if name else str(key), unread) for key, item in value.items()}
    return {key: item for key, item in inner.items() if item is not None or value[key] is None}


def _split(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    trained: dict[str, Any] = {}
    cadence: dict[str, Any] = {}
    for key, value in config.items():
        if key in _CADENCE:
            cadence[key] = value
        elif isinstance(value, Mapping) and value:
            inner, inner_cadence = _split(value)
            cadence |= inner_cadence
            trained |= {key: inner} if inner else {}
        elif not key.startswith(BOOKKEEPING) and key not in _SEEDS:
            trained[key] = value
    return trained, cadence


def _batch(settings: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return (samples per step, `batch_size 8 x gradient_accumulation_steps 4`); (None, '') for contradictory sizes."""
    for name in _BATCH_SIZES:
        sizes = {key: value for key, value in settings.items() if _name(key) == name}
        if not sizes:
            continue
        key, size = next(iter(sizes.items()))
        if len(set(map(str, sizes.values()))) > 1 or type(size) is not int or not 0 < size < 2**31:
            return None, ""
        for other, times in settings.items():
            if _name(other) in _ACCUMULATION and type(times) is int and 1 < times < 2**31:
                return size * times, f"{key} {size} x {other} {times}"
        return size, f"{key} {size}"
    return None, ""


def _name(key: str) -> str:
    return key.rpartition(".")[2]


def _plain(value: Any) -> Any:
    """Return a copy with values that YAML and JSON have; others, such as dates, become text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    is_plain = value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))
    return value if is_plain else str(value)

"""Settings that a source recorded: which say what was trained, which only where it went, and which number was the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.serialization import read_json, read_yaml

_PLACES = (
    "output_dir", "overwrite_output_dir", "run_name", "project", "report_to", "disable_tqdm", "logging_dir",
    "logging_nan_inf_filter", "log_level", "log_on_each_node", "push_to_hub", "hub_", "trackio_", "do_train", "do_eval",
    "do_predict", "local_rank", "resume_from_checkpoint", "debug", "skip_memory_metrics", "save_", "_", "transformers_version",
    "model/num_parameters", "default_root_dir", "logger", "callbacks",
)  # fmt: skip
"""Beginnings of the settings that say where a run goes and what it tells; they make no arm another one."""

_LOOKING = (
    "eval_steps", "eval_strategy", "evaluation_strategy", "eval_on_start", "eval_delay", "eval_every", "eval_interval",
    "logging_steps", "logging_strategy", "logging_first_step", "log_every_n_steps", "log_every", "log_interval",
    "val_check_interval", "check_val_every_n_epoch",
)  # fmt: skip

_SEEDS = ("seed", "random_seed", "manual_seed", "seed_everything")
_SIZES = ("per_device_train_batch_size", "train_batch_size", "batch_size")
_ACCUMULATION = ("gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum_steps")


@dataclass(slots=True)
class Settings:
    """config: what was trained. looking: when it was looked. seed, seed_from: None and '' where none is on record.

    batch, batch_from: samples of one step as far as the settings say it; None where they do not.
    """

    config: dict[str, Any]
    looking: dict[str, Any]
    seed: int | None
    seed_from: str
    batch: int | None
    batch_from: str


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Take settings apart. Groups are kept; a name counts in whatever group it stands."""
    kept, looking = _parted(_plain(config))
    found = {key: value for key, value in _leaves(config) if key.rpartition(".")[2] in _SEEDS and type(value) is int}
    seeds = {value for value in found.values() if value >= 0}
    alone = len(seeds) == 1
    batch, said = _batch(dict(_leaves(config)))
    return Settings(kept, looking, seeds.pop() if alone else None, next(iter(found)) if alone else "", batch, said)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON or YAML file. Raises RecordError for anything else."""
    try:
        value = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read as settings: {error}", "plain values, as --config-file baseline=settings.yaml"
        ) from None
    if not isinstance(value, Mapping):
        raise RecordError(f"{path} holds {type(value).__name__}, and settings are names with values", "seed: 1")
    return dict(value)


def _parted(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    kept: dict[str, Any] = {}
    looking: dict[str, Any] = {}
    for key, value in config.items():
        if key in _LOOKING:
            looking[key] = value
        elif isinstance(value, Mapping) and value:
            inner, seen = _parted(value)
            looking |= seen
            kept |= {key: inner} if inner else {}
        elif not key.startswith(_PLACES) and key not in _SEEDS:
            kept[key] = value
    return kept, looking


def _batch(found: Mapping[str, Any]) -> tuple[int | None, str]:
    """`batch_size 8 x gradient_accumulation_steps 4`; a batch size of which there are two is none."""
    for name in _SIZES:
        sizes = {key: value for key, value in found.items() if key.rpartition(".")[2] == name}
        if not sizes:
            continue
        key, size = next(iter(sizes.items()))
        if len(set(map(str, sizes.values()))) > 1 or type(size) is not int or not 0 < size < 2**31:
            return None, ""
        said = f"{key} {size}"
        for other, times in found.items():
            if other.rpartition(".")[2] in _ACCUMULATION and type(times) is int and 0 < times < 2**31:
                return size * times, f"{said} x {other} {times}" if times > 1 else said
        return size, said
    return None, ""


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _plain(value: Any) -> Any:
    """Values as YAML and JSON hold them, each of its own; a date is its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    return str(value)

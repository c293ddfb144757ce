"""Hugging Face's Trainer: `trainer_state.json`, in its output folder or in a checkpoint.

`training_args.bin`, which lies beside it, is a pickle and is never opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers._files import below, inside
from ablate.importers.hyperparameters import Settings, settings_of
from ablate.importers.source import Source, merged, number, step_of
from ablate.serialization import read_json

NAME = "trainer_state.json"
_SPEEDS = ("train_samples_per_second", "train_steps_per_second")


def found(path: Path) -> bool:
    """Whether a Trainer has left its state there."""
    if path.is_dir():
        return (path / NAME).is_file() or any(path.glob(f"checkpoint-*/{NAME}"))
    return path.name == NAME


def read(path: Path) -> Source:
    """The log of the Trainer; of several states, the one that has come furthest, whose log begins with the others'.

    Raises RecordError for a file that is no state, and for states of two runs in one folder.
    """
    states = {file: _state(file) for file in _files(path)}
    file, state = max(states.items(), key=lambda one: len(one[1]["log_history"]))
    for other, earlier in states.items():
        rows = earlier["log_history"]
        same = state["log_history"][: len(rows)]
        if str([same[0], same[-1]]) != str([rows[0], rows[-1]]):  # as text, because nan is no nan
            raise RecordError(
                f"{path} holds two runs: the log of {file} does not go on from that of {other}",
                f"name one of them: {file}",
            )
    rows = state["log_history"]
    logged = [(step_of(row.get("step"), str(file)), _values(row)) for row in rows if not _is_last_word(row)]
    settings = settings_of({"trainer": _given(state), **_model(file)})
    source = Source(
        format="trainer_state", path=str(path), files=(file,), rows=merged(logged, str(file), "name the checkpoint of one run"),
        config=settings.config, looking=settings.looking | _cadence(state), settings=f"{file.name} and its config.json",
        loss="the mean since the row before",
    )  # fmt: skip
    source.total_steps = _whole(state.get("max_steps"))
    _how_it_ended(source, state, rows)
    _samples(source, rows, settings)
    if _model(file) == {}:
        source.settings = file.name
    if (file.parent / "training_args.bin").exists():
        source.notes.append("training_args.bin is a pickle and is not opened: its settings are not on record")
    return source


def settle(sources: Sequence[Source]) -> None:
    """Where all runs were to take equally many steps, their epochs follow from that, and are no setting: a state has both."""
    mine = [source for source in sources if source.format == "trainer_state"]
    if len({source.total_steps for source in mine}) == 1:
        for source in mine:
            trainer = {
                key: value for key, value in source.config.get("trainer", {}).items() if key != "num_train_epochs"
            }
            source.config = {**source.config, "trainer": trainer}


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [*below(path, NAME), *below(path, f"checkpoint-*/{NAME}")]


def _state(path: Path) -> dict[str, Any]:
    try:
        state = read_json(path)
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read: {error}", "a whole one lies in an earlier checkpoint-* folder"
        ) from None
    rows = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"{path} is no state of a Trainer: it has no log_history that is a list of rows")
    assert isinstance(state, dict)
    if not rows:
        raise RecordError(f"{path} has an empty log_history: nothing was logged", "logging_steps, eval_strategy")
    return state


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row. A second evaluation set, `eval_other_loss`, is `eval_loss::other`: no loss of the first one."""
    timing = next((key for key in row if key.startswith("eval_") and key.endswith("_runtime")), "eval_runtime")
    prefix = timing.removesuffix("_runtime")
    values: dict[str, float] = {}
    for key, value in row.items():
        known = number(value)
        if key == "step" or known is None:
            continue
        other = prefix != "eval" and key.startswith(f"{prefix}_")
        values[f"eval_{key.removeprefix(f'{prefix}_')}::{prefix.removeprefix('eval_')}" if other else key] = known
    return values


def _is_last_word(row: Mapping[str, Any]) -> bool:
    """The row at the end, whose `train_loss` is the mean over the whole run."""
    return "train_runtime" in row


def _given(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a state is a setting; `max_steps` follows from the epochs, and looks are no setting of the training."""
    return {
        key: state[key]
        for key in ("num_train_epochs", "train_batch_size", "trial_params")
        if state.get(key) is not None
    }


def _cadence(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: state[key] for key in ("eval_steps", "logging_steps") if state.get(key) is not None}


def _model(file: Path) -> dict[str, Any]:
    """The model's config.json beside the state, where there is one."""
    path = file.parent / "config.json"
    if not path.is_file():
        return {}
    try:
        value = read_json(inside(file.parent, path))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read: {error}", f"remove it, or name {NAME} where it lies alone") from None
    return {"model": value} if isinstance(value, dict) and value else {}


def _how_it_ended(source: Source, state: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    at = _whole(state.get("global_step"))
    over = any(map(_is_last_word, rows))
    if over or source.total_steps:  # a run that was to end by an epoch has its number of steps here too
        source.ended = over or at >= source.total_steps
    planned = f" of {source.total_steps}" if source.total_steps else ""
    source.sentence = f"the Trainer's state is of step {at}{planned}" + (
        ", and says that training ended" if over else ""
    )


def _samples(source: Source, rows: list[dict[str, Any]], settings: Settings) -> None:
    """Samples per step: by the speeds of the last row, which count every process and pass; else by the batch size alone."""
    size = settings.batch
    if size is None:
        return
    source.samples_per_step, source.samples_from = (
        size,
        (f"train_batch_size {size}; that there was one process without accumulation is not on record"),
    )
    last = next((row for row in rows if _is_last_word(row)), {})
    speeds = [number(last.get(name)) for name in _SPEEDS]
    if None in speeds or not all(value and math.isfinite(value) and value > 0 for value in speeds):
        return
    ratio = float(speeds[0] or 0) / float(
        speeds[1] or 1
    )  # below a multiple of the size, where an epoch's last batch is small
    times = math.ceil(ratio / size - 0.02)
    if 1 <= times <= 2**20 and float(speeds[1] or 0) >= 0.1:  # three decimals are logged: slower is too coarse to tell
        source.samples_per_step = size * times
        source.samples_from = f"train_batch_size {size} x {times}, as the speeds of the last row have it"


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 < value < 2**63 else 0

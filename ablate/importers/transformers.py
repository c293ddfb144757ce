"""Hugging Face's Trainer: `trainer_state.json`, in its output directory or in a checkpoint.

`training_args.bin` is a pickle and is never opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers.hyperparameters import settings_of
from ablate.importers.source import (
    NO_ACCUMULATION,
    WINDOW_LOSS,
    Source,
    check_inside,
    number,
    parse_json,
    read_log_text,
)
from ablate.importers.tables import Table, source_of

NAME = "trainer_state.json"


def read(path: Path, files: Sequence[Path], _: str | None) -> Source:
    """Read the log of a Trainer, from the state that has come furthest.

    Raises RecordError for a malformed state, and for states of two runs in one directory.
    """
    states = {file: _state(file) for file in files}
    file, state = max(states.items(), key=lambda item: len(item[1]["log_history"]))
    rows = state["log_history"]
    for other, earlier in states.items():
        begin = earlier["log_history"]
        if repr([begin[0], begin[-1]]) != repr([rows[0], rows[len(begin) - 1]]):  # as text, because nan != nan
            raise RecordError(
                f"{path}: expected one run, got two: the log of {file} does not continue that of {other}",
                f"name one: {file}",
            )
    logged = [_with_splits(row) for row in rows if not _is_summary(row)]
    table = Table(list(dict.fromkeys(name for row in logged for name in row)), logged)
    source = source_of(table, "trainer_state", path, file, "step", "name the checkpoint of one run")
    source.total_steps, source.loss = _count(state.get("max_steps")), WINDOW_LOSS
    model = _model_config(file, source.notes)
    trainer = {
        key: state[key]
        for key in ("num_train_epochs", "train_batch_size", "trial_params")
        if state.get(key) is not None
    }
    settings = settings_of({"trainer": trainer, **model})
    where = f"{file.name} and its config.json" if model else file.name
    source.use_settings(settings, where, NO_ACCUMULATION)
    source.cadence |= {key: state[key] for key in ("eval_steps", "logging_steps") if state.get(key) is not None}
    summary: dict[str, Any] = next(filter(_is_summary, rows), {})
    if settings.batch is not None and (steps := _batches_per_step(summary, settings.batch)):
        source.samples_per_step = settings.batch * steps
        source.samples_from = f"train_batch_size {settings.batch} x {steps}, from the speeds in the last row"
    _set_end(source, _count(state.get("global_step")), trained=bool(summary), stopped=_was_stopped(state))
    if (file.parent / "training_args.bin").exists():
        source.notes.append("training_args.bin is a pickle and is not opened: its settings are not recorded")
    return source


def drop_redundant_epochs(sources: Sequence[Source]) -> None:
    """Remove the number of epochs from the settings if all runs have equal max_steps, from which it then follows."""
    states = [source for source in sources if source.format == "trainer_state"]
    if len({source.total_steps for source in states}) == 1:
        for source in states:
            trainer = {
                key: value for key, value in source.config.get("trainer", {}).items() if key != "num_train_epochs"
            }
            source.config = {**source.config, "trainer": trainer}


def _state(path: Path) -> dict[str, Any]:
    state = parse_json(read_log_text(path))
    if state is None:
        raise RecordError(f"cannot read {path}: malformed JSON", "use an earlier checkpoint-* directory")
    rows = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RecordError(f"{path}: expected the state of a Trainer, got a file without rows in log_history")
    assert isinstance(state, dict)
    if not rows:
        raise RecordError(f"{path}: expected logged rows, got an empty log_history", "set logging_steps, eval_strategy")
    return state


def _with_splits(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row in which a metric of a second evaluation set, `eval_other_loss`, is called `eval_loss::other`."""
    timing = next((key for key in row if key.startswith("eval_") and key.endswith("_runtime")), "eval_runtime")
    prefix = timing.removesuffix("_runtime")
    split = prefix.removeprefix("eval_")
    return {
        f"eval_{key.removeprefix(f'{prefix}_')}::{split}"
        if split != "eval" and key.startswith(f"{prefix}_")
        else key: value
        for key, value in row.items()
    }


def _is_summary(row: Mapping[str, Any]) -> bool:
    """Return whether this is the row at the end, whose `train_loss` is the mean over the whole run."""
    return "train_runtime" in row


def _model_config(file: Path, notes: list[str]) -> dict[str, Any]:
    """Return the model's config.json, if there is one; what is wrong with it is noted."""
    path = file.parent / "config.json"
    if not path.is_file():
        return {}
    value = parse_json(read_log_text(check_inside(file.parent, path)))
    if value is None:
        notes.append(f"{path.name} is malformed JSON: the model's settings are not recorded")
    return {"model": value} if isinstance(value, dict) and value else {}


def _was_stopped(state: Mapping[str, Any]) -> bool:
    """Return whether a callback had ended training, as early stopping does: the Trainer writes no other state then."""
    control: Any = state.get("stateful_callbacks")
    for key in ("TrainerControl", "args", "should_training_stop"):
        control = control.get(key) if isinstance(control, Mapping) else None
    return control is True


def _set_end(source: Source, step: int, *, trained: bool, stopped: bool) -> None:
    planned = f" of {source.total_steps}" if source.total_steps else ""
    source.end_message = f"the Trainer's state is of step {step}{planned}" + (
        ", and says that training ended" if trained else ", and says that training was stopped there" if stopped else ""
    )
    if trained or stopped or source.total_steps:  # max_steps is set for a run that was limited by epochs too
        source.ended = trained or stopped or step >= source.total_steps


def _batches_per_step(summary: Mapping[str, Any], size: int) -> int:
    """Return processes times accumulation steps, from the speeds in the last row; 0 if unknown."""
    samples, steps = (number(summary.get(f"train_{unit}_per_second")) or 0.0 for unit in ("samples", "steps"))
    # Speeds have three decimals, so slower ones are too coarse.
    if not (0 < samples < math.inf and 0.1 <= steps < math.inf):
        return 0
    ratio = math.ceil(samples / steps / size - 0.02)  # below a whole number if an epoch's last batch is smaller
    return ratio if 1 <= ratio <= 2**20 else 0


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value < 2**63 else 0

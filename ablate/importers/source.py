"""Log of one run as it was written, before it becomes a record; and the files that it is read from.

`log_files` and `check_inside` decide which files may be opened: regular ones, and of a directory only those inside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ablate.data.files import marked_encoding
from ablate.errors import RecordError
from ablate.importers.hyperparameters import Settings, read_settings, settings_of
from ablate.importers.metric_names import is_epoch

MAX_STEP = 2**63 - 1
"""Largest step that a table can hold."""

_MAX_MATCHES = 10_000
ONE_PROCESS = "the number of processes is not recorded"
NO_ACCUMULATION = "the number of processes and accumulation steps is not recorded"
LOGGED_LOSS = "as logged: of one step, or a mean"
WINDOW_LOSS = "mean since the row before"

LIGHTNING_SHIFT = 1
"""Lightning's loggers get the number of steps before the current one."""


class Rows(dict[int, dict[str, float]]):
    """{logged step: {logged name: value}} in step order.

    conflicts: {name: problem} of names with two values at one step. fix: how to resolve them.
    repeated_at_end: names with two values at the last step and at no other, as an evaluation after training leaves them.
    """

    def __init__(self, logged: Iterable[tuple[int, Mapping[str, float]]], where: str, fix: str) -> None:
        rows: dict[int, dict[str, float]] = {}
        self.conflicts, self.fix = dict[str, str](), fix
        steps: dict[str, set[int]] = {}
        for step, values in logged:
            row = rows.setdefault(step, {})
            for name, value in values.items():
                before = row.setdefault(name, value)
                if before != value and not (math.isnan(before) and math.isnan(value)):
                    problem = f"{where} has two values of {name} at step {step}: {before:g} and {value:g}"
                    self.conflicts.setdefault(name, problem)
                    steps.setdefault(name, set()).add(step)
        super().__init__(sorted(rows.items()))
        self.repeated_at_end = {name for name in steps if steps[name] == {max(rows)} and len(rows) > 1}


@dataclass(kw_only=True, slots=True)
class Source:
    """One run as its log describes it. What the log does not say is None or empty."""

    format: str
    path: str
    """Path or run name, as on the command line."""
    files: tuple[Path, ...]
    rows: Rows
    step: str = "step"
    """Column of the steps."""
    shift: int = 0
    """Added to a step to get the number of updates."""
    config: dict[str, Any] = field(default_factory=dict)
    """Settings that can change the result."""
    cadence: dict[str, Any] = field(default_factory=dict)
    """Settings that only say when the run was evaluated and logged."""
    settings: str = ""
    """Where the settings were read from."""
    seed: int | None = None
    seed_from: str = ""
    samples_per_step: int | None = None
    samples_from: str = ""
    total_steps: int = 0
    ended: bool | None = None
    """Whether the log says that the run ended; None if it says nothing."""
    end_message: str = ""
    """How the run ended."""
    loss: str = LOGGED_LOSS
    """Meaning of a row's training loss."""
    averaged: bool = False
    """Whether rows are means over stretches of a chart."""
    notes: list[str] = field(default_factory=list)

    @property
    def counts_no_updates(self) -> bool:
        """Return whether the steps are epochs, or W&B's own, which count calls of `log`: a batch size gives no samples then."""
        return self.step == "_step" or is_epoch(self.step) or (self.format == "wandb_table" and self.step == "Step")

    def names(self) -> list[str]:
        """Return every logged name, in order of first appearance."""
        return list(dict.fromkeys(name for values in self.rows.values() for name in values))

    def use_settings(self, settings: Settings, where: str, caveat: str = ONE_PROCESS, *, use_seed: bool = True) -> None:
        """Take settings, and the seed and batch size in them if there are any. caveat: what the batch size leaves open."""
        self.config, self.cadence, self.settings = settings.config, settings.cadence, where
        if use_seed and settings.seed is not None:
            self.seed, self.seed_from = settings.seed, settings.seed_from
        if settings.batch is not None and not self.counts_no_updates:
            self.samples_per_step, self.samples_from = settings.batch, f"{settings.batch_from}; {caveat}"

    def use_hparams(self, folder: Path) -> None:
        """Take the hyperparameters that Lightning saved with the log, as far as they can be read: the log counts without."""
        path = folder / "hparams.yaml"
        if not path.is_file():
            return
        check_inside(folder, path)
        try:
            self.use_file(path, path.name, NO_ACCUMULATION)
        except RecordError as error:
            self.notes.append(f"{error.problem}; the settings are not recorded")

    def use_file(self, path: Path, where: str, caveat: str = ONE_PROCESS, *, use_seed: bool = True) -> None:
        """Take the settings in a file, and note those that are not plain values. Raises RecordError."""
        settings, unread = read_settings(path)
        self.use_settings(settings_of(settings), where, caveat, use_seed=use_seed)
        if unread:
            self.notes.append(f"{', '.join(unread)} in {path.name}: a Python object, which is not read")


def number(value: Any) -> float | None:
    """Return a logged value as a number, or None. Some loggers write NaN and Infinity as text."""
    if isinstance(value, str):
        return float(value) if value.strip().lower().removeprefix("-") in ("nan", "inf", "infinity") else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def step_of(value: Any, where: str) -> int:
    """Return a logged step. Raises RecordError unless it is a whole number from 0 to `MAX_STEP`."""
    step = number(value)
    if step is None or not step.is_integer() or not 0 <= step <= MAX_STEP:
        raise RecordError(f"{where}: expected a step, a whole number from 0 on, got {shown(value)}")
    return int(value)


def shown(value: Any) -> str:
    """Return a logged value as a message shows it."""
    try:
        return repr(value)[:60]
    except ValueError:  # an integer too long to be written out
        return "a number of thousands of digits"


def numbers(records: Iterable[Mapping[str, Any]], step: str, where: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the step and the numbers of each record; records without a step are left out."""
    for position, record in enumerate(records, start=1):
        if step in record:
            values = {name: number(value) for name, value in record.items() if name != step}
            logged = {name: value for name, value in values.items() if value is not None}
            yield step_of(record[step], f"{where}, row {position}, {step}"), logged


def has_file(folder: Path, patterns: Sequence[str]) -> bool:
    """Return whether a directory contains a file that matches."""
    return any(any(folder.glob(pattern)) for pattern in patterns)


def log_files(path: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the file itself, or the files of a directory that match, in name order.

    Raises RecordError for anything else than a regular file, and for a link that leads out of the directory.
    """
    if path.is_dir():
        matching = (file for pattern in patterns for file in sorted(islice(path.glob(pattern), _MAX_MATCHES)))
        return [check_inside(path, file) for file in matching if file.is_file()]
    if not path.is_file():
        raise RecordError(f"{path} is not a regular file")
    return [path]


def only_file(path: Path, files: Sequence[Path]) -> Path:
    """Return the one log file of a path. Raises RecordError if there are several runs."""
    if len(files) != 1:
        shown = ", ".join(str(file.parent) for file in files[:6])
        fix = f"name each: {files[0].parent if files else path}"
        raise RecordError(f"{path}: expected the log of one run, got {len(files)} runs: {shown}", fix)
    return files[0]


def check_inside(folder: Path, path: Path) -> Path:
    """Return the path. Raises RecordError if it is a link to a file outside of the directory."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{path} is a link that leads out of {folder}, and is not followed", "name the file itself")
    return path


def read_log_text(path: Path) -> str:
    """Read a text file in UTF-8, or as its byte order mark says. Raises RecordError for anything else."""
    try:
        data = path.read_bytes()
        return data.decode(marked_encoding(data, "utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot read {path} as text: {error}") from None


def parse_json(text: str) -> Any:
    """Return a JSON value; None for malformed text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

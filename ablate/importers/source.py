"""What the log of one run says, before it becomes a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ablate.errors import RecordError

LARGEST = 2**63 - 1
"""Beyond it a step is no step, and no table holds it."""


class Rows(dict[int, dict[str, float]]):
    """{step as it was logged: {name as it was logged: value}}, steps rising.

    doubled: {name: what is wrong with it} of names that had two values at one step; fix: what to do then.
    """

    def __init__(self, rows: Mapping[int, dict[str, float]], doubled: dict[str, str], fix: str) -> None:
        super().__init__(sorted(rows.items()))
        self.doubled, self.fix = doubled, fix


@dataclass(kw_only=True, slots=True)
class Source:
    """One run as its source has it. What the source does not say is None or empty.

    format: as in `record.origin`. path: as it was typed. files: those that were read. step: the column of positions.
    shift: what is added to a step to make it the number of updates taken;
    config: settings that can change the result; looking: those that only say when it was looked. settings: their place.
    seed, seed_from: the number, and the setting that holds it. samples_per_step, samples_from: likewise.
    ended: True where the source says that the run came to its end, False where it says that it did not; sentence: how.
    loss: what a row's training loss is. averaged: rows are means over stretches of a chart.
    """

    format: str
    path: str
    files: tuple[Path, ...]
    rows: Rows
    step: str = "step"
    shift: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    looking: dict[str, Any] = field(default_factory=dict)
    settings: str = ""
    seed: int | None = None
    seed_from: str = ""
    samples_per_step: int | None = None
    samples_from: str = ""
    total_steps: int = 0
    ended: bool | None = None
    sentence: str = ""
    loss: str = ""
    averaged: bool = False
    notes: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Every name that was logged, in the order in which it came up."""
        return list(dict.fromkeys(name for values in self.rows.values() for name in values))

    def digests(self) -> dict[str, str]:
        """{file: sha256} of what was read."""
        return {file.as_posix(): sha256(file.read_bytes()).hexdigest() for file in self.files}


def number(value: Any) -> float | None:
    """A logged value as a number; None where it is none. `NaN` and `Infinity` come as text from some loggers."""
    if isinstance(value, str):
        words = {"nan": math.nan, "infinity": math.inf, "inf": math.inf, "-infinity": -math.inf, "-inf": -math.inf}
        return words.get(value.strip().lower())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def step_of(value: Any, where: str) -> int:
    """A logged step. Raises RecordError for what is none."""
    found = number(value)
    if found is None or not found.is_integer() or not 0 <= found <= LARGEST:
        raise RecordError(f"{where}: {_short(value)} is no step, which is a whole number from 0 on")
    return int(value)


def merged(logged: Iterable[tuple[int, Mapping[str, float]]], where: str, fix: str) -> Rows:
    """One row for each step. A name with two values at one step says that two runs lie on top of each other, where it counts.

    where: what was read, for the message. fix: what to do then.
    """
    rows: dict[int, dict[str, float]] = {}
    doubled: dict[str, str] = {}
    for step, values in logged:
        row = rows.setdefault(step, {})
        for name, value in values.items():
            before = row.setdefault(name, value)
            if before != value and not (math.isnan(before) and math.isnan(value)):
                doubled.setdefault(name, f"{where} has two values of {name} at step {step}: {before:g} and {value:g}")
    return Rows(rows, doubled, fix)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer too long to be written out
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}..."

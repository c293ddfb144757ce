"""Tables: CSV, TSV, one JSON object per line, or a JSON list of rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers.metric_names import STEPS
from ablate.importers.source import Rows, Source, numbers, read_log_text

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_TRUNCATED = "the last line is truncated and left out"


@dataclass(slots=True)
class Table:
    """Columns in order, and rows without their empty cells."""

    names: list[str]
    rows: Sequence[Mapping[str, Any]]
    notes: list[str] = field(default_factory=list)


def matches(path: Path) -> bool:
    """Return whether a path is a file with the suffix of a table."""
    return path.is_file() and path.suffix.lower() in SUFFIXES


def read(path: Path, step_column: str | None = None) -> Source:
    """Read a table of one run. Raises RecordError without a column of steps."""
    suffix = path.suffix.lower()
    table = (
        read_csv(path) if suffix in (".csv", ".tsv") else _read_lines(path) if suffix != ".json" else _read_json(path)
    )
    step = choose_step(table.names, step_column, str(path))
    missing = sum(step not in row for row in table.rows)
    fix = f"a table of one run, or another --step-column than {step}"
    return Source(
        format="table", path=str(path), files=(path,), step=step, shift=int(step == "trainer/global_step"),
        rows=Rows(numbers(table.rows, step, str(path)), str(path), fix), notes=[*table.notes, *step_notes(step, missing)],
    )  # fmt: skip


def choose_step(names: Sequence[str], wanted: str | None, where: str) -> str:
    """Return the column of steps. wanted: the user's choice. Raises RecordError if it does not exist."""
    known = [name for name in (STEPS if wanted is None else (wanted,)) if name in names]
    if known:
        return known[0]
    expected = f"a column {wanted!r}" if wanted is not None else f"a column of steps ({', '.join(STEPS)})"
    raise RecordError(
        f"{where}: expected {expected}, got {', '.join(names) or 'no columns'}",
        f"--step-column {next(iter(names), 'step')}",
    )


def step_notes(step: str, missing: int) -> list[str]:
    """Return what the reader has to know about the steps. missing: number of rows without one."""
    notes = [f"{missing} rows without {step} are left out"] if missing else []
    if step == "_step":
        notes.append("_step counts calls of wandb.log, which are optimizer steps only if the run logs at every step")
    return notes


def read_csv(path: Path) -> Table:
    """Read a CSV or TSV; a truncated last line is left out. Raises RecordError for a malformed one.

    pandas pads short lines and renames duplicate columns silently, so it is not used here.
    """
    text = read_log_text(path)
    try:
        lines = list(csv.reader(io.StringIO(text), "excel-tab" if path.suffix.lower() == ".tsv" else "excel"))
    except csv.Error as error:
        raise RecordError(f"cannot parse {path} as CSV: {error}") from None
    if not lines or not any(lines[0]):
        raise RecordError(f"{path}: expected a line of column names, got an empty file")
    names = [name.strip() for name in lines[0]]
    duplicate = next((name for name in names if name and names.count(name) > 1), None)
    if duplicate is not None:
        raise RecordError(f"{path}: expected each column once, got two called {duplicate}", "rename one column")
    notes = []
    if len(lines) > 1 and not text.endswith(("\n", "\r")) and len(lines[-1]) < len(names):
        lines.pop()
        notes.append(_TRUNCATED)
    rows = []
    for position, cells in enumerate(lines[1:], start=2):
        if cells and len(cells) != len(names):
            raise RecordError(f"{path}, line {position}: expected {len(names)} values, got {len(cells)}")
        if cells:
            rows.append({name: _parsed(cell) for name, cell in zip(names, cells, strict=True) if name and cell.strip()})
    return Table([name for name in names if name], rows, notes)


def _read_lines(path: Path) -> Table:
    rows: list[Mapping[str, Any]] = []
    notes = []
    lines = read_log_text(path).splitlines()
    for position, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _loads(line)
        if row is None and position == len(lines):
            notes.append(_TRUNCATED)
        elif not isinstance(row, Mapping):
            raise RecordError(f"{path}, line {position}: expected a JSON object, got {line[:60]!r}")
        else:
            rows.append(row)
    return _table(path, rows, notes)


def _read_json(path: Path) -> Table:
    """Read a list of rows, or an object of columns."""
    value = _loads(read_log_text(path))
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        lengths = {name: len(column) for name, column in value.items()}
        if len(set(lengths.values())) > 1:
            raise RecordError(f"{path}: expected columns of equal length, got {lengths}"[:300])
        value = [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not value or not all(isinstance(row, Mapping) for row in value):
        got = "malformed JSON" if value is None else type(value).__name__
        problem = f"{path}: expected a list of rows, or an object of columns, got {got}"
        raise RecordError(problem, "a list of {'step': ..., ...}")
    return _table(path, value, [])


def _table(path: Path, rows: Sequence[Mapping[str, Any]], notes: list[str]) -> Table:
    if not rows:
        raise RecordError(f"{path}: expected rows, got none")
    full = [{name: _parsed(value) for name, value in row.items() if value is not None} for row in rows]
    return Table(list(dict.fromkeys(name for row in rows for name in row)), full, notes)


def _loads(text: str) -> Any:
    """Return None for malformed JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parsed(value: Any) -> Any:
    """Return the number in a text cell, if there is one."""
    if not isinstance(value, str):
        return value
    try:
        return int(value) if len(value) < 20 else float(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value

"""Plain tables: CSV, one JSON object a line, or a JSON list of rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers._files import text_of
from ablate.importers.metric_names import STEPS
from ablate.importers.source import Source, merged, number, step_of

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


@dataclass(slots=True)
class Table:
    """names: columns in their order. rows: what is empty in a row is not in it."""

    path: Path
    names: list[str]
    rows: Sequence[Mapping[str, Any]]
    notes: list[str] = field(default_factory=list)

    def by_step(self, column: str) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, the numbers logged at it) of every row that has one."""
        for place, row in enumerate(self.rows, start=1):
            if column in row:
                step = step_of(_typed(row[column]), f"{self.path}, row {place}, {column}")
                found = {name: number(_typed(value)) for name, value in row.items() if name != column}
                yield step, {name: value for name, value in found.items() if value is not None}


def found(path: Path) -> bool:
    """Whether it is a file that ends like a table."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def read(path: Path, step_column: str | None = None) -> Source:
    """A table of one run. step_column: as the user named it. Raises RecordError without a column of steps."""
    table = rows_of(path)
    step = pick_step(table.names, step_column, str(path))
    left = len(table.rows) - sum(step in row for row in table.rows)
    return Source(
        format="table", path=str(path), files=(path,), step=step, shift=int(step == "trainer/global_step"),
        rows=merged(table.by_step(step), str(path), f"a table of one run, or another --step-column than {step}"),
        loss="what was logged: of one step, or a mean", notes=[*table.notes, *step_notes(step, left)],
    )  # fmt: skip


def rows_of(path: Path) -> Table:
    """Whatever kind of table a file is."""
    kind = path.suffix.lower()
    if kind in (".csv", ".tsv"):
        return rows_of_csv(path)
    return _lines(path) if kind in (".jsonl", ".ndjson") else _json(path)


def pick_step(names: Sequence[str], asked: str | None, where: str) -> str:
    """The column of positions. Raises RecordError where there is none, or none of the asked name."""
    if asked is not None and asked in names:
        return asked
    known = [name for name in STEPS if name in names]
    if asked is None and known:
        return known[0]
    missing = f"no column {asked!r}" if asked is not None else f"no column of steps ({', '.join(STEPS)})"
    raise RecordError(
        f"{where} has {missing}; it has {', '.join(names) or 'nothing'}", f"--step-column {next(iter(names), 'step')}"
    )


def step_notes(step: str, left: int) -> list[str]:
    """What a reader has to know of the positions."""
    notes = [f"{left} rows without {step} are left out"] if left else []
    if step == "_step":
        notes.append("_step counts calls of wandb.log, not optimizer steps, where a run logs more rarely or more often")
    return notes


def rows_of_csv(path: Path) -> Table:
    """A last line that breaks off is left out, and said. Raises RecordError for a table that is none."""
    text = text_of(path)
    kind = "excel-tab" if path.suffix.lower() == ".tsv" else "excel"
    try:
        lines = list(csv.reader(io.StringIO(text), dialect=kind))
    except csv.Error as error:
        raise RecordError(f"{path} is no CSV: {error}") from None
    if not lines or not any(lines[0]):
        raise RecordError(f"{path} is empty: it has no line of column names")
    names = [name.strip() for name in lines[0]]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise RecordError(f"{path} has two columns called {twice[0]}", "one name for each column")
    notes = []
    if len(lines) > 1 and not text.endswith(("\n", "\r")) and len(lines[-1]) < len(names):
        lines.pop()
        notes.append("the last line breaks off and is left out")
    for place, line in enumerate(lines[1:], start=2):
        if line and len(line) != len(names):
            raise RecordError(f"{path}, line {place}: {len(line)} values for {len(names)} columns")
    rows = [
        {name: cell for name, cell in zip(names, line, strict=True) if name and cell.strip()}
        for line in lines[1:]
        if line
    ]
    return Table(path, [name for name in names if name], rows, notes)


def _lines(path: Path) -> Table:
    rows: list[Mapping[str, Any]] = []
    notes = []
    lines = text_of(path).splitlines()
    for place, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _loads(line)
        if row is None and place == len(lines):
            notes.append("the last line breaks off and is left out")
        elif not isinstance(row, Mapping):
            raise RecordError(f"{path}, line {place} is no JSON object")
        else:
            rows.append(row)
    return _table(path, rows, notes)


def _json(path: Path) -> Table:
    """A list of rows, or columns by name."""
    value = _loads(text_of(path))
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        if len({len(column) for column in value.values()}) > 1:
            raise RecordError(f"{path}: its columns have unequal lengths")
        value = [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not value or not all(isinstance(row, Mapping) for row in value):
        what = "nothing whole" if value is None else type(value).__name__
        raise RecordError(
            f"{path} holds {what}: expected a list of rows, or columns by name", "a list of {'step': ..., ...}"
        )
    return _table(path, value, [])


def _table(path: Path, rows: Sequence[Mapping[str, Any]], notes: list[str]) -> Table:
    if not rows:
        raise RecordError(f"{path} holds no row")
    full = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return Table(path, list(dict.fromkeys(name for row in rows for name in row)), [*full], notes)


def _loads(text: str) -> Any:
    """None for what is not whole."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _typed(value: Any) -> Any:
    """A cell of a CSV is text; a number in it is one."""
    if not isinstance(value, str):
        return value
    try:
        return int(value) if len(value) < 20 else float(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value

"""Tables: CSV, TSV, JSON lines, a JSON list of rows; Lightning's metrics.csv; the CSV that W&B exports from a chart."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers.metric_names import STEPS, column_name, is_epoch
from ablate.importers.source import (
    LIGHTNING_SHIFT,
    Rows,
    Source,
    number,
    numbers,
    only_file,
    parse_json,
    read_log_text,
    shown,
)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_TRUNCATED = "the last line is truncated and left out"

_SEPARATOR = " - "
_ENDS = ("__MIN", "__MAX")
"""An export has a column `<run> - <metric>` for each run, with `__MIN` and `__MAX` columns for the chart's smoothing."""


_GROUP = re.compile(r"[\w./-]+: \S")
"""Begin of a column in the export of a grouped chart: `algo: adam`, or `algo: adam env: x`."""


@dataclass(slots=True)
class Table:
    """Columns in order, and rows without their empty cells."""

    names: list[str]
    rows: Sequence[Mapping[str, Any]]
    notes: list[str] = field(default_factory=list)


def read(path: Path, _: Sequence[Path], step_column: str | None) -> Source:
    """Read a table of one run. Raises RecordError without a column of steps, and for an export of several runs."""
    table = read_table(path)
    _check_not_runs(path, table)
    if any(_SEPARATOR in name and name.endswith(_ENDS[0]) for name in table.names):
        return _read_export(path, table, step_column)
    return source_of(
        table, "table", path, path, step_column, "a table of one run, or another --step-column than {step}"
    )


_OF_RUNS = {"name", "run", "run name", "run_name", "id", "run id", "run_id"}
_OF_STATE = {"state", "status", "created", "createdat", "start time", "start_time", "duration", "runtime"}


def _check_not_runs(path: Path, table: Table) -> None:
    """Raise RecordError for a table of runs, a row each, as W&B and MLflow export it: it holds no curve."""
    heads = {name.lower() for name in table.names}
    key = next((name for name in table.names if name.lower() in _OF_RUNS), None)
    if key is None or not heads & _OF_STATE or len(table.rows) < 2:
        return
    names = [str(row.get(key)) for row in table.rows]
    if len(set(names)) == len(names):
        raise RecordError(
            f"{path}: expected the curve of one run, got a table of {len(names)} runs, a row each: {', '.join(names[:3])} ...",
            "export a chart of each metric: ablate import --table chart.csv ARM=RUN; or wandb.Api().run(...).scan_history()",
        )


def read_lightning(path: Path, files: Sequence[Path], _: str | None) -> Source:
    """Read the metrics of one version of Lightning's CSVLogger, and its `hparams.yaml`."""
    file = only_file(path, files)
    fix = "remove the directory before running again into it"
    source = source_of(read_table(file), "lightning", path, file, "step", fix)
    source.shift, source.loss = LIGHTNING_SHIFT, "as logged by the module: of one step, or a mean"
    source.use_hparams(file.parent)
    return source


def source_of(table: Table, format: str, path: Path, file: Path, step_column: str | None, fix: str) -> Source:
    """Return the run in a table, whatever its file. fix: how to resolve two values at one step; may name `{step}`."""
    step = choose_step(table.names, step_column, str(file))
    rows = [_flat(row) for row in table.rows]
    notes = [*table.notes, *step_notes(step, sum(step not in row for row in rows)), *_unreadable(rows, step)]
    return Source(
        format=format, path=str(path), files=(file,), step=step, shift=int(step == "trainer/global_step"),
        rows=Rows(numbers(rows, step, str(file)), str(file), fix.format(step=step)), notes=notes,
    )  # fmt: skip


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with `eval_accuracy/accuracy` for a metric that is itself a mapping; W&B's media are left out."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, Mapping):
            flat[name] = value
        elif "_type" not in value:
            flat |= {f"{name}/{inner}": item for inner, item in value.items()}
    return flat


def _unreadable(rows: Sequence[Mapping[str, Any]], step: str) -> Iterator[str]:
    """Yield a note for each metric with values that are not numbers."""
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if row.get(name) is not None and number(row[name]) is None]
        if values and name != step and column_name(name) is not None:
            yield f"{len(values)} values of {name} are not numbers and are left out, such as {shown(values[0])}"


def choose_step(names: Sequence[str], wanted: str | None, where: str) -> str:
    """Return the column of steps. wanted: the user's choice. Raises RecordError if it does not exist."""
    known = [name for name in (STEPS if wanted is None else (wanted,)) if name in names]
    if known:
        return known[0]
    expected = f"a column {wanted!r}" if wanted is not None else f"a column of steps ({', '.join(STEPS)})"
    epochs = next((name for name in names if is_epoch(name)), None)
    steps = next((name for name in names if any(word in name.lower() for word in ("step", "iter", "update"))), None)
    fix = "a column with the number of updates, such as step"
    if steps is not None:
        fix = f"--step-column {steps}"
    elif epochs is not None and wanted is None:
        fix = f"--step-column {epochs}, where steps are epochs"
    raise RecordError(f"{where}: expected {expected}, got {', '.join(names) or 'no columns'}", fix)


def step_notes(step: str, missing: int) -> list[str]:
    """Return what the reader has to know about the steps. missing: number of rows without one."""
    notes = [f"{missing} rows without {step} are left out"] if missing else []
    if is_epoch(step):
        notes.append("steps are epochs, and samples are not counted from them")
    if step == "_step":
        notes.append(
            "_step counts calls of wandb.log, which are optimizer steps only if the run logs at every step; samples are not "
            "counted from it"
        )
    return notes


# ---- files of a table ----


def read_table(path: Path) -> Table:
    """Read a file by its suffix; a truncated last line is left out. Raises RecordError for a malformed file."""
    text = read_log_text(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _parse_csv(path, text, _separator(text, "\t" if suffix == ".tsv" else ","))
    value = parse_json(text) if suffix == ".json" else None
    rows, notes = _parse_lines(path, text) if value is None else (_parse_rows(path, value), [])
    if not rows:
        raise RecordError(f"{path}: expected rows, got none")
    full = [{name: _parsed(cell) for name, cell in row.items() if cell is not None} for row in rows]
    return Table(list(dict.fromkeys(name for row in rows for name in row)), full, notes)


def _separator(text: str, usual: str) -> str:
    """Return the usual separator, or the one with which the first line names a column of steps."""
    head = text.partition("\n")[0]
    known = {*STEPS, "epoch"}
    separators = dict.fromkeys((usual, ",", ";", "\t"))
    return next((one for one in separators if known & {name.strip(' "\r') for name in head.split(one)}), usual)


def _parse_csv(path: Path, text: str, separator: str) -> Table:
    """Parse a CSV. pandas pads short lines and renames duplicate columns silently, so it is not used here."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a table of samples has texts of any length
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=separator))
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


def _parse_lines(path: Path, text: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Parse one JSON object per line, which a `.json` file may contain as well."""
    lines = [(position, line) for position, line in enumerate(text.splitlines(), start=1) if line.strip()]
    values = [parse_json(line) for _, line in lines]
    notes = [_TRUNCATED] if values and values[-1] is None else []
    rows = values[: len(values) - len(notes)]
    for (position, line), row in zip(lines, rows, strict=False):
        if not isinstance(row, Mapping):
            problem = f"{path}, line {position}: expected a JSON object, got {line[:60]!r}"
            raise RecordError(problem, "one object per line, or a list of {'step': ..., ...}")
    return rows, notes


def _parse_rows(path: Path, value: Any) -> list[Mapping[str, Any]]:
    """Return the rows of a list of rows, of an object of columns, or of a single line."""
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        lengths = {name: len(column) for name, column in value.items()}
        if len(set(lengths.values())) > 1:
            raise RecordError(f"{path}: expected columns of equal length, got {lengths}"[:300])
        return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not value or not all(isinstance(row, Mapping) for row in value):
        problem = f"{path}: expected a list of rows, or an object of columns, got {type(value).__name__}"
        raise RecordError(problem, "a list of {'step': ..., ...}")
    return value


def _parsed(value: Any) -> Any:
    """Return the number in a text cell, if there is one."""
    if isinstance(value, str):
        for kind in (int, float) if len(value) < 20 else (float,):
            with suppress(ValueError):
                return kind(value)
    return value


# ---- charts exported by W&B ----


def exported_runs(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return {run: exports that contain it}, in order."""
    runs: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        for run in _runs_of(read_table(path)):
            runs.setdefault(run, []).append(path)
    return runs


def _runs_of(table: Table) -> list[str]:
    return list(dict.fromkeys(name.rpartition(_SEPARATOR)[0] for name in table.names if _SEPARATOR in name))


def _read_export(path: Path, table: Table, step_column: str | None) -> Source:
    """Read the only run of an export."""
    runs = _runs_of(table)
    if len(runs) != 1:
        shown = ", ".join(runs[:6]) + (", ..." if len(runs) > 6 else "")
        problem = f"{path}: expected one run, got {len(runs)} runs: {shown}"
        raise RecordError(problem, f"ablate import --table {path} baseline={runs[0]} ...")
    return read_exported_run(runs[0], [path], step_column)


def read_exported_run(run: str, paths: Sequence[Path], step_column: str | None = None) -> Source:
    """Read one run from all exports that contain it: an export has one metric, and a run has several."""
    logged: list[tuple[int, dict[str, float]]] = []
    averaged, step = False, ""
    notes: list[str] = []
    prefix = f"{run}{_SEPARATOR}"
    for path in paths:
        table = read_table(path)
        axes = [name for name in table.names if _SEPARATOR not in name]
        step = choose_step(axes, step_column or next(iter(axes), None), str(path))  # first column: the chart's x-axis
        for row in table.rows:
            values = {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix)}
            means = {name: value for name, value in values.items() if not name.endswith(_ENDS)}
            ends = [(value, values.get(f"{name}{end}", value)) for name, value in means.items() for end in _ENDS]
            averaged |= any(mean != end for mean, end in ends)
            if values and step in row:
                logged += numbers([{**means, step: row[step]}], step, str(path))
        notes += table.notes
    grouped = _GROUP.match(run)
    if grouped:
        notes.append(f"{run} is a group of runs: its values are means over runs, which the export does not count")
    elif averaged:
        notes.append(
            "the export contains means over stretches of the chart (__MIN and __MAX differ) instead of logged rows, which "
            "wandb.Api().run(...).scan_history() returns"
        )
    source = Source(
        format="wandb_table", path=run, files=tuple(paths), step=step, averaged=averaged,
        rows=Rows(logged, f"{run} of {', '.join(map(str, paths))}", "export each metric once"),
        notes=[*notes, *step_notes("_step" if step == "Step" else step, 0)],
    )  # fmt: skip
    if averaged:
        source.loss = "means over runs" if grouped else "means over stretches of a chart"
    return source

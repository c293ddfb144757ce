"""The table that W&B exports from a chart: a column `<run> - <metric>` for each run, with `__MIN` and `__MAX` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers.source import Source, merged
from ablate.importers.tables import Table, pick_step, rows_of_csv, step_notes

_BETWEEN = " - "
_ENDS = ("__MIN", "__MAX")


def found(path: Path) -> bool:
    """Whether the head of a CSV names runs and metrics."""
    if not path.is_file() or path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline(1_000_000)
    return _BETWEEN in head and "__MIN" in head


def runs_in(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """{run: tables that hold it}, in their order."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for name in rows_of_csv(path).names:
            run, between, _ = name.rpartition(_BETWEEN)
            if between and path not in found.setdefault(run, []):
                found[run].append(path)
    return found


def read(path: Path, step_column: str | None = None) -> Source:
    """The only run of a table. Raises RecordError where it holds several."""
    runs = list(runs_in([path]))
    if len(runs) != 1:
        raise RecordError(
            f"{path} holds {len(runs)} runs: {', '.join(runs[:6])}{', ...' if len(runs) > 6 else ''}",
            f"ablate import --table {path} baseline={runs[0] if runs else 'RUN'} ...",
        )
    return read_run(runs[0], [path], step_column)


def read_run(run: str, paths: Sequence[Path], step_column: str | None = None) -> Source:
    """One run of all the tables that hold it: an export has one metric, and a run has several."""
    logged: list[tuple[int, dict[str, float]]] = []
    averaged, step = False, ""
    notes: list[str] = []
    for path in paths:
        table = rows_of_csv(path)
        step = pick_step(
            [name for name in table.names if _BETWEEN not in name], step_column or _first(table), str(path)
        )
        head = f"{run}{_BETWEEN}"
        mine = [
            {name.removeprefix(head): row[name] for name in row if name.startswith(head)} | _at(row, step)
            for row in table.rows
        ]
        rows = [row for row in mine if set(row) - {step}]
        averaged |= any(_apart(row) for row in rows)
        kept = [{name: value for name, value in row.items() if not name.endswith(_ENDS)} for row in rows]
        logged += Table(path, [], [*kept]).by_step(step)
        notes += table.notes
    together = merged(logged, f"{run} of {', '.join(map(str, paths))}", "export each metric once")
    if averaged:
        notes.append(
            "the export holds means over stretches of the chart (__MIN and __MAX differ), and no rows as they were logged: "
            "wandb.Api().run(...).scan_history() has those"
        )
    return Source(
        format="wandb_table", path=run, files=tuple(paths), rows=together, step=step, averaged=averaged,
        loss="means over stretches of a chart" if averaged else "what was logged: of one step, or a mean",
        notes=[*notes, *step_notes("_step" if step == "Step" else step, 0)],
    )  # fmt: skip


def _first(table: Table) -> str | None:
    """The horizontal axis of the chart is the first column, whatever it is called."""
    return next((name for name in table.names if _BETWEEN not in name), None)


def _at(row: Mapping[str, Any], step: str) -> dict[str, Any]:
    return {step: row[step]} if step in row else {}


def _apart(row: Mapping[str, Any]) -> bool:
    return any(
        row.get(f"{name}__MIN", value) != value or row.get(f"{name}__MAX", value) != value
        for name, value in row.items()
        if not name.endswith(_ENDS)
    )

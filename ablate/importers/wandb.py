"""W&B: an offline run (`run-*.wandb`), or the CSV that it exports from a chart.

An offline run is a LevelDB log of protobuf messages: blocks of 32 KiB, in which each record follows its checksum, length
and kind, after 7 bytes that identify the file.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from ablate.errors import RecordError
from ablate.importers.hyperparameters import settings_of
from ablate.importers.source import ONE_PROCESS, Rows, Source, has_file, numbers, only_file
from ablate.importers.tables import choose_step, read_csv, step_notes

_BLOCK, _HEADER, _MAGIC = 32768, 7, b":W&B"
_FULL, _FIRST, _LAST = 1, 2, 4
_PATTERNS = (
    "run-*.wandb",
    *(f"{top}{run}/run-*.wandb" for top in ("", "wandb/") for run in ("offline-run-*", "run-*")),
)

_SEPARATOR = " - "
_ENDS = ("__MIN", "__MAX")


def matches(path: Path) -> bool:
    """Return whether a path is, or contains, an offline run."""
    return has_file(path, _PATTERNS) or (path.suffix == ".wandb" and not path.is_dir())


def read(path: Path, step_column: str | None = None) -> Source:
    """Read the history and the config of one offline run."""
    file = only_file(path, _PATTERNS)
    history, config, code, truncated = _read_messages(file)
    if not history:
        raise RecordError(
            f"{file}: expected rows of history, got none; the run logged nothing, or the file is truncated"
        )
    step = choose_step(list(dict.fromkeys(name for row in history for name in row)), step_column, str(file))
    notes = step_notes(step, sum(step not in row for row in history))
    source = Source(
        format="wandb", path=str(path), files=(file,), step=step, shift=int(step == "trainer/global_step"),
        rows=Rows(numbers(history, step, str(file)), str(file), "--step-column _step"), ended=code == 0,
        end_message="the run was killed, or its end was not written" if code is None else f"it ended with code {code}",
        notes=[*notes, *(["the file is truncated; its complete part was read"] if truncated else [])],
    )  # fmt: skip
    source.use_settings(settings_of(config), "the config of the run" if config else "", ONE_PROCESS)
    return source


def _read_messages(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], int | None, bool]:
    """Return (history row by row, config, exit code or None, whether the file is truncated)."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes() if path.is_file() else b""
    if not data.startswith(_MAGIC):
        raise RecordError(f"{path}: expected a file that begins with {_MAGIC.decode()}, got {data[:4]!r}")
    history: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    code: int | None = None
    log, proto = _LevelDbLog(data), cast(Any, wandb_internal_pb2)
    for message in log.messages():
        record = proto.Record()
        try:
            record.ParseFromString(message)
        except DecodeError as error:
            raise RecordError(f"{path}: cannot parse a message: {error}") from None
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = _values(record.history.item)
            if record.history.HasField("step"):
                row.setdefault("_step", record.history.step.num)
            history.append(row)
        elif kind in ("run", "config"):
            config |= _values((record.run.config if kind == "run" else record.config).update)
        elif kind == "exit":
            code = record.exit.exit_code
    return history, config, code, log.truncated


def _values(items: Any) -> dict[str, Any]:
    values = {}
    for item in items:
        try:
            value = json.loads(item.value_json)
        except (ValueError, RecursionError):
            value = None
        values[item.key or ".".join(item.nested_key)] = value
    return values


class _LevelDbLog:
    """Messages of a LevelDB log up to the first damaged one. truncated: whether something was left out."""

    def __init__(self, data: bytes) -> None:
        self.data, self.truncated = data, False

    def messages(self) -> Iterator[bytes]:
        data, position, parts = self.data, _HEADER, b""
        while position + _HEADER <= len(data):
            if _BLOCK - position % _BLOCK < _HEADER:  # too short for a header: padding
                position += _BLOCK - position % _BLOCK
                continue
            checksum, length, kind = struct.unpack_from("<IHB", data, position)
            part = data[position + _HEADER : position + _HEADER + length]
            if len(part) < length or zlib.crc32(bytes([kind]) + part) != checksum:
                self.truncated = True
                return
            parts = part if kind in (_FULL, _FIRST) else parts + part
            position += _HEADER + length
            if kind in (_FULL, _LAST):
                yield parts
        self.truncated |= position < len(data)


# The export of a chart: a column `<run> - <metric>` for each run, with `__MIN` and `__MAX` columns for its smoothing.


def is_export(path: Path) -> bool:
    """Return whether the head of a CSV names runs and metrics."""
    if not path.is_file() or path.suffix.lower() != ".csv":
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.readline(1_000_000)
    return _SEPARATOR in head and "__MIN" in head


def exported_runs(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return {run: exports that contain it}, in order."""
    runs: dict[str, list[Path]] = {}
    for path in paths:
        for name in read_csv(path).names:
            run, separator, _ = name.rpartition(_SEPARATOR)
            if separator and path not in runs.setdefault(run, []):
                runs[run].append(path)
    return runs


def read_export(path: Path, step_column: str | None = None) -> Source:
    """Read the only run of an export. Raises RecordError if there are several."""
    runs = list(exported_runs([path]))
    if len(runs) != 1:
        shown = ", ".join(runs[:6]) + (", ..." if len(runs) > 6 else "")
        problem = f"{path}: expected one run, got {len(runs)} runs: {shown}"
        raise RecordError(problem, f"ablate import --table {path} baseline={runs[0] if runs else 'RUN'} ...")
    return read_exported_run(runs[0], [path], step_column)


def read_exported_run(run: str, paths: Sequence[Path], step_column: str | None = None) -> Source:
    """Read one run from all exports that contain it: an export has one metric, and a run has several."""
    logged: list[tuple[int, dict[str, float]]] = []
    averaged, step = False, ""
    notes: list[str] = []
    prefix = f"{run}{_SEPARATOR}"
    for path in paths:
        table = read_csv(path)
        axes = [name for name in table.names if _SEPARATOR not in name]
        step = choose_step(
            axes, step_column or next(iter(axes), None), str(path)
        )  # the first column is the chart's x-axis
        for row in table.rows:
            values = {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix)}
            means = {name: value for name, value in values.items() if not name.endswith(_ENDS)}
            averaged |= any(
                values.get(f"{name}{end}", value) != value for name, value in means.items() for end in _ENDS
            )
            if values and step in row:
                logged += numbers([{**means, step: row[step]}], step, str(path))
        notes += table.notes
    if averaged:
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
        source.loss = "means over stretches of a chart"
    return source

"""Read a run's tables, also while the run is going and after it was killed in the middle of a block."""

from __future__ import annotations

import math
import os
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ablate.errors import RecordError
from ablate.records.schema import EVALS, PREDICTIONS, TRACE

_BLOCKS_PER_PART = 1024
"""Blocks that are combined at a time."""

MAX_BYTES, MAX_BLOCK_BYTES = 4 * 2**30, 256 * 2**20
"""Limits of a table's file, and of one block of it, which is read whole."""

_MAX_READ_BYTES = 768 * 2**20
"""Limit of the columns that are read together."""

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""Last bytes of a table that was closed."""


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return every whole block of an Arrow IPC stream; a torn tail is left out.

    columns: names of the columns to read, to save memory; None reads all.
    Raises RecordError for a missing file, one that does not begin like a stream, and one that could take up the memory.
    """
    parts: list[pa.Table] = []
    waiting: list[pa.RecordBatch] = []
    schema, size = None, 0
    try:
        for schema, block in _blocks(path, columns):
            if block is not None:
                waiting.append(block)
                size += block.nbytes
            if size > _MAX_READ_BYTES:
                raise ValueError(f"expected at most {_MAX_READ_BYTES:,} bytes to read together, got more")
            if len(waiting) >= _BLOCKS_PER_PART:
                parts.append(_combined(waiting, schema))
                waiting = []
        return pa.concat_tables([*parts, _combined(waiting, schema)])
    except (ValueError, pa.ArrowException) as error:
        raise RecordError(f"{path} is not a readable table: {error}") from None


def read_blocks(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the blocks of a table one by one, for a table that does not fit in memory. Raises as `read_table` does."""
    return (block for _, block in _blocks(path, columns) if block is not None)


def is_closed(path: Path) -> bool:
    """Return whether a table ends as its writer closed it: one that was cut off does not, nor does one that still grows."""
    with path.open("rb") as file:
        return (
            file.seek(0, os.SEEK_END) >= len(_END) and file.seek(-len(_END), os.SEEK_END) >= 0 and file.read() == _END
        )


def _blocks(path: Path, columns: Sequence[str] | None) -> Iterator[tuple[pa.Schema, pa.RecordBatch | None]]:
    """(schema, block), the schema alone first."""
    try:
        with open_table(path) as file:
            if (message := next_message(file)) is None:
                raise ValueError("it does not begin like a table")
            whole = pa.ipc.read_schema(message)
            schema = whole
            if columns is not None:
                schema = pa.schema([schema.field(name) for name in columns], metadata=schema.metadata)
            yield schema, None
            while (message := next_message(file)) is not None:
                try:
                    block = pa.ipc.read_record_batch(message, whole)
                    block.validate(full=True)  # an offset must not lead out of the file
                except (pa.ArrowException, OSError):
                    return
                yield schema, block if columns is None else block.select(columns)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise RecordError(f"{path} is not a readable table: {error}") from None


def open_table(path: Path) -> pa.NativeFile:
    """Open a table. Raises OSError for a pipe or a device, ValueError for a file that is too large to be a table of a run."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(f"{path} is not a file")
    if state.st_size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES:,} bytes, got {state.st_size:,}")
    return pa.OSFile(str(path))


_SCHEMA_MESSAGE, _BATCH_MESSAGE = 1, 3
"""Arrow's numbers for the kinds of message in a run's tables."""


def next_message(file: pa.NativeFile) -> pa.Message | None:
    """Return the next message of a table; None at its end, and where the next one is incomplete.

    Its flatbuffer is inspected before Arrow decodes it: a compressed block, or one that claims a large size, would take memory
    without limit. Raises ValueError for such a message.
    """
    start = file.tell()
    mark = file.read(8)
    size = int.from_bytes(mark[4:], "little")
    if len(mark) < 8 or size == 0 or start + 8 + size > file.size():
        return None
    if mark[:4] != _END[:4]:
        raise ValueError("its blocks do not begin as those of a table")
    try:
        body = _checked_body(file.read(size))
    except struct.error:
        raise ValueError("offset outside of the message") from None
    if start + 8 + size + body > file.size():
        file.seek(start)
        return None
    file.seek(start)
    try:
        return pa.ipc.read_message(file)
    except (EOFError, OSError, pa.ArrowInvalid):
        file.seek(start)
        return None


def _checked_body(metadata: bytes) -> int:
    """Return the size of the body that follows: {version, kind, {length, nodes, buffers, compression}, body length}."""
    message = _follow(metadata, 0)
    position = _field(metadata, message, 1)
    kind = metadata[position] if position else 0
    if kind not in (_SCHEMA_MESSAGE, _BATCH_MESSAGE):
        raise ValueError(f"unexpected message of kind {kind}")
    batch = _field(metadata, message, 2) if kind == _BATCH_MESSAGE else 0
    if batch and _field(metadata, _follow(metadata, batch), 3):
        raise ValueError("expected uncompressed blocks, got compressed ones, which can expand without limit")
    position = _field(metadata, message, 3)
    size = int(struct.unpack_from("<q", metadata, position)[0]) if position else 0
    if not 0 <= size <= MAX_BLOCK_BYTES:
        raise ValueError(f"expected at most {MAX_BLOCK_BYTES:,} bytes in a block, got {size:,}")
    return size


def _follow(data: bytes, position: int) -> int:
    return position + int(struct.unpack_from("<I", data, position)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Return the position of a flatbuffer table's field; 0 if it is absent."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    if vtable < 0:
        raise ValueError("offset outside of the message")
    entry = 4 + 2 * number
    size = struct.unpack_from("<H", data, vtable)[0]
    offset = int(struct.unpack_from("<H", data, vtable + entry)[0]) if entry + 2 <= size else 0
    if table + offset >= len(data):
        raise ValueError("offset outside of the message")
    return table + offset if offset else 0


def _combined(blocks: list[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """One copy of many small blocks: each alone takes more memory than its rows, and keeps the columns that were left out."""
    return pa.Table.from_batches(blocks, schema=schema).combine_chunks()


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps of a run as columns, one entry per optimizer step; an imported run may lack some."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        """Return one column, shape [rows]; booleans as 0 and 1, values that an import lacks as nan."""
        if column == "samples" and self.table[column].null_count:
            return self["step"]  # the number of samples of a step is unknown: positions are steps
        return np.asarray(self.table[column].to_numpy(), dtype=np.float64)

    def recorded(self, column: str) -> NDArray[np.bool_]:
        """Return a mask of the rows that hold a value of a column, shape [rows]; all of them unless the run was imported."""
        return np.asarray(self.table[column].is_valid().to_numpy(), dtype=np.bool_)

    @property
    def every_step(self) -> bool:
        """True where there is a row for every step from the first one on; an imported run may have logged a few."""
        return bool(np.array_equal(self["step"], np.arange(1, len(self) + 1)))

    @property
    def groups(self) -> list[str]:
        """Names of the gradient norm groups, in the order of `group_norms`."""
        names = (self.table.schema.metadata or {}).get(b"groups", b"").decode(errors="replace")
        return names.split("\n") if names else []

    def group_norms(self) -> NDArray[np.float64]:
        """Shape [steps, groups]."""
        flat, groups = self._lists("group_norms"), self.groups
        if len(flat) != len(self) * len(groups):
            raise RecordError(
                f"the trace has {len(flat)} group norms in {len(self)} rows, and names {len(groups)} groups"
            )
        return flat.reshape(len(self), len(groups))

    def update_ratios(self) -> NDArray[np.float64]:
        """Shape [steps, groups], or [steps, 1] where there are no groups; [steps, 0] where they were not recorded."""
        flat = self._lists("update_ratios")
        return flat.reshape(len(self), len(flat) // max(len(self), 1))

    def _lists(self, column: str) -> NDArray[np.float64]:
        flat = self.table[column].combine_chunks().flatten() if len(self) else []
        return np.asarray(flat, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class EvalCurve:
    """One metric on one split. Every array has shape [evaluations]; the first evaluation is before training.

    standard_error: of `value` as the mean of a sample of `count` examples; nan for fewer than two.
    """

    step: NDArray[np.int64]
    samples: NDArray[np.int64]
    epoch: NDArray[np.float64]
    train_seconds: NDArray[np.float64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    standard_error: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)

    def at(self, indices: NDArray[np.int64]) -> EvalCurve:
        """Return the curve at some of its evaluations."""
        return EvalCurve(*(getattr(self, field.name)[indices] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Evals:
    """A run's evaluations."""

    table: pa.Table

    def metrics(self, split: str = "held_out") -> list[str]:
        return sorted(pc.unique(self.table.filter(pc.equal(self.table["split"], split))["metric"]).to_pylist())

    def curve(self, metric: str, split: str = "held_out") -> EvalCurve:
        """Return sum / count at every evaluation; empty where the metric was not evaluated."""
        rows = self.table.filter(pc.and_(pc.equal(self.table["metric"], metric), pc.equal(self.table["split"], split)))

        def column(name: str) -> NDArray[np.float64]:
            return np.asarray(rows[name].to_numpy(), dtype=np.float64)

        total, count = column("sum"), column("count").astype(np.int64)
        value = total / np.maximum(count, 1)
        unknown = rows["samples"].null_count > 0  # then positions are steps, as in a trace
        return EvalCurve(
            step=column("step").astype(np.int64),
            samples=column("step" if unknown else "samples").astype(np.int64),
            epoch=column("epoch"),
            train_seconds=column("train_seconds"),
            value=value,
            count=count,
            standard_error=_standard_error(value, column("sum_squares"), count),
        )


def _standard_error(
    mean: NDArray[np.float64], sum_squares: NDArray[np.float64], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """sqrt(s^2 / n) with s^2 = (sum of squares - n mean^2) / (n - 1)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.maximum(sum_squares - count * mean**2, 0.0) / (count - 1)
        return np.asarray(np.where(count > 1, np.sqrt(variance / count), np.nan))


def read_trace(path: str | Path, columns: Sequence[str] | None = None) -> Trace:
    """Read `trace.arrow` of a run folder. columns: those to read; None reads all."""
    table = read_table(Path(path), columns)
    _check_columns(path, table, TRACE if columns is None else pa.schema([TRACE.field(name) for name in columns]))
    _check_values(path, table, _TRACE_VALUES)
    return Trace(table)


def read_evals(path: str | Path) -> Evals:
    """Read `evals.arrow` of a run folder."""
    table = read_table(Path(path))
    _check_columns(path, table, EVALS)
    _check_values(path, table, _EVAL_VALUES)
    return Evals(table)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Results of the final evaluation, one entry per example, in the order of the data set.

    id, group, items: as in the columns of that name. step: after which the evaluation took place.
    """

    table: pa.Table
    step: int

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        """`id`, `group`, `items`, or the sums of a metric over each example's items."""
        return np.asarray(self.table[column].to_numpy())

    @property
    def metrics(self) -> list[str]:
        return [name for name in self.table.column_names if name not in PREDICTIONS.names]


def read_predictions(path: str | Path) -> Predictions:
    """Read `predictions.arrow` of a run folder. Raises RecordError, with the reason, for a missing or invalid file."""
    table = read_table(Path(path))
    _check_columns(path, table, PREDICTIONS)
    metrics = pa.schema([(name, pa.float64()) for name in table.column_names if name not in PREDICTIONS.names])
    _check_columns(path, table, metrics)
    step = (table.schema.metadata or {}).get(b"step", b"").decode(errors="replace")
    holes = [name for name in table.column_names if table[name].null_count]
    if not step.isdecimal() or holes or len(set(table.column_names)) < table.num_columns:
        raise RecordError(
            f"{path} is not a table of a run: {f'{holes[0]} has missing values' if holes else 'its step is missing'}"
        )
    return Predictions(table, int(step))


def _check_columns(path: str | Path, table: pa.Table, wanted: pa.Schema) -> None:
    """Raise RecordError unless every column is there, with its type."""
    for field in wanted:
        index = table.schema.get_field_index(field.name)
        kind = table.schema.field(index).type if index >= 0 else "no such column"
        if kind != field.type:
            raise RecordError(f"{path} is not a table of a run: {field.name}: expected {field.type}, got {kind}")


@dataclass(frozen=True, slots=True)
class _Values:
    """What a column may hold. lowest: of its numbers. finite: whether it excludes infinity, and unless `nan`, nan.

    ascending: whether no number is below the one before. missing: whether a row may lack it, as in an import.
    """

    lowest: float = 0
    finite: bool = True
    nan: bool = False
    ascending: bool = False
    missing: bool = True


_TRACE_VALUES = {
    "step": _Values(ascending=True, missing=False),
    "samples": _Values(lowest=1, ascending=True),
    "tokens": _Values(ascending=True),
    "epoch": _Values(finite=False),
    "grad_norm": _Values(finite=False),
    "clip_coefficient": _Values(finite=False),
    "learning_rate": _Values(nan=True),
    "loss_scale": _Values(),
    "step_seconds": _Values(),
    "micro_samples": _Values(),
}
_EVAL_VALUES = {
    "step": _Values(ascending=True, missing=False),
    "samples": _Values(ascending=True),
    "tokens": _Values(),
    "epoch": _Values(finite=False),
    "train_seconds": _Values(),
    "eval_seconds": _Values(),
    "split": _Values(missing=False),
    "metric": _Values(missing=False),
    "sum": _Values(lowest=-math.inf, finite=False, missing=False),
    "count": _Values(lowest=1, missing=False),
}


def _check_values(path: str | Path, table: pa.Table, wanted: Mapping[str, _Values]) -> None:
    """Raise RecordError, with column and row, for the first value that no run has: the one check of what a table says."""
    for name, may in wanted.items():
        if name not in table.column_names:
            continue
        column = table[name]
        if not may.missing and column.null_count:
            row = pc.index(column.is_valid(), value=False).as_py()
            raise _odd(path, name, row, f"{'a name' if pa.types.is_string(column.type) else 'a number'}, got nothing")
        if pa.types.is_string(column.type):
            continue
        rows = np.flatnonzero(column.is_valid().to_numpy())
        numbers = column.drop_null().to_numpy()
        bad = numbers < may.lowest
        if may.finite:
            bad |= np.isinf(numbers) if may.nan else ~np.isfinite(numbers)
        if bad.any():
            first = int(np.argmax(bad))
            at_least = f"a number from {may.lowest:g}" if math.isfinite(may.lowest) else "a number"
            raise _odd(path, name, rows[first], f"{at_least}, got {numbers[first]}")
        if may.ascending and len(numbers) > 1 and (falls := numbers[1:] < numbers[:-1]).any():
            first = int(np.argmax(falls))
            raise _odd(path, name, rows[first + 1], f"at least {numbers[first]} as before, got {numbers[first + 1]}")


def _odd(path: str | Path, column: str, row: int, what: str) -> RecordError:
    return RecordError(f"{path}: column {column}, row {row + 1}: expected {what}")


@dataclass(slots=True)
class Tail:
    """Reads the new rows of a table that another process is still writing.

    offset: bytes read so far; an incomplete block is left for the next call.
    """

    path: Path
    offset: int = 0
    schema: pa.Schema | None = None

    @property
    def groups(self) -> list[str]:
        """Names of the gradient norm groups, of a trace that has begun."""
        names = ((self.schema.metadata if self.schema else None) or {}).get(b"groups", b"").decode(errors="replace")
        return names.split("\n") if names else []

    def new_rows(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of the blocks that were completed since the last call; none where there is no file yet.

        limit: stop after the block in which so many rows are reached, to bound the memory.
        """
        if not self.path.exists():
            return []
        rows: list[dict[str, Any]] = []
        with open_table(self.path) as file:
            file.seek(self.offset)
            while (limit is None or len(rows) < limit) and (message := next_message(file)) is not None:
                if self.schema is None:
                    self.schema = pa.ipc.read_schema(message)
                else:
                    rows += pa.ipc.read_record_batch(message, self.schema).to_pylist()
                self.offset = file.tell()
        return rows

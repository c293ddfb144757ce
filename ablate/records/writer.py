"""Write a run's tables: Arrow IPC streams that grow by whole blocks and can be read at any moment."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from ablate.errors import RecordError
from ablate.records.reader import read_blocks, read_table
from ablate.serialization import open_own, replacing


def block_of(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a block. columns: by name, sequences, numpy or Arrow arrays of one length."""

    def array(field: pa.Field) -> pa.Array:
        values = columns[field.name]
        return values if isinstance(values, pa.Array) else pa.array(values, type=field.type)

    return pa.record_batch([array(field) for field in schema], schema=schema)


def write_table(path: Path, columns: Mapping[str, Any], schema: pa.Schema) -> None:
    """Write a whole table atomically: after a kill or on a full disk, the old file is intact."""
    with replacing(path) as file, pa.ipc.new_stream(file, schema) as stream:
        stream.write_batch(block_of(columns, schema))


class TableWriter(AbstractContextManager["TableWriter"]):
    """Writes one table, and reads it back. Each `write` reaches the file in one system call: a kill loses at most the rows
    that were not yet written, and a concurrent reader sees whole blocks.

    path: of the Arrow IPC stream; None keeps the table in memory.
    metadata: of the schema, such as the names of the gradient norm groups.
    resume_at: an `extent` of an earlier writer of this file; later bytes are cut off, and the table continues there.
    keep: False drops the rows of a table in memory, in processes that do not record.
    Raises RecordError where the file is shorter.
    """

    def __init__(
        self,
        path: Path | None,
        schema: pa.Schema,
        *,
        metadata: Mapping[str, str] | None = None,
        resume_at: int | None = None,
        keep: bool = True,
    ) -> None:
        self.path, self.keep = path, keep
        self.schema = schema.with_metadata(dict(metadata)) if metadata else schema
        self._in_memory: list[pa.RecordBatch] = []
        if path is None:
            return
        self._block = io.BytesIO()
        self._stream = pa.ipc.new_stream(self._block, self.schema)
        empty: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        if resume_at is None:
            self._file = open_own(path, os.O_TRUNC)
            # Sent immediately, so that a run which has not finished its first block is already a readable, empty table.
            self.write(empty)
            return
        if not path.exists() or path.stat().st_size < resume_at:
            raise RecordError(
                f"{path} does not hold the {resume_at} bytes that its checkpoint was made with",
                f"remove {path.parent} and run it again",
            )
        self._file = open_own(path, 0)
        os.ftruncate(self._file, resume_at)
        os.lseek(self._file, 0, os.SEEK_END)
        self._stream.write_batch(block_of(empty, self.schema))
        self._clear()  # the file already begins with the schema

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows. columns: one sequence per column of the schema, all of one length."""
        if self.path is not None:
            self._stream.write_batch(block_of(columns, self.schema))
            self._send()
        elif self.keep:
            self._in_memory.append(block_of(columns, self.schema))

    def close(self) -> None:
        if self.path is not None:
            self._stream.close()
            self._send()
            os.close(self._file)

    def extent(self) -> int:
        """Return the bytes of the file that are whole blocks, on disk when this returns; 0 in memory."""
        if self.path is None:
            return 0
        os.fsync(self._file)
        return os.lseek(self._file, 0, os.SEEK_CUR)

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of the blocks written so far."""
        if self.path is not None:
            return read_blocks(self.path, columns)
        return (block.select(columns) for block in self._in_memory)

    def table(self) -> pa.Table:
        """Return the rows written so far."""
        return pa.Table.from_batches(self._in_memory, self.schema) if self.path is None else read_table(self.path)

    def _send(self) -> None:
        left = memoryview(self._block.getvalue())
        while left:  # one call takes all of it, but for a full disk or a signal
            left = left[os.write(self._file, left) :]
        self._clear()

    def _clear(self) -> None:
        self._block.seek(0)
        self._block.truncate()

    def __exit__(self, *error: object) -> None:
        self.close()

"""Write a run's tables: Arrow IPC streams that grow by whole blocks and can be read at any moment."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from ablate.errors import RecordError


def block_of(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as a block. columns: by name, sequences, numpy or Arrow arrays of one length."""

    def array(field: pa.Field) -> pa.Array:
        values = columns[field.name]
        return values if isinstance(values, pa.Array) else pa.array(values, type=field.type)

    return pa.record_batch([array(field) for field in schema], schema=schema)


def write_table(path: Path, columns: Mapping[str, Any], schema: pa.Schema) -> None:
    """Write a whole table atomically: after a kill or on a full disk, the old file is intact."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            with pa.ipc.new_stream(file, schema) as stream:
                stream.write_batch(block_of(columns, schema))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


class TableWriter:
    """Writes one Arrow IPC stream. Each `write` reaches the file in one system call: a kill loses at most the rows that were
    not yet written, and a concurrent reader sees whole blocks.

    metadata: of the schema, such as the names of the gradient norm groups.
    resume_at: an `extent` of an earlier writer of this file; later bytes are cut off, and the table continues there.
    Raises RecordError where the file is shorter.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, *, metadata: Mapping[str, str] | None = None, resume_at: int | None = None
    ) -> None:
        self.path = path
        self.schema = schema.with_metadata(dict(metadata)) if metadata else schema
        self._block = io.BytesIO()
        self._stream = pa.ipc.new_stream(self._block, self.schema)
        if resume_at is None:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            # Sent immediately, so that a run which has not finished its first block is already a readable, empty table.
            self.write({name: [] for name in self.schema.names})
            return
        if not path.exists() or path.stat().st_size < resume_at:
            raise RecordError(
                f"{path} does not hold the {resume_at} bytes that its checkpoint was made with",
                f"remove {path.parent} and run it again",
            )
        self._file = os.open(path, os.O_WRONLY)
        os.ftruncate(self._file, resume_at)
        os.lseek(self._file, 0, os.SEEK_END)
        self._stream.write_batch(
            pa.record_batch([pa.array([], field.type) for field in self.schema], schema=self.schema)
        )
        self._clear()  # the file already begins with the schema

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows. columns: one sequence per column of the schema, all of one length."""
        self._stream.write_batch(block_of(columns, self.schema))
        self._send()

    def close(self) -> None:
        self._stream.close()
        self._send()
        os.close(self._file)

    def extent(self) -> int:
        """Return the bytes of the file that are whole blocks, on disk when this returns."""
        os.fsync(self._file)
        return os.lseek(self._file, 0, os.SEEK_CUR)

    def _send(self) -> None:
        left = memoryview(self._block.getvalue())
        while left:  # one call takes all of it, but for a full disk or a signal
            left = left[os.write(self._file, left) :]
        self._clear()

    def _clear(self) -> None:
        self._block.seek(0)
        self._block.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

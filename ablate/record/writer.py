"""Writing a run's tables: Arrow IPC streams that grow by whole blocks and can be read at any moment."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa


class TableWriter:
    """One Arrow IPC stream. Each `write` reaches the file in one system call: a kill loses at most what was not yet
    written, and a reader that comes in between sees whole blocks.

    metadata: kept in the schema, such as the names of the gradient norm groups.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, metadata: Mapping[str, str] | None = None) -> None:
        self.schema = schema.with_metadata(dict(metadata)) if metadata else schema
        self._block = io.BytesIO()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        # Sent at once, so that a run which has not finished its first block is already a readable, empty table.
        self._stream = pa.ipc.new_stream(self._block, self.schema)
        self.write({name: [] for name in self.schema.names})

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Append rows. columns: one sequence per column of the schema, all of one length."""
        arrays = [pa.array(columns[field.name], type=field.type) for field in self.schema]
        self._stream.write_batch(pa.record_batch(arrays, schema=self.schema))
        self._send()

    def close(self) -> None:
        self._stream.close()
        self._send()
        os.close(self._file)

    def _send(self) -> None:
        os.write(self._file, self._block.getvalue())
        self._block.seek(0)
        self._block.truncate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

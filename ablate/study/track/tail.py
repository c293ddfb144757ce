"""The new rows of a table that another process is still writing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa


@dataclass(slots=True)
class Tail:
    """Reads an Arrow IPC stream block by block and remembers where it stopped.

    offset: bytes read so far; a block that is not whole yet is left for the next call.
    """

    path: Path
    offset: int = 0
    schema: pa.Schema | None = None

    @property
    def groups(self) -> list[str]:
        """Names of the gradient norm groups, of a trace that has begun."""
        names = ((self.schema.metadata if self.schema else None) or {}).get(b"groups", b"").decode(errors="replace")
        return names.split("\n") if names else []

    def new_rows(self, most: int | None = None) -> list[dict[str, Any]]:
        """Rows of the blocks that became whole since the last call; none where there is no file yet.

        most: stop after the block in which so many are reached, so that a long trace need not be in memory whole.
        """
        if not self.path.exists():
            return []
        rows: list[dict[str, Any]] = []
        with pa.OSFile(str(self.path)) as file:
            file.seek(self.offset)
            while (most is None or len(rows) < most) and (message := _next_message(file)) is not None:
                if self.schema is None:
                    self.schema = pa.ipc.read_schema(message)
                else:
                    rows += pa.ipc.read_record_batch(message, self.schema).to_pylist()
                self.offset = file.tell()
        return rows


def _next_message(file: pa.NativeFile) -> pa.Message | None:
    """None at the end of the stream and where the next block is not whole yet."""
    try:
        return pa.ipc.read_message(file)
    except (EOFError, OSError, pa.ArrowInvalid):
        return None

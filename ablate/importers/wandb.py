"""W&B: an offline run, `run-*.wandb`.

It is a LevelDB log of protobuf messages: blocks of 32 KiB, in which each record follows its checksum, length and kind, after
7 bytes that identify the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from ablate.errors import RecordError
from ablate.importers.hyperparameters import settings_of
from ablate.importers.source import Source, only_file, parse_json
from ablate.importers.tables import Table, source_of

_BLOCK, _HEADER, _MAGIC = 32768, 7, b":W&B"
_FULL, _FIRST, _LAST = 1, 2, 4

PATTERNS = (
    "run-*.wandb",
    *(f"{top}{run}/run-*.wandb" for top in ("", "wandb/") for run in ("offline-run-*", "run-*")),
)


def read(path: Path, files: Sequence[Path], step_column: str | None) -> Source:
    """Read the history and the config of one offline run."""
    file = only_file(path, files)
    history, config, code, truncated = _read_messages(file)
    if not history:
        raise RecordError(
            f"{file}: expected rows of history, got none; the run logged nothing, or the file is truncated"
        )
    table = Table(list(dict.fromkeys(name for row in history for name in row)), history)
    source = source_of(table, "wandb", path, file, step_column, "log each metric once per step, or --step-column NAME")
    source.ended = code == 0
    source.end_message = (
        "the run was killed, or its end was not written" if code is None else f"it ended with code {code}"
    )
    if truncated:
        source.notes.append("the file is truncated; its complete part was read")
    source.use_settings(settings_of(config), "the config of the run" if config else "")
    return source


def _read_messages(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], int | None, bool]:
    """Return (history row by row, config, exit code or None, whether the file is truncated)."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
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
    return {item.key or ".".join(item.nested_key): parse_json(item.value_json) for item in items}


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

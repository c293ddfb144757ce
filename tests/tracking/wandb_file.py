"""What an offline W&B run holds, read from its `.wandb` file: the records that `wandb sync` would upload.

The file is a LevelDB log (blocks of 32 KiB; each record has a header of 7 bytes: checksum, length, kind) of protobuf
messages, after 7 bytes of its own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK = 32768
_HEADER = 7
_FULL, _LAST = 1, 4


@dataclass
class Uploaded:
    """history: one dict per logged row. run: the run's own record. artifacts: {type: {name: file}}.
    exit_code: None when it was never finished."""

    folder: Path
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)
    exit_code: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        """The history without what W&B adds."""
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in self.history]

    def table(self, name: str) -> list[dict[str, Any]]:
        """A table that was logged, row by row."""
        (path,) = [row[f"{name}.path"] for row in self.history if f"{name}.path" in row]
        stored = json.loads((self.folder / "files" / path).read_text())
        return [dict(zip(stored["columns"], row, strict=True)) for row in stored["data"]]


def read_offline(folder: Path) -> Uploaded:
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    found = Uploaded(path.parent)
    for message in _messages(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(message)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= {_name(item): json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            found.history.append({_name(item): json.loads(item.value_json) for item in record.history.item})
        elif kind == "summary":
            found.summary |= {_name(item): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "metric":
            found.metrics[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact" or (kind == "request" and record.request.HasField("log_artifact")):
            artifact = record.artifact if kind == "artifact" else record.request.log_artifact.artifact
            files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
            found.artifacts[artifact.type] = files
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _name(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _messages(data: bytes) -> Iterator[bytes]:
    at, parts = _HEADER, b""
    while at + _HEADER <= len(data):
        if _BLOCK - at % _BLOCK < _HEADER:  # too short for a header: padding
            at += _BLOCK - at % _BLOCK
            continue
        _checksum, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""

"""An offline run of W&B: `run-*.wandb`, a LevelDB log of W&B's own protobuf messages.

Blocks of 32 KiB, in which each record has its checksum, length and kind before it, after 7 bytes that name the file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ablate.errors import RecordError
from ablate.importers._files import below, inside
from ablate.importers.hyperparameters import settings_of
from ablate.importers.source import Source, merged, number, step_of
from ablate.importers.tables import pick_step, step_notes

_BLOCK, _HEADER, _NAME = 32768, 7, b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_WHERE = (
    "run-*.wandb",
    "offline-run-*/run-*.wandb",
    "run-*/run-*.wandb",
    "wandb/offline-run-*/run-*.wandb",
    "wandb/run-*/run-*.wandb",
)


def found(path: Path) -> bool:
    """Whether W&B has left a run there."""
    return any(any(path.glob(where)) for where in _WHERE) if path.is_dir() else path.suffix == ".wandb"


def read(path: Path, step_column: str | None = None) -> Source:
    """One run's history and config. Raises RecordError where there are several, or the file is of another kind."""
    files = [file for where in _WHERE for file in below(path, where)] if path.is_dir() else [path]
    if len(files) != 1:
        shown = ", ".join(file.parent.name for file in files[:6])
        raise RecordError(
            f"{path} holds {len(files)} runs: {shown}", f"name each: {files[0].parent if files else path}"
        )
    (file,) = files
    history, config, code, torn = _read(inside(path, file) if path.is_dir() else file)
    names = list(dict.fromkeys(name for row in history for name in row))
    if not history:
        raise RecordError(f"{file} holds no row of history: nothing was logged, or it broke off before")
    step = pick_step(names, step_column, str(file))
    rows = [row for row in history if step in row]
    settings = settings_of(config)
    of_lightning = step == "trainer/global_step"
    return Source(
        format="wandb", path=str(path), files=(file,), step=step, shift=int(of_lightning),
        rows=merged(
            ((step_of(row[step], f"{file}, {step}"), _numbers(row, step)) for row in rows), str(file), "--step-column _step"
        ),
        config=settings.config, looking=settings.looking, settings="the config of the run" if config else "",
        seed=settings.seed, seed_from=settings.seed_from, samples_per_step=settings.batch,
        samples_from=f"{settings.batch_from}; that there was one process is not on record" if settings.batch else "",
        ended=code == 0, sentence=_ended(code), loss="what was logged: of one step, or a mean",
        notes=[*step_notes(step, len(history) - len(rows)), *(["the file breaks off; what is whole was read"] if torn else [])],
    )  # fmt: skip


def _ended(code: int | None) -> str:
    return (
        "W&B's file has no end: the run was killed, or its end was not written"
        if code is None
        else f"it ended with code {code}"
    )


def _numbers(row: Mapping[str, Any], step: str) -> dict[str, float]:
    found = {name: number(value) for name, value in row.items() if name != step}
    return {name: value for name, value in found.items() if value is not None}


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any], int | None, bool]:
    """(history row by row, config, exit code or None, whether the file breaks off)."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes() if path.is_file() else b""
    if not data.startswith(_NAME):
        raise RecordError(f"{path} does not begin like a run of W&B ({_NAME.decode()})")
    history: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    code: int | None = None
    read, proto = _Log(data), cast(Any, wandb_internal_pb2)
    for message in read.messages():
        record = proto.Record()
        try:
            record.ParseFromString(message)
        except DecodeError as error:
            raise RecordError(f"{path} holds a message that is none of W&B's: {error}") from None
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = {_key(item): _value(item.value_json) for item in record.history.item}
            if record.history.HasField("step"):
                row.setdefault("_step", record.history.step.num)
            history.append(row)
        elif kind in ("run", "config"):
            changes = record.run.config if kind == "run" else record.config
            config |= {_key(item): _value(item.value_json) for item in changes.update}
        elif kind == "exit":
            code = record.exit.exit_code
    return history, config, code, read.torn


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Log:
    """The messages of a LevelDB log, as far as they are whole. torn: something was left out."""

    def __init__(self, data: bytes) -> None:
        self.data, self.torn = data, False

    def messages(self) -> Iterator[bytes]:
        data, at, parts = self.data, _HEADER, b""
        while at + _HEADER <= len(data):
            if _BLOCK - at % _BLOCK < _HEADER:  # too short for a header: padding
                at += _BLOCK - at % _BLOCK
                continue
            checksum, length, kind = struct.unpack_from("<IHB", data, at)
            part = data[at + _HEADER : at + _HEADER + length]
            if len(part) < length or zlib.crc32(bytes([kind]) + part) != checksum:
                self.torn = True
                return
            parts = part if kind in (_FULL, _FIRST) else parts + part
            at += _HEADER + length
            if kind in (_FULL, _LAST):
                yield parts
        self.torn |= at < len(data)

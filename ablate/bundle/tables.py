"""Tables that may come from anybody: blocks are looked at before Arrow reads them, as a compressed one may grow without end."""

from __future__ import annotations

import struct
from pathlib import Path

import pyarrow as pa

_SCHEMA, _BLOCK = 1, 3
"""Kinds of message that a run writes; Arrow's own numbers."""


def problem_of(path: Path) -> str:
    """What keeps a table from being read; '' where nothing does. A torn tail, of a run that was killed, is no problem."""
    try:
        with pa.OSFile(str(path)) as file:
            messages = pa.ipc.MessageReader.open_stream(file)
            while True:
                try:
                    message = messages.read_next_message()
                except (StopIteration, pa.ArrowException, OSError):
                    return ""
                found = _problem(message.metadata.to_pybytes())
                if found:
                    return found
    except (OSError, ValueError, struct.error, pa.ArrowException) as error:
        return f"it is no table: {error}"


def _problem(metadata: bytes) -> str:
    """Of one message, whose metadata is a flatbuffer: {version, kind, {length, nodes, buffers, compression}, body length}."""
    message = _at(metadata, 0)
    kind = metadata[place] if (place := _field(metadata, message, 1)) else 0
    if kind == _SCHEMA:
        return ""
    if kind != _BLOCK:
        return f"it holds a message of kind {kind}, which no run writes"
    block = _field(metadata, message, 2)
    if block and _field(metadata, _at(metadata, block), 3):
        return "its blocks are compressed, which no run writes: they may grow without end"
    return ""


def _at(data: bytes, place: int) -> int:
    """Where an offset leads."""
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; 0 where it has none."""
    names = table - int(struct.unpack_from("<i", data, table)[0])
    if names < 0:
        raise ValueError("an offset leads out of it")
    size = struct.unpack_from("<H", data, names)[0]
    place = 4 + 2 * number
    offset = int(struct.unpack_from("<H", data, names + place)[0]) if place + 2 <= size else 0
    return table + offset if offset else 0

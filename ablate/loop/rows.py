"""The rows of a trace between two writes: host numbers in lists, device numbers on the device until a block is full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch

from ablate.record.columns import TRACE
from ablate.record.writer import TableWriter

_ON_DEVICE = ("loss", "grad_norm", "clip_coefficient", "applied")


class Sink(Protocol):
    """Takes blocks of rows."""

    schema: pa.Schema

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None: ...

    def close(self) -> None: ...


class MemoryTable:
    """A sink that keeps its rows, for runs without a folder."""

    def __init__(self, schema: pa.Schema, *, metadata: Mapping[str, str] | None = None) -> None:
        self.schema = schema.with_metadata(dict(metadata)) if metadata else schema
        self.blocks: list[pa.RecordBatch] = []

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        arrays = [pa.array(columns[field.name], type=field.type) for field in self.schema]
        self.blocks.append(pa.record_batch(arrays, schema=self.schema))

    def close(self) -> None: ...

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.blocks, schema=self.schema)


def open_sink(folder: Path | None, name: str, schema: pa.Schema, metadata: Mapping[str, str] | None = None) -> Sink:
    """A stream `<folder>/<name>.arrow`, or rows in memory."""
    if folder is None:
        return MemoryTable(schema, metadata=metadata)
    return TableWriter(folder / f"{name}.arrow", schema, metadata=metadata)


class TraceRows:
    """Collects one row per step; `flush` copies the device part in one transfer and hands the block to the sink."""

    def __init__(self, sink: Sink, block_rows: int) -> None:
        self.sink = sink
        self.block_rows = block_rows
        self.last: dict[str, float] = {}
        """The newest flushed row, scalars only."""
        self.skipped = 0
        """Consecutive steps, up to the newest flushed row, that were not applied."""
        self._host: list[dict[str, float]] = []
        self._device: list[torch.Tensor] = []

    def add(self, host: dict[str, float], scalars: Sequence[torch.Tensor], group_norms: torch.Tensor) -> bool:
        """Keep a row. scalars: loss, grad_norm, clip_coefficient, applied, each []. True when a block is full."""
        self._host.append(host)
        self._device.append(torch.cat([torch.stack([value.detach().float() for value in scalars]), group_norms]))
        return len(self._host) >= self.block_rows

    def flush(self) -> None:
        if not self._host:
            return
        block = torch.stack(self._device).cpu()  # [rows, 4 + groups]: the one wait for the device in many steps
        columns: dict[str, list[Any]] = {name: [row[name] for row in self._host] for name in self._host[0]}
        columns |= {name: block[:, k].tolist() for k, name in enumerate(_ON_DEVICE)}
        columns["applied"] = [value == 1.0 for value in columns["applied"]]
        columns["group_norms"] = list(block[:, len(_ON_DEVICE) :].numpy())
        for applied in columns["applied"]:
            self.skipped = 0 if applied else self.skipped + 1
        self.sink.write({name: columns[name] for name in TRACE.names})
        self.last = {name: float(values[-1]) for name, values in columns.items() if name != "group_norms"}
        self._host, self._device = [], []


def as_table(sink: Sink, folder: Path | None, name: str) -> pa.Table:
    """What a closed sink holds."""
    from ablate.record.reader import read_table

    return sink.table() if isinstance(sink, MemoryTable) or folder is None else read_table(folder / f"{name}.arrow")  # type: ignore[attr-defined]

"""The rows of a trace between two writes: what the host knows in lists, what the device knows on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ablate.record.columns import TRACE
from ablate.record.reader import read_blocks, read_table
from ablate.record.writer import TableWriter

_SCALARS = ("loss", "grad_norm", "clip_coefficient", "applied", "loss_scale", "micro_grad_norm", "culprit")
"""The device's numbers of a step, in the order in which they lie in a row; then the group norms, then the update ratios."""

HostRow = tuple[int, float, int, int, float, int]
"""step, epoch, samples, tokens, step_seconds, micro_samples."""
_HOST = ("step", "epoch", "samples", "tokens", "step_seconds", "micro_samples")


class Sink(Protocol):
    """Takes blocks of rows."""

    schema: pa.Schema

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None: ...

    def close(self) -> None: ...

    def table(self) -> pa.Table: ...

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...

    def extent(self) -> int: ...


class MemoryTable:
    """A sink that keeps its rows, for runs without a folder; `keep=False` drops them, for processes that do not record."""

    def __init__(self, schema: pa.Schema, *, metadata: Mapping[str, str] | None = None, keep: bool = True) -> None:
        self.schema = schema.with_metadata(dict(metadata)) if metadata else schema
        self.keep = keep
        self.blocks: list[pa.RecordBatch] = []

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        if self.keep:
            arrays = [pa.array(columns[field.name], type=field.type) for field in self.schema]
            self.blocks.append(pa.record_batch(arrays, schema=self.schema))

    def close(self) -> None: ...

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self.blocks, schema=self.schema)

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return (block.select(columns) for block in self.blocks)

    def extent(self) -> int:
        return 0


class FileTable(TableWriter):
    """A sink on disk that can be read back."""

    def table(self) -> pa.Table:
        return read_table(self.path)

    def read(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return read_blocks(self.path, columns)


def open_sink(
    folder: Path | None, name: str, schema: pa.Schema, metadata: Mapping[str, str] | None = None, *,
    keep: bool = True, resume_at: int | None = None,
) -> Sink:  # fmt: skip
    """A stream `<folder>/<name>.arrow`, or rows in memory. resume_at: bytes of the stream to keep and write on from."""
    if folder is None or not keep:
        return MemoryTable(schema, metadata=metadata, keep=keep)
    return FileTable(folder / f"{name}.arrow", schema, metadata=metadata, resume_at=resume_at)


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """What a step leaves on the device: scalars [] and vectors [groups]. culprit: place of the first parameter whose gradient
    was not finite, read only where `applied` is False."""

    loss: torch.Tensor
    grad_norm: torch.Tensor
    clip_coefficient: torch.Tensor
    applied: torch.Tensor
    loss_scale: torch.Tensor
    micro_grad_norm: torch.Tensor
    culprit: torch.Tensor
    group_norms: torch.Tensor
    update_ratios: torch.Tensor

    def into(self, row: torch.Tensor) -> None:
        """Write as one row of fp32 numbers, [7 + groups + ratios], where the numbers are: no host sync."""
        scalars = [getattr(self, name).reshape(1) for name in _SCALARS]
        parts = [*scalars, self.group_norms, self.update_ratios]
        torch.cat([part.to(row.dtype) for part in parts], out=row)

    def into_host(self, row: NDArray[np.float32]) -> None:
        """The same where the numbers are on the host: reading each costs less than one tensor operation."""
        ends = len(_SCALARS), len(_SCALARS) + len(self.group_norms)
        row[: ends[0]] = [float(getattr(self, name)) for name in _SCALARS]
        row[ends[0] : ends[1]] = self.group_norms.numpy()
        row[ends[1] :] = self.update_ratios.numpy()


class TraceRows:
    """Two blocks of rows on the device, used in turn: while one fills, the other travels to the host.

    block_rows: steps between two copies. rate: number of applied steps, this one included -> learning rate.
    names: of the parameters, to name the one whose gradient was not finite first.
    """

    def __init__(
        self, sink: Sink, block_rows: int, *, rate: Callable[[int], float], names: Sequence[str], applied_steps: int = 0
    ) -> None:
        self.sink, self.block_rows, self.rate, self.names = sink, block_rows, rate, names
        self.last: dict[str, float] = {}
        """The newest row that has arrived, scalars only."""
        self.skipped = 0
        """Consecutive steps, up to the newest row that has arrived, that were not applied."""
        self.applied_steps = applied_steps
        self.culprit: str | None = None
        self._host: list[HostRow] = []
        self._blocks: list[torch.Tensor] = []
        self._landing: list[torch.Tensor] = []
        self._on_host: list[NDArray[np.float32]] = []
        self._turn = self._num_groups = 0
        self._travelling: tuple[list[HostRow], torch.Tensor, torch.cuda.Event | None] | None = None

    def add(self, host: HostRow, device: DeviceRow) -> bool:
        """Keep a row. True when the block is full and has to be flushed before the next."""
        if not self._blocks:
            self._allocate(device)
        if self._on_host:
            device.into_host(self._on_host[self._turn][len(self._host)])
        else:
            device.into(self._blocks[self._turn][len(self._host)])
        self._host.append(host)
        return len(self._host) >= self.block_rows

    def flush(self, *, wait: bool) -> None:
        """Send the block on its way and write the one that was sent before; with `wait`, write this one too.

        The one before was sent `block_rows` steps ago and has long arrived: the host waits for nothing then.
        """
        self._arrive()
        if not self._host:
            return
        rows, landing = self._blocks[self._turn][: len(self._host)], self._landing[self._turn][: len(self._host)]
        event = None
        if rows.device.type == "cuda":
            landing.copy_(rows, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._travelling, self._host, self._turn = (self._host, landing, event), [], 1 - self._turn
        if wait or event is None:
            self._arrive()

    def _allocate(self, row: DeviceRow) -> None:
        self._num_groups = len(row.group_norms)
        device = row.grad_norm.device
        shape = (2, self.block_rows, len(_SCALARS) + self._num_groups + len(row.update_ratios))
        self._blocks = list(torch.empty(shape, device=device))
        if device.type == "cpu":
            self._landing, self._on_host = self._blocks, [block.numpy() for block in self._blocks]
        else:
            self._landing = list(torch.empty(shape, pin_memory=device.type == "cuda"))

    def _arrive(self) -> None:
        if self._travelling is None:
            return
        host, block, event = self._travelling
        self._travelling = None
        if event is not None:
            event.synchronize()
        numbers = block.numpy()
        columns: dict[str, Any] = dict(zip(_HOST, zip(*host, strict=True), strict=True))
        columns |= {name: numbers[:, k].tolist() for k, name in enumerate(_SCALARS)}
        columns["applied"] = [value == 1.0 for value in columns["applied"]]
        columns["learning_rate"] = [self._learning_rate(applied) for applied in columns["applied"]]
        for applied, place in zip(columns["applied"], columns["culprit"], strict=True):
            self.skipped = 0 if applied else self.skipped + 1
            if not applied:
                self.culprit = self.culprit or self.names[int(place)]
        columns["micro_grad_norm"] = [
            norm if samples else None
            for norm, samples in zip(columns["micro_grad_norm"], columns["micro_samples"], strict=True)
        ]
        groups = len(_SCALARS) + self._num_groups
        columns["group_norms"] = list(numbers[:, len(_SCALARS) : groups])
        columns["update_ratios"] = list(numbers[:, groups:])
        self.sink.write({name: columns[name] for name in TRACE.names})
        self.last = {name: float(columns[name][-1]) for name in ("step", "samples", "loss", "grad_norm")}

    def _learning_rate(self, applied: bool) -> float:
        """Of the next step in order: the schedule counts applied steps, and their number is known here for certain."""
        rate = self.rate(self.applied_steps + 1)
        self.applied_steps += applied
        return rate

"""The rows of a trace between two writes: numbers of the host in lists, numbers of the device on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ablate.records.schema import TRACE
from ablate.records.writer import TableWriter
from ablate.training.grad_norms import GradNorms
from ablate.training.throughput import Seconds, read_seconds

_SCALARS = ("loss", "grad_norm", "clip_coefficient", "applied", "loss_scale", "micro_grad_norm")
"""The device's numbers of a step, in their order within a row; then each parameter's norm, then update ratios."""

HostRow = tuple[int, float, int, int, Seconds, int]
"""step, epoch, samples, tokens, step_seconds, micro_samples."""
_HOST = np.dtype([("step", "i8"), ("epoch", "f8"), ("samples", "i8"), ("tokens", "i8"), ("step_seconds", "f8"),
                  ("micro_samples", "i8")])  # fmt: skip


@dataclass(slots=True)
class DeviceRow:
    """A step's numbers on the device: scalars [], the norm of each parameter's gradient [parameters], update ratios."""

    loss: torch.Tensor
    grad_norm: torch.Tensor
    clip_coefficient: torch.Tensor
    applied: torch.Tensor | bool
    loss_scale: torch.Tensor
    micro_grad_norm: torch.Tensor
    each_norm: torch.Tensor
    update_ratios: torch.Tensor

    def into(self, row: torch.Tensor) -> None:
        """Write one row of fp32 numbers, [6 + parameters + ratios], on the device: no host sync."""
        if isinstance(self.applied, bool):
            self.applied = torch.full_like(self.grad_norm, float(self.applied))
        scalars = [getattr(self, name).reshape(1) for name in _SCALARS]
        parts = [*scalars, self.each_norm, self.update_ratios]
        torch.cat([part.to(row.dtype) for part in parts], out=row)

    def numbers(self) -> list[float]:
        """Return the same row where the numbers are on the host: reading them costs less than one tensor operation."""
        scalars = [float(getattr(self, name)) for name in _SCALARS]
        return [*scalars, *self.each_norm.tolist(), *self.update_ratios.tolist()]


class TraceRows:
    """Two blocks of rows on the device, used in turn: while one fills, the other is copied to the host.

    table: the trace. block_rows: steps between two copies. rate: number of applied steps, this one included -> learning rate.
    norms: whose parameters' norms come in; their groups are added up here, a block at a time, and the first parameter whose
        gradient was not finite is named.
    count: called with the host's part of every block that has arrived, when the seconds of its steps are known.
    """

    def __init__(
        self,
        table: TableWriter,
        block_rows: int,
        *,
        rate: Callable[[int], float],
        norms: GradNorms,
        applied_steps: int,
        count: Callable[[NDArray[Any]], None],
    ) -> None:
        self.table, self.block_rows, self.rate, self.norms, self.count = table, block_rows, rate, norms, count
        self.last: dict[str, float] = {}
        """The newest row that has arrived, scalars only."""
        self.skipped = 0
        """Consecutive steps, up to the newest row that has arrived, that were not applied."""
        self.applied_steps = applied_steps
        self.culprit: str | None = None
        self._host: list[HostRow] = []
        self._blocks: list[torch.Tensor] = []
        self._host_blocks: list[torch.Tensor] = []
        self._on_host = False
        self._numbers: list[list[float]] = []
        self._turn = 0
        self._in_flight: tuple[list[HostRow], torch.Tensor, torch.cuda.Event | None] | None = None

    def add(self, host: HostRow, device: DeviceRow) -> bool:
        """Add a row. Returns whether the block is full and has to be flushed before the next."""
        if not self._blocks:
            self._allocate(device)
        if self._on_host:
            self._numbers.append(device.numbers())
        else:
            device.into(self._blocks[self._turn][len(self._host)])
        self._host.append(host)
        return len(self._host) >= self.block_rows

    def flush(self, *, wait: bool) -> None:
        """Start copying the block and write the one before; with `wait`, write this one too.

        The one before was sent `block_rows` steps ago and has arrived: the host does not wait for it.
        """
        self._arrive()
        if not self._host:
            return
        event = None
        if self._on_host:
            host_block = torch.tensor(self._numbers, dtype=torch.float32)
        else:
            rows, host_block = (part[self._turn][: len(self._host)] for part in (self._blocks, self._host_blocks))
            host_block.copy_(rows, non_blocking=True)
        if host_block.is_pinned():
            # On the stream that copies: the current device may be another one, whose stream knows nothing of these rows.
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(rows.device))
        self._in_flight = (self._host, host_block, event)
        self._host, self._numbers, self._turn = [], [], 1 - self._turn
        if wait or event is None:
            self._arrive()

    def _allocate(self, row: DeviceRow) -> None:
        device = row.grad_norm.device
        shape = (2, self.block_rows, len(_SCALARS) + len(row.each_norm) + len(row.update_ratios))
        self._on_host = device.type == "cpu"
        self._blocks = list(torch.empty(shape, device=device))
        self._host_blocks = list(torch.empty(shape, pin_memory=device.type == "cuda"))

    def _arrive(self) -> None:
        if self._in_flight is None:
            return
        host_rows, block, event = self._in_flight
        self._in_flight = None
        if event is not None:
            event.synchronize()
        read = [(*row[:4], read_seconds(row[4]), row[5]) for row in host_rows]
        host = np.array(read, dtype=_HOST)
        self.count(host)
        numbers = block.numpy().copy()  # the next block but one lands in the same memory, and a table keeps views
        columns: dict[str, Any] = {name: host[name] for name in _HOST.names or ()}
        columns |= {name: numbers[:, k] for k, name in enumerate(_SCALARS)}
        columns["applied"] = columns["applied"] == 1.0
        columns["learning_rate"] = [self._learning_rate(bool(applied)) for applied in columns["applied"]]
        each = numbers[:, len(_SCALARS) : len(_SCALARS) + len(self.norms.names)]
        for applied, norms in zip(columns["applied"].tolist(), each, strict=True):
            self.skipped = 0 if applied else self.skipped + 1
            if not applied and not self.culprit:
                broken = np.flatnonzero(~np.isfinite(norms))
                self.culprit = self.norms.names[broken[0]] if len(broken) else None
        columns["micro_grad_norm"] = pa.array(columns["micro_grad_norm"], mask=columns["micro_samples"] == 0)
        columns["group_norms"] = _lists(_by_group(each, self.norms))
        columns["update_ratios"] = _lists(numbers[:, len(_SCALARS) + each.shape[1] :])
        self.table.write({name: columns[name] for name in TRACE.names})
        self.last = {name: float(columns[name][-1]) for name in ("step", "samples", "loss", "grad_norm")}

    def _learning_rate(self, applied: bool) -> float:
        """Return the rate of the next step: the schedule counts applied steps, whose number is certain here."""
        rate = self.rate(self.applied_steps + 1)
        self.applied_steps += applied
        return rate


def _lists(rows: NDArray[np.float32]) -> pa.ListArray:
    """One list per row, [rows, values]."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1)))


def _by_group(each: NDArray[np.float32], norms: GradNorms) -> NDArray[np.float32]:
    """[rows, parameters] -> [rows, groups]."""
    squares = np.square(each, dtype=np.float64)
    sums = [squares[:, norms.group_index == group].sum(axis=1) for group in range(len(norms.groups))]
    made: NDArray[np.float64] = np.sqrt(np.stack(sums, axis=1) if sums else squares[:, :0])
    return made.astype(np.float32)

"""Reading a run's tables, also while the run is going and after it was killed in the middle of a block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ablate.errors import RecordError


def read_table(path: Path) -> pa.Table:
    """Every whole block of an Arrow IPC stream; a torn tail is left out.

    Raises RecordError when there is no such file or it does not begin like a stream.
    """
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            blocks = []
            while True:
                try:
                    blocks.append(stream.read_next_batch())
                except (StopIteration, pa.ArrowInvalid, OSError):
                    break
            return pa.Table.from_batches(blocks, schema=stream.schema)
    except (OSError, pa.ArrowInvalid) as error:
        raise RecordError(f"{path} is not a readable table: {error}") from None


@dataclass(frozen=True, slots=True)
class Trace:
    """A run's steps as columns. Every array has one entry per optimizer step."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        """One column, shape [steps]; booleans come as 0 and 1."""
        return np.asarray(self.table[column].to_numpy(), dtype=np.float64)

    @property
    def groups(self) -> list[str]:
        """Names of the gradient norm groups, in the order of `group_norms`."""
        names = (self.table.schema.metadata or {}).get(b"groups", b"").decode()
        return names.split("\n") if names else []

    def group_norms(self) -> NDArray[np.float64]:
        """Shape [steps, groups]."""
        rows = self.table["group_norms"].to_pylist()
        return np.asarray(rows, dtype=np.float64).reshape(len(self), len(self.groups))


@dataclass(frozen=True, slots=True)
class EvalCurve:
    """One metric on one split, look by look. Every array has shape [looks]; the first look is before training."""

    step: NDArray[np.int64]
    samples: NDArray[np.int64]
    epoch: NDArray[np.float64]
    train_seconds: NDArray[np.float64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, slots=True)
class Evals:
    """A run's evaluations."""

    table: pa.Table

    def metrics(self, split: str = "held_out") -> list[str]:
        rows = zip(self.table["split"].to_pylist(), self.table["metric"].to_pylist(), strict=True)
        return sorted({metric for name, metric in rows if name == split})

    def curve(self, metric: str, split: str = "held_out") -> EvalCurve:
        """sum / count at every look; empty where the metric was not evaluated."""
        keep = np.asarray(
            [
                name == metric and part == split
                for name, part in zip(self.table["metric"].to_pylist(), self.table["split"].to_pylist(), strict=True)
            ],
            dtype=bool,
        )

        def column(name: str) -> NDArray[np.float64]:
            return np.asarray(self.table[name].to_numpy()[keep], dtype=np.float64)

        total, count = column("sum"), column("count").astype(np.int64)
        return EvalCurve(
            step=column("step").astype(np.int64),
            samples=column("samples").astype(np.int64),
            epoch=column("epoch"),
            train_seconds=column("train_seconds"),
            value=total / np.maximum(count, 1),
            count=count,
        )


def read_trace(path: Path) -> Trace:
    """`trace.arrow` of a run folder."""
    return Trace(read_table(path))


def read_evals(path: Path) -> Evals:
    """`evals.arrow` of a run folder."""
    return Evals(read_table(path))

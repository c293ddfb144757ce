"""A run's record as it would be had it been kept at a coarser cadence: fewer looks, or a row of the log every so many steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ablate.analysis.outcome import Record
from ablate.record.reader import Trace


def ladder(most: int) -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, ... up to `most`."""
    power = 1
    while power <= most:
        yield from (power * factor for factor in (1, 2, 5) if power * factor <= most)
        power *= 10


def row_ends(num_steps: int, every: int) -> NDArray[np.int64]:
    """Index of the step after which each row is written, every so many steps and after the last one."""
    ends = np.arange(every - 1, num_steps, every, dtype=np.int64)
    return ends if num_steps % every == 0 else np.append(ends, num_steps - 1)


def with_rows(trace: Trace, ends: NDArray[np.int64]) -> Trace:
    """The trace that a log keeps: of the loss the mean since the row before, of all else what the row's own step had."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    means = np.add.reduceat(trace["loss"], starts) / (ends + 1 - starts)
    kept = trace.table.take(pa.array(ends))
    place = kept.schema.get_field_index("loss")
    return Trace(kept.set_column(place, kept.schema.field(place), pa.array(means.astype(np.float32))))


def with_looks(record: Record, common: NDArray[np.int64]) -> Record:
    """The record with looks at these sample counts only; the look before training is kept, which every run has."""
    curves = {
        metric: curve.at(np.flatnonzero(np.isin(curve.samples, common) | (curve.step == 0)))
        for metric, curve in record.curves.items()
    }
    return replace(record, curves=curves, common=common)


def even_looks(common: NDArray[np.int64], every: int) -> NDArray[np.int64] | None:
    """Looks after every so many samples and at the end, 0 included; None where the runs were not all looked at then."""
    due = np.unique(np.append(np.arange(0, int(common[-1]), every), common[-1]))
    return due.astype(np.int64) if np.isin(due[1:], common).all() else None

"""Recorded curves of every run, their mean over the seeds of an arm, and thinning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.results import Analysis, RunReading
from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.reader import Trace, read_evals, read_trace

Array = NDArray[np.float64]
UNITS = ("steps", "samples", "epochs", "seconds")
PANELS = ("loss", "eval_loss", "grad_norm")


@dataclass(frozen=True, slots=True)
class Curve:
    """One panel of one run. Every array has shape [points].

    x: per unit of UNITS. `seconds` is training time alone: evaluation is not in it.
    """

    x: dict[str, Array]
    y: Array

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class RunCurves:
    """All panels of one run; an empty curve where the run recorded nothing of it."""

    arm: str
    seed: int
    status: str
    panels: dict[str, Curve]


def read_curves(analysis: Analysis, folder: Path) -> tuple[RunCurves, ...]:
    """Return the curves of every run that recorded any; `missing` runs may belong to another study."""
    runs = [(reading, RunDir(folder / reading.folder)) for reading in analysis.runs if reading.status != "missing"]
    read = [_read(reading, run) for reading, run in runs if run.trace.exists()]
    return tuple(curves for curves in read if curves is not None)


def _read(reading: RunReading, run: RunDir) -> RunCurves | None:
    """None for a run that was killed before its first row."""
    try:
        trace = read_trace(run.trace)
    except RecordError:
        return None
    steps = {
        "steps": trace["step"],
        "samples": trace["samples"],
        "epochs": trace["epoch"],
        "seconds": np.cumsum(trace["step_seconds"]),
    }
    panels = {name: _column(trace, name, steps) for name in ("loss", "grad_norm")}
    panels["eval_loss"] = _eval_loss(run)
    return RunCurves(reading.arm, reading.seed, reading.status, panels)


def _column(trace: Trace, name: str, steps: dict[str, Array]) -> Curve:
    """A column at the rows with a value; an imported log may have other steps for each column."""
    present = trace.recorded(name)
    if present.all():
        return Curve(steps, trace[name])
    return Curve({unit: values[present] for unit, values in steps.items()}, trace[name][present])


def _eval_loss(run: RunDir) -> Curve:
    try:
        evals = read_evals(run.evals).curve("loss")
    except RecordError:
        return Curve({unit: np.empty(0) for unit in UNITS}, np.empty(0))
    x = {
        "steps": evals.step.astype(np.float64),
        "samples": evals.samples.astype(np.float64),
        "epochs": evals.epoch,
        "seconds": evals.train_seconds,
    }
    return Curve(x, evals.value)


@dataclass(frozen=True, slots=True)
class Band:
    """The finished runs of one arm at the points that all of them have: mean, lowest and highest, each of shape [points]."""

    x: dict[str, Array]
    mean: Array
    low: Array
    high: Array


def band(runs: Sequence[RunCurves], panel: str) -> Band | None:
    """Return the finished runs of one arm together; None without any.

    A run that broke off is left out: its end would show as a jump that no run made.
    """
    curves = [run.panels[panel] for run in runs if run.status == "finished" and len(run.panels[panel])]
    if not curves:
        return None
    steps = reduce(np.intersect1d, [curve.x["steps"] for curve in curves])
    rows = [np.searchsorted(curve.x["steps"], steps) for curve in curves]

    def stacked(columns: Sequence[Array]) -> Array:
        return np.stack([column[row] for column, row in zip(columns, rows, strict=True)])

    x = {unit: np.asarray(stacked([curve.x[unit] for curve in curves]).mean(axis=0)) for unit in UNITS}
    y = stacked([curve.y for curve in curves])
    return Band(x, y.mean(axis=0), y.min(axis=0), y.max(axis=0))


def thin(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the indices of the points to draw, in order.

    values: shape [points]. At most `most` indices (at least 6). The first and the last point
    stay, and so do the lowest, the highest and the first non-finite point of every bucket: no spike and no gap
    disappears, as they would from a random or an every-nth sample.
    """
    count = len(values)
    if count <= max(most, 6):
        return np.arange(count)
    buckets = max(1, (most - 2) // 3)
    edges = np.linspace(0, count, buckets + 1).astype(np.int64)
    kept = {0, count - 1}
    for start, stop in pairwise(edges):
        kept.update(_extremes(values[start:stop], int(start)))
    return np.asarray(sorted(kept), dtype=np.int64)


def _extremes(bucket: NDArray[np.float64], start: int) -> set[int]:
    finite = np.isfinite(bucket)
    kept = set() if finite.all() else {start + int(np.argmin(finite))}
    if finite.any():
        kept.add(start + int(np.argmin(np.where(finite, bucket, np.inf))))
        kept.add(start + int(np.argmax(np.where(finite, bucket, -np.inf))))
    return kept


def rounded(values: NDArray[np.float64], digits: int = 5) -> list[float | None]:
    """Round to so many significant digits, as JSON numbers; None for a value that is not finite (a gap in the curve)."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]

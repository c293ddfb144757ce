"""The recorded curves of every run, and their mean over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """One panel of one run, or the mean of an arm's. Every array has shape [points].

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
    """Every run of the analysis that recorded something, in its order; `missing` ones may lie there as another study's."""
    runs = [(reading, RunDir(folder / reading.folder)) for reading in analysis.runs if reading.status != "missing"]
    read = [_read(reading, run) for reading, run in runs if run.trace.exists()]
    return tuple(curves for curves in read if curves is not None)


def _read(reading: RunReading, run: RunDir) -> RunCurves | None:
    """None for a run that was killed before its table had begun: the run list says how it ended."""
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
    panels = {name: _told(trace, name, steps) for name in ("loss", "grad_norm")}
    panels["eval_loss"] = _eval_loss(run)
    return RunCurves(reading.arm, reading.seed, reading.status, panels)


def _told(trace: Trace, name: str, steps: dict[str, Array]) -> Curve:
    """A column at the rows that hold a value of it: a log that was imported may have other steps for each."""
    told = trace.told(name)
    if told.all():
        return Curve(steps, trace[name])
    return Curve({unit: values[told] for unit, values in steps.items()}, trace[name][told])


def _eval_loss(run: RunDir) -> Curve:
    try:
        looks = read_evals(run.evals).curve("loss")
    except RecordError:
        return Curve({unit: np.empty(0) for unit in UNITS}, np.empty(0))
    x = {
        "steps": looks.step.astype(np.float64),
        "samples": looks.samples.astype(np.float64),
        "epochs": looks.epoch,
        "seconds": looks.train_seconds,
    }
    return Curve(x, looks.value)


def mean_curve(runs: Sequence[RunCurves], panel: str) -> Curve | None:
    """The mean over the finished runs of one arm, at the points that all of them have; None without any.

    A run that broke off is left out: its end would show as a jump that no run made.
    """
    curves = [run.panels[panel] for run in runs if run.status == "finished" and len(run.panels[panel])]
    if not curves:
        return None
    steps = curves[0].x["steps"]
    for curve in curves[1:]:
        steps = np.intersect1d(steps, curve.x["steps"])
    rows = [np.searchsorted(curve.x["steps"], steps) for curve in curves]

    def mean(columns: Sequence[Array]) -> Array:
        stacked = np.stack([column[row] for column, row in zip(columns, rows, strict=True)])
        return np.asarray(stacked.mean(axis=0))

    x = {unit: mean([curve.x[unit] for curve in curves]) for unit in UNITS}
    return Curve(x, mean([curve.y for curve in curves]))


def thin(values: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Which points to draw, in order.

    values: shape [points]. Returns indices of shape [kept], kept <= most (at least 6). The first and the last point
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
    """To so many significant digits, as JSON numbers; None where a value is not finite (a gap in the curve)."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]

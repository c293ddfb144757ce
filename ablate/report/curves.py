"""The recorded curves of every run, and their mean over the seeds of an arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    told = trace.recorded(name)
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


def window_mean(curve: Curve, samples: int) -> Curve:
    """The mean of every whole window of so many samples, placed at the window's end, as a run that logs at that
    cadence reports it; the last window may be shorter."""
    window = np.ceil(np.round(curve.x["samples"] / samples, 9)).astype(np.int64)
    ends = np.append(np.flatnonzero(np.diff(window)), len(window) - 1)
    starts = np.append(0, ends[:-1] + 1)
    sums = np.add.reduceat(curve.y, starts)
    return Curve({unit: curve.x[unit][ends] for unit in UNITS}, np.asarray(sums / (ends - starts + 1)))

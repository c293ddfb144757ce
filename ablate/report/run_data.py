"""What the page holds of one run: every step as far as there is room, every look, and what its sliders read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.resample import reduce_windows
from ablate.analysis.results import RunReading
from ablate.errors import RecordError
from ablate.metrics.decrease import train_loss_decrease
from ablate.records.gradient_health import spikes
from ablate.records.layout import RunDir
from ablate.records.reader import Trace, read_evals, read_trace
from ablate.report.downsample import rounded, thin
from ablate.report.packed import flags, packed

Array = NDArray[np.float64]

UNITS = ("samples", "tokens", "epochs", "seconds")
"""Horizontal axes beside the step; `seconds` is training time alone."""

MOST_ROWS = 1_000_000
"""Rows of all runs together that a page has room for: eight characters each."""

_COLUMNS = ("step", "epoch", "samples", "tokens", "loss", "grad_norm", "clip_coefficient", "applied", "step_seconds")
_KNOTS = 100
_MOST_LOOKS = 2000


def run_data(reading: RunReading, folder: Path, room: int) -> dict[str, Any] | None:
    """room: rows that this run may have. None for a run that left no step: the run list says how it ended.

    rows: which steps they are, see `_rows`. loss, grad_norm: packed, {each} or {mean, last, max} over a row's steps. x: per
    unit a factor on the step, or knots [steps, values] between which it is straight. fallen: [[step, share], ...], by which the
    train loss had made so much of its fall. spikes: steps. clipped, skipped: flags over the steps. eval: looks, not rounded.
    """
    run = RunDir(folder / reading.folder)
    try:
        trace = read_trace(run.trace, _COLUMNS)
    except (RecordError, OSError):
        return None
    if not len(trace):
        return None
    applied = trace["applied"] == 1
    whole = trace.every_step and bool(trace.recorded("loss").all()) and bool(trace.recorded("grad_norm").all())
    made: dict[str, Any] = {
        "seed": reading.seed,
        "status": reading.status,
        "steps": int(trace["step"][-1]),
        "x": {unit: _along(trace, unit) for unit in UNITS},
        "eval": _looks(run),
    }
    if whole:
        norms = trace["grad_norm"]
        finite = applied & np.isfinite(norms)
        fallen = train_loss_decrease(trace) if np.isfinite(trace["loss"]).all() else None
        return (
            made
            | _rows(trace, room)
            | {
                "fallen": None if fallen is None else _plateaus(fallen),
                "spikes": trace["step"][finite][spikes(norms[finite])].astype(int).tolist(),
                "clipped": flags(applied & (trace["clip_coefficient"] < 1)),
                "skipped": flags(~applied),
            }
        )
    return made | _logged_rows(trace, room) | {"fallen": None, "spikes": [], "clipped": "", "skipped": ""}


def _rows(trace: Trace, room: int) -> dict[str, Any]:
    """Every step where there is room. Else the first steps singly, where a curve falls, and then rows of `every` steps: their
    mean, last and highest value, so that no spike disappears."""
    count = len(trace)
    if count <= room:
        return {
            "rows": {"single": count},
            "loss": {"each": packed(trace["loss"])},
            "grad_norm": {"each": packed(trace["grad_norm"])},
        }
    room = max(8, room // 3)
    single = room // 2
    every = _round_up(-(-(count - single) // (room - single)))
    single -= single % every if single > every else 0
    ends = np.unique(
        np.concatenate([np.arange(single), np.arange(single + every - 1, count, every), [count - 1]])
    ).astype(np.int64)
    rows = {"single": single, "every": every, "last": count}
    return {"rows": rows, "loss": _windows(trace["loss"], ends), "grad_norm": _windows(trace["grad_norm"], ends)}


def _windows(values: Array, ends: NDArray[np.int64]) -> dict[str, str]:
    return {how: packed(reduce_windows(values, ends, how)) for how in ("mean", "last", "max")}


def _round_up(least: int) -> int:
    """1, 2, 5, 10, 20, 50, ..."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if power * factor >= least:
                return power * factor
        power *= 10


def _logged_rows(trace: Trace, room: int) -> dict[str, Any]:
    """Of a log with gaps: the rows that say something of either curve; `gaps` tells the page to join what lies between."""
    told = np.flatnonzero(trace.recorded("loss") | trace.recorded("grad_norm"))
    if len(told) > room:
        kept = np.union1d(thin(trace["loss"][told], room // 2), thin(trace["grad_norm"][told], room // 2))
        told = told[kept]
    return {
        "rows": {"steps": trace["step"][told].astype(int).tolist()},
        "gaps": True,
        "loss": {"each": packed(trace["loss"][told])},
        "grad_norm": {"each": packed(trace["grad_norm"][told])},
    }


def _along(trace: Trace, unit: str) -> float | list[list[float | None]] | None:
    """How far the run is after a step, in a unit; None where it did not record that."""
    steps = trace["step"]
    values = (
        np.cumsum(trace["step_seconds"])
        if unit == "seconds"
        else trace[unit.removesuffix("s") if unit == "epochs" else unit]
    )
    if not np.isfinite(values[-1]) or values[-1] <= 0:
        return None
    factor = float(values[-1] / steps[-1])
    if np.allclose(values, factor * steps, rtol=1e-9, atol=0):
        return factor
    steps, values = np.append(0.0, steps), np.append(0.0, values)
    bends = (
        np.append(True, np.append(np.abs(np.diff(values, 2)) > 1e-9 * values[-1], True))
        if len(steps) > 2
        else np.ones(2, bool)
    )
    knots = np.flatnonzero(bends)
    if len(knots) > _KNOTS:
        knots = np.unique(np.linspace(0, len(steps) - 1, _KNOTS).astype(np.int64))
    return [steps[knots].astype(int).tolist(), rounded(values[knots], 9)]


def _looks(run: RunDir) -> dict[str, Any]:
    """The eval loss; as it was recorded, so that a share which the page works out is the one that the analysis has."""
    try:
        curve = read_evals(run.evals).curve("loss")
    except (RecordError, OSError):
        return {"steps": [], "samples": [], "y": []}
    kept = thin(curve.value, _MOST_LOOKS)
    values = [value if np.isfinite(value) else None for value in curve.value[kept].tolist()]
    return {"steps": curve.step[kept].tolist(), "samples": curve.samples[kept].tolist(), "y": values}


def _plateaus(fallen: Array) -> list[list[float]]:
    """[[last step of it, share], ...]: the fitted curve falls in steps."""
    ends = np.append(np.flatnonzero(np.diff(fallen)), len(fallen) - 1)
    return [[int(end) + 1, float(fallen[end])] for end in ends]

"""Data that the page's figures draw, as JSON: every step and every evaluation of every run."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.resample import reduce_windows
from ablate.analysis.results import RunReading
from ablate.errors import RecordError
from ablate.metrics.curves import train_loss_decrease
from ablate.records.gradient_health import spikes
from ablate.records.layout import RunDir
from ablate.records.reader import Trace, read_evals, read_trace
from ablate.report.curves import rounded, thin
from ablate.report.view_model import ArmView, View

Array = NDArray[np.float64]

UNITS = ("samples", "tokens", "epochs", "seconds")
"""Horizontal axes next to the step; `seconds` is training time alone."""

MAX_ROWS = 1_000_000
"""Rows of all runs together that a page has room for: eight characters each."""

RELATIVE_ERROR = 2.0**-16
"""Largest relative error of a packed value."""

_MAX_EVALUATIONS = 2000
_WINDOWS = 48
_KNOTS = 100
_RUN_COLUMNS = (
    "step",
    "epoch",
    "samples",
    "tokens",
    "loss",
    "grad_norm",
    "clip_coefficient",
    "applied",
    "step_seconds",
)


def chart_data(view: View, folder: Path) -> dict[str, Any]:
    """Return {arms: [{name, change, style, runs, ...}], window, start}.

    window: samples that bold curves average over. start: samples between evaluations and between rows of a log that the
    cadence section shows first: the coarsest that the study asks about.
    """
    read = [run for run in view.analysis.runs if run.status != "missing"]
    room = MAX_ROWS // max(1, len(read))
    arms = [_arm(arm, view, folder, room) for arm in view.trained]
    return {"arms": arms, "window": loss_window(arms), "start": _start(view, arms[0]) if arms else {}}


def _start(view: View, baseline: dict[str, Any]) -> dict[str, float]:
    start = {"eval": baseline["total"] / 8, "log": baseline["total"] / 16}
    for axis, levels in view.replays.items():
        which = "log" if any("log" in key for arm in view.arms if arm.axis == axis for key in arm.changes) else "eval"
        start[which] = max(level.first_eval_step for level in levels) * baseline["per_step"]
    return start


def loss_window(arms: Sequence[dict[str, Any]]) -> int:
    """Return the samples that bold curves average over at first.

    The same in every arm, so that curves can be compared by eye. At least the largest step of any arm, and 1/48 of the longest
    run.
    """
    step = max((arm["per_step"] for arm in arms), default=1)
    whole = max((arm["total"] for arm in arms), default=1)
    return max(1, int(np.ceil(max(step, whole / _WINDOWS) / step) * step))


def _arm(arm: ArmView, view: View, folder: Path, room: int) -> dict[str, Any]:
    """Data of one arm. per_step, total: samples, which turn intervals into steps. limit: norm from which it clips."""
    readings = [run for run in view.analysis.runs if run.arm == arm.name and run.status != "missing"]
    runs = [made for run in readings if (made := run_data(run, folder, room)) is not None]
    ends = [_samples(run, run["steps"]) for run in runs if run["status"] == "finished"]
    per_step = int(arm.derived.get("effective_batch", 0)) or (round(_samples(runs[0], 1)) if runs else 1)
    return {
        "name": arm.name,
        "change": arm.change,
        "style": view.style(arm),
        "dash": ("solid", "dash", "dot", "dashdot")[((view.variant_number(arm) or 0) // 6) % 4],
        "per_step": max(1, per_step),
        "total": int(arm.derived.get("samples_seen", 0)) or round(max(ends, default=1)),
        "limit": next((limit for run in runs if (limit := run.pop("limit")) is not None), None),
        "runs": runs,
    }


def _samples(run: dict[str, Any], step: int) -> float:
    along = run["x"]["samples"]
    if along is None:
        return float(step)
    return along * step if isinstance(along, float) else float(np.interp(step, *along))


# One run.


def run_data(reading: RunReading, folder: Path, room: int) -> dict[str, Any] | None:
    """Return the data of one run; None for a run without a recorded step.

    room: rows that this run may have.
    Of the result, rows: which steps they are, see `_rows`. loss, grad_norm: packed, {each} or {mean, last, max} over a row's
    steps. x: per unit a factor on the step, or knots [steps, values] with straight lines between. fallen: [[step, share], ...],
    the share of its decrease that the train loss had made by a step. spikes: steps. limit: see `_limit`. eval: evaluations, not
    rounded.
    """
    run = RunDir(folder / reading.folder)
    try:
        trace = read_trace(run.trace, _RUN_COLUMNS)
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
        "eval": _evaluations(run),
        "limit": _limit(trace),
    }
    if whole:
        norms = trace["grad_norm"]
        finite = applied & np.isfinite(norms)
        fallen = train_loss_decrease(trace) if np.isfinite(trace["loss"]).all() else None
        marks = trace["step"][finite][spikes(norms[finite])].astype(int).tolist()
        return made | _rows(trace, room) | {"fallen": None if fallen is None else _plateaus(fallen), "spikes": marks}
    return made | _logged_rows(trace, room) | {"fallen": None, "spikes": []}


def _limit(trace: Trace) -> float | None:
    """Return the norm to which gradients were clipped, from the first step that was; None where none was."""
    clipped = np.flatnonzero(
        (trace["clip_coefficient"] < 1) & np.isfinite(trace["grad_norm"]) & (trace["applied"] == 1)
    )
    return (
        rounded(trace["clip_coefficient"][clipped[:1]] * trace["grad_norm"][clipped[:1]], 4)[0]
        if len(clipped)
        else None
    )


def _rows(trace: Trace, room: int) -> dict[str, Any]:
    """Every step if there is room; else the first steps one by one, and then rows of `every` steps.

    Such a row has their mean, last and highest value, so that no spike disappears.
    """
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
    """Rows of a log with gaps that hold either curve; `gaps` makes the page join them."""
    rows = np.flatnonzero(trace.recorded("loss") | trace.recorded("grad_norm"))
    if len(rows) > room:
        indices = np.union1d(thin(trace["loss"][rows], room // 2), thin(trace["grad_norm"][rows], room // 2))
        rows = rows[indices]
    return {
        "rows": {"steps": trace["step"][rows].astype(int).tolist()},
        "gaps": True,
        "loss": {"each": packed(trace["loss"][rows])},
        "grad_norm": {"each": packed(trace["grad_norm"][rows])},
    }


def _along(trace: Trace, unit: str) -> float | list[list[float | None]] | None:
    """Position of the run after a step, in a unit; None where it was not recorded."""
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


def _evaluations(run: RunDir) -> dict[str, Any]:
    """The eval loss, not rounded, so that a share computed by the page equals the one of the analysis."""
    try:
        curve = read_evals(run.evals).curve("loss")
    except (RecordError, OSError):
        return {"steps": [], "samples": [], "y": []}
    indices = thin(curve.value, _MAX_EVALUATIONS)
    values = [value if np.isfinite(value) else None for value in curve.value[indices].tolist()]
    return {"steps": curve.step[indices].tolist(), "samples": curve.samples[indices].tolist(), "y": values}


def _plateaus(fallen: Array) -> list[list[float]]:
    """[[last step of it, share], ...]: the fitted curve falls in steps."""
    ends = np.append(np.flatnonzero(np.diff(fallen)), len(fallen) - 1)
    return [[int(end) + 1, float(fallen[end])] for end in ends]


# Numbers in few characters.


def packed(values: NDArray[np.float64]) -> str:
    """Return four characters per value: the upper 24 bits of a float32, rounded, in base64. Non-finite values become nan.

    values: shape [points].
    """
    with np.errstate(over="ignore"):
        narrow = np.asarray(values, dtype=np.float32)
    bits = narrow.view(np.uint32)
    # Half a unit of the last remaining bit, to nearest; it carries into the exponent as it should.
    upper = ((bits.astype(np.uint64) + 0x80) >> 8).astype(np.uint32)
    upper[~np.isfinite(narrow)] = 0x7FC000
    octets = np.stack([upper >> 16, upper >> 8, upper], axis=-1).astype(np.uint8)
    return base64.b64encode(octets.tobytes()).decode("ascii")

"""The curves that the page draws, as JSON: thinned with their spikes kept, rounded to five digits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate.analysis.values import ReplayedLevel
from ablate.design.axis import show
from ablate.report.curves import PANELS, UNITS, Curve, RunCurves, mean_curve, read_curves, window_mean
from ablate.report.thin import rounded, thin
from ablate.report.view import ArmView, View

_MOST_POINTS = 1500
_WINDOWS = 48


def payload(view: View, folder: Path) -> dict[str, Any]:
    """{arms: [{name, change, style, runs, mean}], replays: [...], window: samples per point of the mean loss}."""
    runs = read_curves(view.analysis, folder)
    window = loss_window(runs)
    return {
        "arms": [_arm(arm, view, [run for run in runs if run.arm == arm.name], window) for arm in view.trained],
        "replays": [_replay(axis, levels, view, runs) for axis, levels in view.replays.items()],
        "window": window,
        "eval_unit": "nats",
    }


def style(arm: ArmView, view: View) -> str:
    """`baseline`, `placebo` (of both A/A arms), or `v1`, `v2` ...: the colour of an arm, the same in tables and curves."""
    if arm.kind in ("placebo", "repeat"):
        return "placebo"
    variants = [other.name for other in view.trained if other.axis is not None and other.kind != "placebo"]
    return f"v{variants.index(arm.name) % 6 + 1}" if arm.name in variants else "baseline"


def loss_window(runs: Sequence[RunCurves]) -> int:
    """Samples that the bold training loss is averaged over, the same in every arm: curves averaged over different
    stretches cannot be compared by eye. At least the largest step of any arm, and 1/48 of the longest run."""
    samples = [run.panels["loss"].x["samples"] for run in runs if len(run.panels["loss"])]
    if not samples:
        return 1
    step = max(float(seen[0]) for seen in samples)
    whole = max(float(seen[-1]) for seen in samples)
    return max(1, int(np.ceil(max(step, whole / _WINDOWS) / step) * step))


def _arm(arm: ArmView, view: View, runs: Sequence[RunCurves], window: int) -> dict[str, Any]:
    means = {panel: mean_curve(runs, panel) for panel in PANELS}
    loss = means["loss"]
    if loss is not None:
        means["loss"] = window_mean(loss, window)
    return {
        "name": arm.name,
        "change": arm.change,
        "style": style(arm, view),
        "runs": [
            {"seed": run.seed, "status": run.status, "panels": {name: _curve(run.panels[name]) for name in PANELS}}
            for run in runs
        ],
        "mean": {name: _curve(curve) for name, curve in means.items() if curve is not None},
    }


def _curve(curve: Curve) -> dict[str, Any]:
    kept = thin(curve.y, _MOST_POINTS)
    x: dict[str, Any] = {}
    steps = curve.x["steps"]
    for unit in UNITS:
        x[unit] = _per_step(curve.x[unit], steps) if unit != "steps" else None
        if x[unit] is None:
            x[unit] = rounded(curve.x[unit][kept], 6)
    return {"x": x, "y": rounded(curve.y[kept])}


def _per_step(values: Any, steps: Any) -> float | None:
    """The factor where values are proportional to steps, so that the page need not hold the same column twice."""
    if len(steps) == 0 or steps[-1] == 0:
        return None
    factor = float(values[-1] / steps[-1])
    return factor if np.allclose(values, factor * steps, rtol=1e-9, atol=0) else None


def _replay(axis: str, levels: Sequence[ReplayedLevel], view: View, runs: Sequence[RunCurves]) -> dict[str, Any]:
    panel = replayed_panel(axis, view)
    baseline = view.arms[0].name
    dense = [run for run in runs if run.arm == baseline]
    mean = mean_curve(dense, panel)
    return {
        "axis": axis,
        "panel": panel,
        "runs": [_curve(run.panels[panel]) for run in dense],
        "dense": None if mean is None else _curve(mean),
        "levels": [{"name": show(level.level), **_level(level)} for level in levels],
    }


def replayed_panel(axis: str, view: View) -> str:
    """Which curve an observation axis re-reads: training loss for a log cadence, else eval loss."""
    keys = {key for arm in view.arms if arm.axis == axis for key in arm.changes}
    return "loss" if any("log" in key for key in keys) else "eval_loss"


def _level(level: ReplayedLevel) -> dict[str, Any]:
    most = min((len(curve) for curve in level.curve), default=0)
    if most == 0:
        return {"steps": [], "samples": [], "y": []}
    points = np.asarray([curve[:most] for curve in level.curve], dtype=np.float64)
    mean = points.mean(axis=0)
    kept = thin(mean[:, 2], _MOST_POINTS)
    return {
        "steps": rounded(mean[kept, 0], 6),
        "samples": rounded(mean[kept, 1], 6),
        "y": rounded(mean[kept, 2]),
    }

"""What the page's scripts draw, as JSON: the runs, the effects of every outcome, the gradient norms by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate.analysis.results import ReplayedLevel
from ablate.design.axis import show
from ablate.report.downsample import rounded, thin
from ablate.report.forest import forest
from ablate.report.histogram import histogram
from ablate.report.run_data import MOST_ROWS, run_data
from ablate.report.view import ArmView, View

_MOST_POINTS = 1500
_WINDOWS = 48


def payload(view: View, folder: Path) -> dict[str, Any]:
    """{arms: [{name, change, style, runs, ...}], replays, window, forest, histogram}; window: samples of bold curves."""
    read = [run for run in view.analysis.runs if run.status != "missing"]
    room = MOST_ROWS // max(1, len(read))
    arms = [_arm(arm, view, folder, room) for arm in view.trained]
    return {
        "arms": arms,
        "replays": [_replay(axis, levels, view) for axis, levels in view.replays.items()],
        "window": loss_window(arms),
        "forest": forest(view),
        "histogram": histogram(view, folder),
    }


def style(arm: ArmView, view: View) -> str:
    """`baseline`, `placebo` (of both A/A arms), or `v1`, `v2` ...: the colour of an arm, the same in tables and curves."""
    if arm.kind in ("placebo", "rerun"):
        return "placebo"
    place = _place(arm, view)
    return "baseline" if place is None else f"v{place % 6 + 1}"


def _place(arm: ArmView, view: View) -> int | None:
    """Which variant it is, from 0."""
    variants = [other.name for other in view.trained if other.axis is not None and other.kind != "placebo"]
    return variants.index(arm.name) if arm.name in variants else None


def loss_window(arms: Sequence[dict[str, Any]]) -> int:
    """Samples that bold curves are averaged over at first, the same in every arm: curves averaged over different stretches
    cannot be compared by eye. At least the largest step of any arm, and 1/48 of the longest run."""
    step = max((arm["per_step"] for arm in arms), default=1)
    whole = max((arm["total"] for arm in arms), default=1)
    return max(1, int(np.ceil(max(step, whole / _WINDOWS) / step) * step))


def _arm(arm: ArmView, view: View, folder: Path, room: int) -> dict[str, Any]:
    """per_step, total: samples, by which its intervals are turned into steps."""
    readings = [run for run in view.analysis.runs if run.arm == arm.name and run.status != "missing"]
    runs = [made for run in readings if (made := run_data(run, folder, room)) is not None]
    ends = [_samples(run, run["steps"]) for run in runs if run["status"] == "finished"]
    per_step = int(arm.derived.get("effective_batch", 0)) or (round(_samples(runs[0], 1)) if runs else 1)
    return {
        "name": arm.name,
        "change": arm.change,
        "style": style(arm, view),
        "dash": ("solid", "dash", "dot", "dashdot")[((_place(arm, view) or 0) // 6) % 4],
        "per_step": max(1, per_step),
        "total": int(arm.derived.get("samples_seen", 0)) or round(max(ends, default=1)),
        "runs": runs,
    }


def _samples(run: dict[str, Any], step: int) -> float:
    along = run["x"]["samples"]
    if along is None:
        return float(step)
    return along * step if isinstance(along, float) else float(np.interp(step, *along))


def _replay(axis: str, levels: Sequence[ReplayedLevel], view: View) -> dict[str, Any]:
    return {
        "axis": axis,
        "curve": replayed_curve(axis, view),
        "levels": [{"name": show(level.level), **_level(level)} for level in levels],
    }


def replayed_curve(axis: str, view: View) -> str:
    """Which curve an observation axis re-reads: training loss for a log cadence, else eval loss."""
    keys = {key for arm in view.arms if arm.axis == axis for key in arm.changes}
    return "loss" if any("log" in key for key in keys) else "eval_loss"


def _level(level: ReplayedLevel) -> dict[str, Any]:
    most = min((len(curve) for curve in level.curve), default=0)
    if most == 0:
        return {"steps": [], "y": []}
    points = np.asarray([curve[:most] for curve in level.curve], dtype=np.float64)
    mean = points.mean(axis=0)
    kept = thin(mean[:, 2], _MOST_POINTS)
    return {"steps": rounded(mean[kept, 0], 9), "y": rounded(mean[kept, 2])}

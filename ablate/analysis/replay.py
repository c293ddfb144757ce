"""What would I have seen at this cadence? The baseline's dense record, re-read as a run at a coarser one would log it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.cadence import Budget, budget_of, check_shown
from ablate.analysis.logged import logged, rows, share_of_train_loss
from ablate.analysis.readings import RunFiles, read_plan, read_runs
from ablate.analysis.values import ReplayedLevel
from ablate.analysis.words import counted, figure, percent
from ablate.design.plan import Plan
from ablate.errors import ConfigError, StudyError
from ablate.record.reader import EvalCurve

Points = tuple[tuple[float, float, float], ...]
"""((step, samples, value), ...)"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One seed at one level. share: of the fall before the first look; None where the curve never fell."""

    points: Points
    share: float | None
    remark: str


def replay(folder: Path, key: str, levels: Sequence[str]) -> tuple[ReplayedLevel, ...]:
    """The baseline of a study at other values of `observe.eval_every`, `observe.log_every` or `observe.eval_spacing`.

    Raises ConfigError for another key, and for a level that the dense record cannot show exactly; StudyError for a
    folder without a finished baseline.
    """
    plan = read_plan(folder)
    runs = read_runs(folder, plan)
    if not finished_baseline(plan, runs):
        problem = f"no run of the baseline in {str(folder)!r} has finished: there is nothing to replay"
        raise StudyError(problem, plan.command or None)
    axis = next((axis.name for axis in plan.axes if axis.moves == (key,)), key.rpartition(".")[2])
    return tuple(replay_level(plan, runs, key, level, arm=f"{axis}={level}", axis=axis) for level in levels)


def finished_baseline(plan: Plan, runs: Sequence[RunFiles]) -> list[RunFiles]:
    """The runs that a replay reads."""
    return [run for run in runs if run.arm == plan.baseline.name and run.finished]


def replay_level(plan: Plan, runs: Sequence[RunFiles], key: str, level: str, *, arm: str, axis: str) -> ReplayedLevel:
    """One level, from those of `runs` that are finished runs of the baseline; there must be one. Errors as `replay`."""
    budget = budget_of(plan.baseline)
    due = budget.due(key, level)
    dense = finished_baseline(plan, runs)
    if key == "observe.log_every":
        seen = [_log_rows(run, due) for run in dense]
    else:
        seen = [_looks(run, due, key, level, budget) for run in dense]
    shares = [one.share for one in seen if one.share is not None]
    share = float(np.mean(shares)) if shares else None
    first = -(-int(due[0]) // budget.samples_per_step)
    return ReplayedLevel(
        arm=arm,
        axis=axis,
        level=level,
        looks=len(due),
        seeds=tuple(run.seed for run in dense),
        first_look_steps=first,
        share_before_first_look=share,
        shares=tuple(float("nan") if one.share is None else one.share for one in seen),
        same_trajectory=all(run.weights is not None for run in dense),
        curve=tuple(one.points for one in seen),
        sentence=f"{axis} {level}: {_missed(key, len(due), first, shares, len(dense))}{seen[0].remark}",
    )


def dense_share(plan: Plan, runs: Sequence[RunFiles]) -> float | None:
    """Mean over seeds of the share of the eval loss's fall that even the dense record has before its first look."""
    curves = [run.curves["loss"] for run in finished_baseline(plan, runs) if run.curves and "loss" in run.curves]
    shares = [share_before(curve, int(curve.samples[1])) for curve in curves if len(curve) > 1]
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None


def curve_name(key: str) -> str:
    """The curve whose fall an observation axis is judged by."""
    return "train loss" if key.endswith("log_every") else "eval loss"


def _missed(key: str, num_looks: int, first: int, shares: Sequence[float], num_seeds: int) -> str:
    head = f"{counted(num_looks, 'log row' if key.endswith('log_every') else 'look')}, the first at step {first}"
    if not shares:
        return f"{head}; the {curve_name(key)} never fell"
    low, high = percent(min(shares)), percent(max(shares))
    spread = f" ({low} .. {high} over {len(shares)} seeds)" if low != high else ""
    spread += (
        f" (in {len(shares)} of {num_seeds} seeds; in the others it never fell)" if len(shares) < num_seeds else ""
    )
    return f"{head}; {percent(float(np.mean(shares)))} of the {curve_name(key)}'s total fall lies before it{spread}"


def share_before(curve: EvalCurve, samples: int) -> float | None:
    """Part of the fall, from the look before training to the lowest look, that had happened by the look after `samples`.

    None where the curve has no look before training or never fell below it. Negative where the loss rose first.
    """
    if not len(curve) or curve.step[0] != 0:
        return None
    start, lowest = float(curve.value[0]), float(np.min(curve.value))
    if not start > lowest:
        return None
    return (start - float(curve.value[curve.samples == samples][0])) / (start - lowest)


def _looks(run: RunFiles, due: NDArray[np.int64], key: str, level: str, budget: Budget) -> _Seen:
    """The eval loss. The look before training is kept, since every run of this loop has it; it is not a first look."""
    curve = (run.curves or {}).get("loss")
    if curve is None:
        raise ConfigError(
            f"{key}={level!r} has nothing to show: the runs record no eval loss", "study.metric=eval_loss"
        )
    check_shown(curve, due, key, level, budget)
    kept = np.isin(curve.samples, due) | (curve.step == 0)
    points = _points(curve.step[kept], curve.samples[kept], curve.value[kept])
    return _Seen(points, share_before(curve, int(due[0])), "")


def _log_rows(run: RunFiles, due: NDArray[np.int64]) -> _Seen:
    """The training loss as window means, and what the rows would have shown of the gradient norm's peak."""
    trace = run.trace
    if trace is None or not len(trace):
        raise StudyError(f"{run.folder.trace} holds no step to log", "remove that run's folder and run the study again")
    ends = rows(trace, due)
    points = _points(trace["step"][ends], trace["samples"][ends], logged(trace, due, "loss", "mean"))
    highest, last = (float(np.max(logged(trace, due, "grad_norm", how))) for how in ("max", "last"))
    remark = (
        f"; rows that keep the last grad norm peak at {figure(last)}, the steps at {figure(highest)} (seed {run.seed})"
    )
    return _Seen(points, share_of_train_loss(trace, int(ends[0])), remark)


def _points(*columns: NDArray[np.int64] | NDArray[np.float64]) -> Points:
    step, samples, value = (column.tolist() for column in columns)
    return tuple(zip(step, samples, value, strict=True))

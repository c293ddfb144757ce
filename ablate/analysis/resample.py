"""Read the dense record of a run at a coarser cadence: fewer evaluations, or a log row only every so many steps.

A run at a coarser cadence is the same training, evaluated or logged less often, so its curve can be read from the dense record.
Where the record does not hold an evaluation at the right moment, the cadence is refused and not interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ablate.analysis.load import read_plan, read_runs
from ablate.analysis.results import ResampledCadence
from ablate.config.schema import EvalConfig
from ablate.design.axis_files import REPLAYABLE
from ablate.design.plan import Arm, Plan
from ablate.errors import ConfigError, StudyError, nearest
from ablate.formatting import counted, plain_figure, plain_percent
from ablate.metrics.curves import decrease_before, train_loss_decrease
from ablate.metrics.metric import Record
from ablate.records.reader import EvalCurve, Trace
from ablate.records.run_files import RunFiles
from ablate.units import evaluation_points, parse_interval

KEYS = (*REPLAYABLE, "eval.spacing")
"""Keys of which other values can be read from a dense record."""

_MAX_POINTS = 10_000_000

Reduction = Literal["mean", "last", "max"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Length of a run and how it is evaluated: what turns an interval into samples."""

    total_samples: int
    samples_per_step: int
    samples_per_epoch: int
    evaluation: EvalConfig

    @property
    def sizes(self) -> dict[str, int]:
        return {"samples_per_step": self.samples_per_step, "samples_per_epoch": self.samples_per_epoch}

    def due(self, key: str, value: str) -> NDArray[np.int64]:
        """Return the sample counts at which a run with `key=value` evaluates or logs, rising, at whole steps.

        The points are the loop's own, so a resampled curve cannot disagree with a real run. Raises ConfigError for a key that
        cannot be resampled and for a value that is not a valid interval or spacing.
        """
        if key not in KEYS:
            raise ConfigError(f"{key}={value!r} cannot be resampled; {nearest(key, KEYS)}", f"{KEYS[0]}='128 samples'")
        spacing = key == "eval.spacing"
        evaluation = replace(self.evaluation, spacing=value if spacing else "even")
        interval = parse_interval(evaluation.every if spacing else value, key=key)
        sizes = self.sizes
        if self.total_samples > _MAX_POINTS * interval.samples(**sizes):
            raise ConfigError(
                f"{key}={value!r} gives more than {_MAX_POINTS:,} evaluations at {self.total_samples:,} samples",
                f"{key}='1 epochs'",
            )
        count, total = evaluation.num_evaluations, self.total_samples
        points = evaluation_points(
            every=interval, spacing=evaluation.spacing, count=count, total_samples=total, **sizes
        )
        steps = -(-np.asarray(points, dtype=np.int64) // self.samples_per_step)
        return np.unique(np.minimum(steps * self.samples_per_step, self.total_samples))


def budget_of(arm: Arm) -> Budget:
    """Return the budget that the plan records for an arm. Raises ConfigError where its runs did not record enough of it."""
    names = ("samples_seen", "effective_batch", "train_examples")
    missing = [name for name in names if name not in arm.derived]
    if missing:
        raise ConfigError(
            f"the runs of {arm.name} cannot be resampled: they did not record {', '.join(missing)}",
            "a finished run of every arm, recorded with Recorder(..., samples_per_epoch=...)",
        )
    total, batch, train = (int(arm.derived[name]) for name in names)
    return Budget(total, batch, train, _eval_config(arm.config))


def _eval_config(config: Mapping[str, Any]) -> EvalConfig:
    """Evaluation settings of our loop; the defaults for the config of an external loop."""
    try:
        return EvalConfig(**config["eval"])
    except (KeyError, TypeError, ConfigError):
        return EvalConfig()


def window_ends(trace: Trace, due: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the step after which each log row is written. due: sample counts, shape [rows]."""
    return np.searchsorted(trace["samples"], due)


def reduce_windows(values: NDArray[np.float64], ends: NDArray[np.int64], how: Reduction) -> NDArray[np.float64]:
    """Return what log rows show of a column: `mean` or `max` since the row before, or the `last` value. Shape [rows].

    ends: index of the last step of each row.
    """
    if how == "last":
        return np.asarray(values[ends])
    starts = np.concatenate([[0], ends[:-1] + 1])
    if how == "max":
        return np.asarray(np.maximum.reduceat(values, starts))
    return np.asarray(np.add.reduceat(values, starts) / (ends + 1 - starts))


def resample_trace(trace: Trace, ends: NDArray[np.int64]) -> Trace:
    """Return the trace that a log with these rows keeps: the mean loss of each row, of all else the value of its last step."""
    rows = trace.table.take(pa.array(ends))
    index = rows.schema.get_field_index("loss")
    means = reduce_windows(trace["loss"], ends, "mean").astype(np.float32)
    return Trace(rows.set_column(index, rows.schema.field(index), pa.array(means)))


def resample_curve(curve: EvalCurve, due: NDArray[np.int64]) -> EvalCurve:
    """Return the evaluations at these sample counts and the one before training, which every run has."""
    return curve.at(np.flatnonzero(np.isin(curve.samples, due) | (curve.step == 0)))


def resample_record(record: Record, due: NDArray[np.int64]) -> Record:
    """Return a record with evaluations at these sample counts only."""
    curves = {metric: resample_curve(curve, due) for metric, curve in record.curves.items()}
    return replace(record, curves=curves, common=due)


@dataclass(frozen=True, slots=True)
class _Resampled:
    """One seed at one cadence: [[step, samples, value], ...], and the decrease before the first; None without a decrease."""

    points: tuple[tuple[float, float, float], ...]
    share: float | None
    remark: str = ""


def resample(folder: Path, key: str, values: Sequence[str]) -> tuple[ResampledCadence, ...]:
    """Read the baseline of a study at other values of `eval.every`, `tracker.log_every` or `eval.spacing`.

    Raises ConfigError for another key, and for a value that the dense record cannot show exactly; StudyError for a folder
    without a finished baseline.
    """
    plan = read_plan(folder)
    runs = read_runs(folder, plan)
    if not finished_baseline(plan, runs):
        raise StudyError(
            f"no run of the baseline in {str(folder)!r} has finished: there is nothing to resample",
            plan.command or None,
        )
    axis = next((axis.name for axis in plan.axes if axis.keys == (key,)), key.rpartition(".")[2])
    return tuple(resample_value(plan, runs, key, value, arm=f"{axis}={value}", axis=axis) for value in values)


def finished_baseline(plan: Plan, runs: Sequence[RunFiles]) -> list[RunFiles]:
    """Return the runs that are resampled."""
    return [run for run in runs if run.arm == plan.baseline.name and run.finished]


def resample_value(
    plan: Plan, runs: Sequence[RunFiles], key: str, value: str, *, arm: str, axis: str
) -> ResampledCadence:
    """Read the finished runs of the baseline at one value; there must be one. Raises as `resample` does."""
    budget = budget_of(plan.baseline)
    due = budget.due(key, value)
    dense = finished_baseline(plan, runs)
    read = _log_rows if key == "tracker.log_every" else _evaluations
    seeds = [read(run, due, key, value, budget) for run in dense]
    shares = [seed.share for seed in seeds if seed.share is not None]
    first_step = -(-int(due[0]) // budget.samples_per_step)
    return ResampledCadence(
        arm=arm,
        axis=axis,
        value=value,
        evaluations=len(due),
        seeds=tuple(run.seed for run in dense),
        first_eval_step=first_step,
        share_decrease_before_first_eval=float(np.mean(shares)) if shares else None,
        shares=tuple(float("nan") if seed.share is None else seed.share for seed in seeds),
        same_trajectory=all(run.weights is not None for run in dense),
        curve=tuple(seed.points for seed in seeds),
        sentence=f"{axis} {value}: {_message(key, len(due), first_step, shares, len(dense))}{seeds[0].remark}",
    )


def recorded_share(plan: Plan, runs: Sequence[RunFiles]) -> float | None:
    """Return the decrease of the eval loss before the first evaluation of the dense record itself, as mean over seeds."""
    curves = [run.curves["loss"] for run in finished_baseline(plan, runs) if run.curves and "loss" in run.curves]
    shares = [share for curve in curves if (share := decrease_before(curve, "loss")) is not None]
    return float(np.mean(shares)) if shares else None


def curve_name(key: str) -> str:
    """Return the curve that an observation axis is judged by."""
    return "train loss" if key.endswith("log_every") else "eval loss"


def _message(key: str, num_points: int, first_step: int, shares: Sequence[float], num_seeds: int) -> str:
    kind = "log row" if key.endswith("log_every") else "evaluation"
    head = f"{counted(num_points, kind)}, the first at step {first_step}"
    if not shares:
        return f"{head}; the {curve_name(key)} never decreased"
    low, high = plain_percent(min(shares)), plain_percent(max(shares))
    spread = f" ({low} to {high} over {len(shares)} seeds)" if low != high else ""
    if len(shares) < num_seeds:
        spread += f" (in {len(shares)} of {num_seeds} seeds; in the others it never decreased)"
    return f"{head}; {plain_percent(float(np.mean(shares)))} of the {curve_name(key)}'s total decrease came before it{spread}"


def _evaluations(run: RunFiles, due: NDArray[np.int64], key: str, value: str, budget: Budget) -> _Resampled:
    curve = (run.curves or {}).get("loss")
    if curve is None:
        raise ConfigError(
            f"{key}={value!r} has nothing to show: the runs record no eval loss", "study.metric=eval_loss"
        )
    check_recorded_at(curve, due, key, value, budget)
    resampled = resample_curve(curve, due)
    points = zip(resampled.step.tolist(), resampled.samples.tolist(), resampled.value.tolist(), strict=True)
    return _Resampled(tuple(points), decrease_before(curve, "loss", int(due[0])))


def check_recorded_at(curve: EvalCurve, due: NDArray[np.int64], key: str, value: str, budget: Budget) -> None:
    """Raise ConfigError unless the record has an evaluation at each of `due` samples; the fix names values that work."""
    if not len(curve):
        fix = "eval.every='64 samples'"
        raise ConfigError(f"{key}={value!r} has nothing to show: the baseline was never evaluated", fix)
    missing = due[~np.isin(due, curve.samples)]
    if not len(missing):
        return
    trained = curve.samples[curve.step > 0].tolist()
    first = ", ".join(map(str, trained[:3]))
    recorded = f"{first}, ... {trained[-1]}" if len(trained) > 3 else first
    fix = "a denser baseline: eval.every='1 steps'"
    if key == "eval.every":
        wanted = parse_interval(value, key=key).samples(**budget.sizes)
        works = [count for count in trained if np.isin(budget.due(key, f"{count} samples"), trained).all()]
        nearest_three = sorted(sorted(works, key=lambda count: abs(count - wanted))[:3])
        fix = " or ".join(f"{key}='{count} samples'" for count in nearest_three)
    raise ConfigError(
        f"{key}={value!r} needs an evaluation after {missing[0]} samples, where the dense record has none; it has them after "
        f"{recorded} samples",
        fix,
    )


def _log_rows(run: RunFiles, due: NDArray[np.int64], *_: object) -> _Resampled:
    """The training loss as row means, and what the rows show of the gradient norm's peak."""
    trace = run.trace
    if trace is None or not len(trace):
        raise StudyError(f"{run.folder.trace} holds no step to log", "remove that run's folder and run the study again")
    ends = window_ends(trace, due)
    losses = reduce_windows(trace["loss"], ends, "mean")
    points = zip(trace["step"][ends].tolist(), trace["samples"][ends].tolist(), losses.tolist(), strict=True)
    highest, last = (float(np.max(reduce_windows(trace["grad_norm"], ends, how))) for how in ("max", "last"))
    remark = (
        f"; rows that keep the last grad norm peak at {plain_figure(last)}, the steps at {plain_figure(highest)} "
        f"(seed {run.seed})"
    )
    shares = train_loss_decrease(trace)
    return _Resampled(tuple(points), None if shares is None else float(shares[ends[0]]), remark)

"""When a run at some cadence looks, and whether a dense record has been looked at then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ablate.analysis.load import RunFiles, read_plan, read_runs
from ablate.analysis.results import ReplayedLevel
from ablate.config.schema import EvalConfig
from ablate.design.plan import Arm, Plan
from ablate.errors import ConfigError, StudyError, nearest
from ablate.formatting import counted, plain_figure, plain_percent
from ablate.metrics.curve_fits import falling
from ablate.metrics.eval_metrics import lower_is_better
from ablate.metrics.metric import Outcome, Record
from ablate.records.reader import EvalCurve, Trace
from ablate.training.lr_schedule import looks
from ablate.units import parse_interval

KEYS = ("eval.every", "tracker.log_every", "eval.spacing")
"""What can be replayed."""


_MOST_LOOKS = 10_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """What turns an interval into samples: the run's length, and how the baseline itself looks."""

    total_samples: int
    samples_per_step: int
    samples_per_epoch: int
    evaluation: EvalConfig

    def due(self, key: str, level: str) -> NDArray[np.int64]:
        """Samples seen, after training began, at which a run with `key=level` looks or logs, at whole steps; rising.

        The points are the loop's own, so a replay cannot disagree with a real run. Raises ConfigError for a key that
        cannot be replayed and for a level that is no interval or spacing.
        """
        if key not in KEYS:
            raise ConfigError(f"{key}={level!r} cannot be replayed; {nearest(key, KEYS)}", f"{KEYS[0]}='128 samples'")
        if key == "eval.spacing":
            evaluation, every = replace(self.evaluation, spacing=level), self.evaluation.every
        else:
            evaluation, every = replace(self.evaluation, spacing="even"), level
        gap = parse_interval(every, key=key)
        sizes = {"samples_per_step": self.samples_per_step, "samples_per_epoch": self.samples_per_epoch}
        if self.total_samples > _MOST_LOOKS * gap.samples(**sizes):
            raise ConfigError(
                f"{key}={level!r} asks for more than {_MOST_LOOKS:,} looks at {self.total_samples:,} samples",
                f"{key}='1 epochs'",
            )
        points = looks(
            every=gap,
            spacing=evaluation.spacing,
            count=evaluation.num_evaluations,
            total_samples=self.total_samples,
            **sizes,
        )
        steps = -(-np.asarray(points, dtype=np.int64) // self.samples_per_step)
        return np.unique(np.minimum(steps * self.samples_per_step, self.total_samples))


def budget_of(arm: Arm) -> Budget:
    """The budget of an arm as its plan has it. Raises ConfigError for runs that did not record enough of it."""
    names = ("samples_seen", "effective_batch", "train_examples")
    missing = [name for name in names if name not in arm.derived]
    if missing:
        raise ConfigError(
            f"the runs of {arm.name} cannot be replayed: they do not say {', '.join(missing)}",
            "a finished run of every arm, recorded with Recorder(..., samples_per_epoch=...)",
        )
    total, batch, train = (int(arm.derived[name]) for name in names)
    return Budget(total, batch, train, _evaluation(arm.config))


def _evaluation(config: Mapping[str, Any]) -> EvalConfig:
    """How a run of ours looks; another loop's settings say nothing of it."""
    try:
        return EvalConfig(**config["eval"])
    except (KeyError, TypeError, ConfigError):
        return EvalConfig()


def check_shown(curve: EvalCurve, due: NDArray[np.int64], key: str, level: str, budget: Budget) -> None:
    """Raise ConfigError unless the record was looked at after each of `due` samples; the fix names levels that work."""
    if not len(curve):
        fix = "eval.every='64 samples'"
        raise ConfigError(f"{key}={level!r} has nothing to show: the baseline was never evaluated", fix)
    unseen = due[~np.isin(due, curve.samples)]
    if len(unseen):
        raise ConfigError(
            f"{key}={level!r} looks after {unseen[0]} samples, where the dense record has no look; it has them after "
            f"{_listed(curve.samples[curve.step > 0])} samples",
            _levels_that_work(curve, key, level, budget),
        )


def _listed(samples: NDArray[np.int64]) -> str:
    shown = ", ".join(str(count) for count in samples[:3])
    return f"{shown}, ... {samples[-1]}" if len(samples) > 3 else shown


def _levels_that_work(curve: EvalCurve, key: str, level: str, budget: Budget) -> str:
    """The three evenly spaced levels nearest to the one that was typed."""
    if key != "eval.every":
        return "a denser baseline: eval.every='1 steps'"
    trained = curve.samples[curve.step > 0]
    works = [count for count in trained.tolist() if np.isin(budget.due(key, f"{count} samples"), trained).all()]
    wanted = parse_interval(level, key=key).samples(
        samples_per_step=budget.samples_per_step, samples_per_epoch=budget.samples_per_epoch
    )
    near = sorted(sorted(works, key=lambda count: abs(count - wanted))[:3])
    return " or ".join(f"{key}='{count} samples'" for count in near)


# A run's record as it would be had it been kept at a coarser cadence: fewer looks, or a row of the log every so
# many steps.


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


# What a logger that writes a row every so many samples shows of a per-step trace.

BLOCK_SAMPLES = 64
"""The training loss is averaged over so many samples before its fall is measured: single small batches are mostly noise."""


def rows(trace: Trace, due: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the step after which each row is written. due: samples seen, shape [rows]."""
    return np.searchsorted(trace["samples"], due)


def logged(
    trace: Trace, due: NDArray[np.int64], column: str, how: Literal["mean", "last", "max"]
) -> NDArray[np.float64]:
    """What the rows show of a column: the `mean` or `max` over the steps since the row before, or the `last` step's value.

    Shape [rows].
    """
    values, ends = trace[column], rows(trace, due)
    if how == "last":
        return np.asarray(values[ends])
    starts = np.concatenate([[0], ends[:-1] + 1])
    windows = [values[start : end + 1] for start, end in zip(starts, ends, strict=True)]
    return np.asarray([np.mean(window) if how == "mean" else np.max(window) for window in windows])


def share_of_train_loss(trace: Trace, first: int) -> float | None:
    """Part of the training loss's total fall that had happened by the step of index `first`; None as `train_loss_fallen`."""
    fallen = train_loss_fallen(trace)
    return None if fallen is None else float(fallen[first])


def train_loss_fallen(trace: Trace) -> NDArray[np.float64] | None:
    """Part of the training loss's total fall that had happened by each step, shape [steps].

    Read from the never-rising curve nearest to the mean loss of every 64 samples. None where that curve does not fall
    or the loss was not finite.
    """
    blocks = np.floor((trace["samples"] - 1) / BLOCK_SAMPLES).astype(np.int64)
    used, number, count = np.unique(blocks, return_inverse=True, return_counts=True)
    means = np.bincount(number, weights=trace["loss"], minlength=len(used)) / count
    if not np.isfinite(means).all():
        return None
    fit = falling(means, weights=count.astype(np.float64))
    fall = float(fit[0] - fit[-1])
    return np.asarray((fit[0] - fit[number]) / fall) if fall > 0 else None


# What would I have seen at this cadence? The baseline's dense record, re-read as a run at a coarser one would
# log it.

Points = tuple[tuple[float, float, float], ...]
"""((step, samples, value), ...)"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One seed at one level. share: of the fall before the first look; None where the curve never fell."""

    points: Points
    share: float | None
    remark: str


def replay(folder: Path, key: str, levels: Sequence[str]) -> tuple[ReplayedLevel, ...]:
    """The baseline of a study at other values of `eval.every`, `tracker.log_every` or `eval.spacing`.

    Raises ConfigError for another key, and for a level that the dense record cannot show exactly; StudyError for a
    folder without a finished baseline.
    """
    plan = read_plan(folder)
    runs = read_runs(folder, plan)
    if not finished_baseline(plan, runs):
        problem = f"no run of the baseline in {str(folder)!r} has finished: there is nothing to replay"
        raise StudyError(problem, plan.command or None)
    axis = next((axis.name for axis in plan.axes if axis.keys == (key,)), key.rpartition(".")[2])
    return tuple(replay_level(plan, runs, key, level, arm=f"{axis}={level}", axis=axis) for level in levels)


def finished_baseline(plan: Plan, runs: Sequence[RunFiles]) -> list[RunFiles]:
    """The runs that a replay reads."""
    return [run for run in runs if run.arm == plan.baseline.name and run.finished]


def replay_level(plan: Plan, runs: Sequence[RunFiles], key: str, level: str, *, arm: str, axis: str) -> ReplayedLevel:
    """One level, from those of `runs` that are finished runs of the baseline; there must be one. Errors as `resample`."""
    budget = budget_of(plan.baseline)
    due = budget.due(key, level)
    dense = finished_baseline(plan, runs)
    if key == "tracker.log_every":
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
        share_decrease_before_first_eval=share,
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


def _missed(key: str, num_evaluations: int, first: int, shares: Sequence[float], num_seeds: int) -> str:
    head = f"{counted(num_evaluations, 'log row' if key.endswith('log_every') else 'look')}, the first at step {first}"
    if not shares:
        return f"{head}; the {curve_name(key)} never fell"
    low, high = plain_percent(min(shares)), plain_percent(max(shares))
    spread = f" ({low} .. {high} over {len(shares)} seeds)" if low != high else ""
    spread += (
        f" (in {len(shares)} of {num_seeds} seeds; in the others it never fell)" if len(shares) < num_seeds else ""
    )
    return (
        f"{head}; {plain_percent(float(np.mean(shares)))} of the {curve_name(key)}'s total fall lies before it{spread}"
    )


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
    remark = f"; rows that keep the last grad norm peak at {plain_figure(last)}, the steps at {plain_figure(highest)} (seed {run.seed})"
    return _Seen(points, share_of_train_loss(trace, int(ends[0])), remark)


def _points(*columns: NDArray[np.int64] | NDArray[np.float64]) -> Points:
    step, samples, value = (column.tolist() for column in columns)
    return tuple(zip(step, samples, value, strict=True))


# One outcome of every run of a study at a ladder of cadences, densest first; the first of them is the record
# itself.

FEWEST_POINTS = 2
"""A cadence with fewer looks or rows draws no curve; the ladder ends there."""

Records = Sequence[Record | None]
"""One per run of the study; None where a run has left none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """All runs at one cadence. points, first_step: of the baseline. One entry per run, None where it has none, in:

    values: of the outcome. shares: of the fall before the first look or row. peaks: the highest gradient norm that the rows
    show, by the highest of all steps.
    """

    every: str
    points: int
    first_step: int
    values: tuple[float | None, ...]
    shares: tuple[float | None, ...]
    peaks: tuple[float | None, ...]


def rising(metric: str) -> int:
    """-1 for a metric that training is to raise, so that its curve falls once multiplied; 1 for any other."""
    return -1 if lower_is_better(metric) is False else 1


def at_looks(
    records: Records, outcome: Outcome, metric: str, common: NDArray[np.int64], samples_per_step: int
) -> Iterator[Read]:
    """Evaluations at multiples of the record's first look, at the same samples in every arm.

    common: sample counts at which every run was looked at. A cadence that these do not hold exactly is left out.
    """
    trained = common[common > 0]
    for factor in ladder(max(1, len(trained) // FEWEST_POINTS)) if len(trained) else ():
        every = factor * int(trained[0])
        even = even_looks(common, every)
        if factor == 1:
            as_recorded = even is None or len(even[even > 0]) < len(trained)
            even = trained
        elif even is None:
            continue
        looked = even[even > 0]
        seen = [None if record is None else with_looks(record, np.union1d(common[:1], looked)) for record in records]
        yield Read(
            every="look of the record" if factor == 1 and as_recorded else _named(every, samples_per_step),
            points=len(looked),
            first_step=-(-int(looked[0]) // samples_per_step),
            values=tuple(None if record is None else outcome(record) for record in seen),
            shares=tuple(None if record is None else _eval_share(record, metric, int(looked[0])) for record in records),
            peaks=(None,) * len(records),
        )


def _named(samples: int, samples_per_step: int) -> str:
    whole = samples % samples_per_step == 0
    return counted(samples // samples_per_step, "step") if whole else counted(samples, "sample")


def _eval_share(record: Record, metric: str, first: int) -> float | None:
    """Part of the fall, from the look before training to the best one, that had happened by the look after `first` samples."""
    curve = record.common_curve(metric)
    if curve is None or not len(curve) or curve.step[0] != 0:
        return None
    values = rising(metric) * curve.value
    fall = float(values[0] - np.min(values))
    return float((values[0] - values[curve.samples == first][0]) / fall) if fall > 0 else None


def at_rows(records: Records, outcome: Outcome, curve: str, num_steps: int) -> Iterator[Read]:
    """Rows of a log every so many of each arm's own steps. curve: `train loss` or `grad norm`. num_steps: of the baseline."""
    fallen = [train_loss_fallen(record.trace) if record and curve == "train loss" else None for record in records]
    norms = [record.trace["grad_norm"] if record and curve == "grad norm" else None for record in records]
    for every in ladder(max(1, num_steps // FEWEST_POINTS)):
        ends = [row_ends(len(record.trace), every) if record else np.empty(0, dtype=np.int64) for record in records]
        yield Read(
            every=counted(every, "step"),
            points=len(row_ends(num_steps, every)),
            first_step=min(every, num_steps),
            values=tuple(
                outcome(_logged(record, at, every)) if record else None
                for record, at in zip(records, ends, strict=True)
            ),
            shares=tuple(
                None if share is None else float(share[at[0]]) for share, at in zip(fallen, ends, strict=True)
            ),
            peaks=tuple(None if norm is None else _peak(norm, at) for norm, at in zip(norms, ends, strict=True)),
        )


def _logged(record: Record, ends: NDArray[np.int64], every: int) -> Record:
    return record if every == 1 else replace(record, trace=with_rows(record.trace, ends))


def _peak(norms: NDArray[np.float64], ends: NDArray[np.int64]) -> float | None:
    shown, all_steps = norms[ends], norms
    shown, all_steps = shown[np.isfinite(shown)], all_steps[np.isfinite(all_steps)]
    return float(np.max(shown) / np.max(all_steps)) if len(shown) and np.max(all_steps) > 0 else None

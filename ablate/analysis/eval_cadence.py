"""Find the coarsest cadence at which each curve still gives the same verdicts as the dense record.

Every arm is resampled at a ladder of cadences. A cadence is adequate where it and every finer one give the verdicts of the
record and, for a loss, at most a tenth of the decrease happened before its first evaluation or log row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.resample import resample_record, resample_trace
from ablate.analysis.results import Adequacy, Rung
from ablate.config.schema import EvalConfig
from ablate.design.plan import Plan
from ablate.formatting import counted, joined, plain_figure, plain_percent
from ablate.metrics.curves import decrease_before, decrease_shares, orientation, train_loss_decrease
from ablate.metrics.metric import Metric, MetricInfo, Record
from ablate.metrics.registry import find, get_metric
from ablate.records.run_files import RunFiles
from ablate.units import Interval, evaluation_points

MAX_SHARE = 0.1
"""Largest share of a curve's decrease before the first evaluation of an adequate cadence, or between two evaluations."""

_MAX_EVALUATIONS = 1000
_MIN_POINTS = 2
"""A cadence with fewer evaluations or rows draws no curve; the ladder ends there."""
_RECORD = "the record"

Values = NDArray[np.float64]

Verdicts = Callable[[MetricInfo, Sequence[float | None]], Mapping[str, str]]
"""The study's own verdicts on a metric, by variant, from one value per run (None where a run has none)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cadence:
    """Runs at one cadence. points, first_step: of the baseline. One entry per run, None where it has none, in:

    values: of the metric. shares: decrease before the first evaluation or row. peaks: the highest gradient norm that the rows
    show, divided by the highest of all steps.
    """

    every: str
    points: int
    first_step: int
    values: tuple[float | None, ...]
    shares: tuple[float | None, ...]
    peaks: tuple[float | None, ...] = ()


def ladder(limit: int) -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50, ... up to `limit`."""
    power = 1
    while power <= limit:
        yield from (power * factor for factor in (1, 2, 5) if power * factor <= limit)
        power *= 10


def row_ends(num_steps: int, every: int) -> NDArray[np.int64]:
    """Return the index of the step after which each row is written: every so many steps and after the last one."""
    ends = np.arange(every - 1, num_steps, every, dtype=np.int64)
    return ends if num_steps % every == 0 else np.append(ends, num_steps - 1)


def even_evaluations(common: NDArray[np.int64], every: int) -> NDArray[np.int64] | None:
    """Return evaluations after every so many samples and at the end, 0 included; None where not all runs have them."""
    due = np.unique(np.append(np.arange(0, int(common[-1]), every), common[-1]))
    return due.astype(np.int64) if np.isin(due[1:], common).all() else None


def eval_cadences(
    records: Sequence[Record], judged_by: Metric, metric: str, common: NDArray[np.int64], samples_per_step: int
) -> Iterator[Cadence]:
    """Yield evaluations at multiples of the record's first one, at the same samples in every arm.

    common: sample counts at which every run was evaluated. A cadence that these do not hold exactly is left out.
    """
    trained = common[common > 0]
    for factor in ladder(max(1, len(trained) // _MIN_POINTS)) if len(trained) else ():
        every = factor * int(trained[0])
        even = even_evaluations(common, every)
        uneven = even is None or len(even[even > 0]) < len(trained)
        if factor > 1 and even is None:
            continue
        points = trained if factor == 1 or even is None else even[even > 0]
        due, first = np.union1d(common[:1], points), int(points[0])
        whole = every % samples_per_step == 0
        interval = counted(every // samples_per_step, "step") if whole else counted(every, "sample")
        yield Cadence(
            every="evaluation of the record" if factor == 1 and uneven else interval,
            points=len(points),
            first_step=-(-first // samples_per_step),
            values=tuple(judged_by(resample_record(record, due)) for record in records),
            shares=tuple(
                None if (curve := record.common_curve(metric)) is None else decrease_before(curve, metric, first)
                for record in records
            ),
        )


def log_cadences(records: Sequence[Record], judged_by: Metric, curve: str, num_steps: int) -> Iterator[Cadence]:
    """Yield log rows every so many of each arm's own steps.

    curve: `train loss` or `grad norm`. num_steps: of the baseline.
    """
    losses = [train_loss_decrease(record.trace) for record in records] if curve == "train loss" else []
    norms = [record.trace["grad_norm"] for record in records] if curve == "grad norm" else []
    for every in ladder(max(1, num_steps // _MIN_POINTS)):
        ends = [row_ends(len(record.trace), every) for record in records]
        rows = (
            records
            if every == 1
            else [
                replace(record, trace=resample_trace(record.trace, at))
                for record, at in zip(records, ends, strict=True)
            ]
        )
        yield Cadence(
            every=counted(every, "step"),
            points=len(row_ends(num_steps, every)),
            first_step=min(every, num_steps),
            values=tuple(judged_by(record) for record in rows),
            shares=tuple(None if loss is None else float(loss[at[0]]) for loss, at in zip(losses, ends, strict=False)),
            peaks=tuple(_peak(norm, at) for norm, at in zip(norms, ends, strict=False)),
        )


def _peak(norms: Values, ends: NDArray[np.int64]) -> float | None:
    shown, steps = (values[np.isfinite(values)] for values in (norms[ends], norms))
    return float(np.max(shown) / np.max(steps)) if len(shown) and np.max(steps) > 0 else None


def adequacy(
    plan: Plan,
    runs: Sequence[RunFiles],
    common: NDArray[np.int64],
    verdicts: Verdicts,
    logged: NDArray[np.float64] | None = None,
) -> tuple[Adequacy, ...]:
    """Return the adequate cadence of the eval curve, the training loss and the gradient norm, as far as they were recorded.

    common: sample counts at which every finished run was evaluated. logged: as in `Record`; a log with gaps is its own coarsest
    cadence, so that only its evaluations are resampled. A verdict is that of the primary metric where it is read from the curve
    in question, else that of a metric of the curve itself.
    """
    read = [run.trace is not None and run.curves is not None and bool(len(run.trace) or run.sparse) for run in runs]
    recorded = [run for run, known in zip(runs, read, strict=True) if known]
    records = [
        Record(trace=run.trace, curves=run.curves, common=common, logged=logged)
        for run in recorded
        if run.trace is not None and run.curves is not None
    ]
    arms = [run.arm for run in recorded]
    baseline = [record for arm, record in zip(arms, records, strict=True) if arm == plan.baseline.name]
    if not baseline:
        return ()

    def judge(metric: MetricInfo, values: Sequence[float | None]) -> Mapping[str, str]:
        rest = iter(values)
        return verdicts(metric, [next(rest) if known else None for known in read])

    primary = find(plan.metric)
    batch = int(plan.baseline.derived.get("effective_batch", 0))
    batch = batch or (int(baseline[0].trace["samples"][0]) if logged is None else 1)
    results = []
    # Without an evaluation before training nothing shows the whole decrease of an imported curve.
    has_start = logged is None or bool(np.any(common == 0))
    if (metric := _eval_metric(primary, baseline[0])) and has_start:
        judged_by = _judged_by(primary, "eval", f"eval_{metric}_irregularity")
        advice = _eval_advice([run for run in recorded if run.arm == plan.baseline.name], baseline, metric, batch)
        cadences = list(eval_cadences(records, judged_by, metric, common, batch))
        curves = [record.curves[metric] for record in records if metric in record.curves]
        basis = "what all arms have in common" if any(len(curve) > len(common) for curve in curves) else _RECORD
        results.append(_adequacy(f"eval {metric}", judged_by, cadences, arms, judge, advice, basis))
    if logged is None:
        for curve, name in (("train loss", "final_train_loss"), ("grad norm", "grad_norm_p95_p5")):
            judged_by = _judged_by(primary, curve, name)
            cadences = list(log_cadences(records, judged_by, curve, len(baseline[0].trace)))
            results.append(_adequacy(curve, judged_by, cadences, arms, judge))
    return tuple(result for result in results if result.rungs)


def _eval_metric(primary: Metric | None, record: Record) -> str | None:
    """The primary metric's own curve, else the loss, else any curve that was evaluated."""
    wanted = [primary.recorded_as] if primary is not None and primary.curve == "eval" else []
    return next((metric for metric in (*wanted, "loss", *record.curves) if metric in record.curves), None)


def _judged_by(primary: Metric | None, curve: str, otherwise: str) -> Metric:
    return primary if primary is not None and primary.curve in (curve, "any") else get_metric(otherwise)


def _adequacy(
    curve: str,
    judged_by: Metric,
    cadences: Sequence[Cadence],
    arms: Sequence[str],
    verdicts: Verdicts,
    advice: str = "",
    basis: str = _RECORD,
) -> Adequacy:
    """basis: name of the first of `cadences`."""
    rungs: list[Rung] = []
    first: Mapping[str, str] = {}
    for cadence in cadences:
        now = verdicts(judged_by.info, cadence.values)
        first = now if not rungs else first
        flips = tuple(f"{arm}: {before} -> {now[arm]}" for arm, before in first.items() if now[arm] != before)
        shares = _by_arm(arms, cadence.shares)
        latest = max(shares, key=shares.__getitem__, default=None)
        share = shares[latest] if latest is not None else None
        rungs.append(
            Rung(
                every=cadence.every,
                points=cadence.points,
                first_step=cadence.first_step,
                before_first=share,
                latest=latest,
                peak=min(_by_arm(arms, cadence.peaks).values(), default=None),
                flips=flips,
                truthful=not flips and (share is None or share <= MAX_SHARE),
            )
        )
    adequate = next((number for number, rung in enumerate(rungs) if not rung.truthful), len(rungs))
    return Adequacy(
        curve=curve,
        metric=judged_by.info.name,
        rungs=tuple(rungs),
        coarsest=rungs[adequate - 1].every if adequate else None,
        sentence=_message(curve, judged_by.info.name, rungs, adequate).replace(_RECORD, basis) if rungs else "",
        advice=advice,
    )


def _by_arm(arms: Sequence[str], values: Sequence[float | None]) -> dict[str, float]:
    """Mean over seeds of each arm."""
    by_arm: dict[str, list[float]] = {}
    for arm, value in zip(arms, values, strict=False):  # a curve without shares, or without peaks, has no values
        if value is not None:
            by_arm.setdefault(arm, []).append(value)
    return {arm: float(np.mean(seeds)) for arm, seeds in by_arm.items()}


def _message(curve: str, metric: str, rungs: Sequence[Rung], adequate: int) -> str:
    """`eval loss: every 20 steps gives the same verdicts as the record, every 50 steps does not: ...`.

    adequate: number of rungs that are.
    """
    first, last = rungs[0], rungs[-1]
    if adequate == 0:
        return f"{curve}: not even the record shows the decrease: {_late(first)}"
    if len(rungs) == 1:
        known = f" ({_late(first)})" if first.before_first is not None else ""
        return f"{curve}: the record shows it{known}; no coarser even cadence can be read from it"
    if adequate == len(rungs):
        return f"{curve}: {every(last.every)} still gives the same verdicts as the record"
    worse = rungs[adequate]
    why = [f"the verdict on {metric} flips ({joined(worse.flips)})"] if worse.flips else []
    why += [_late(worse)] if worse.before_first is not None and worse.before_first > MAX_SHARE else []
    same = f"{every(rungs[adequate - 1].every)} gives the same verdicts as the record"
    return f"{curve}: {same}, {every(worse.every)} does not: {joined(why)}"


def _late(rung: Rung) -> str:
    where = f"in arm {rung.latest}, " if rung.latest else ""
    share = plain_percent(rung.before_first or 0.0)
    return f"{where}{share} of the decrease came before the first point, at step {rung.first_step}"


def every(cadence: str) -> str:
    """Return `every 20 steps`, or `every step`."""
    return f"every {cadence.removeprefix('1 ')}"


def _eval_advice(runs: Sequence[RunFiles], baseline: Sequence[Record], metric: str, batch: int) -> str:
    """From all evaluations of the baseline, which may be more than the arms have in common."""
    curves = [record.curves[metric] for record in baseline if metric in record.curves]
    common = reduce(np.intersect1d, [curve.samples for curve in curves])
    seconds = [spent for run in runs if run.finished and (spent := _seconds_per_evaluation(run)) is not None]
    at_common = [curve.at(np.unique(curve.samples, return_index=True)[1]) for curve in curves]
    return cadence_advice(
        common.astype(np.float64),
        [orientation(metric) * curve.value[np.isin(curve.samples, common)] for curve in at_common],
        samples_per_step=batch,
        seconds=float(np.median(seconds)) if seconds else None,
    )


def _seconds_per_evaluation(run: RunFiles) -> float | None:
    seconds = run.outcome.throughput.get("eval_seconds") if run.outcome else None
    count = max((len(curve) for curve in (run.curves or {}).values()), default=0)
    return seconds / count if seconds and count else None


def cadence_advice(samples: Values, curves: Sequence[Values], *, samples_per_step: int, seconds: float | None) -> str:
    """Return the settings for log-spaced evaluations, with their number and cost next to even spacing and the record.

    samples: of each evaluation, the first one 0. curves: one per seed, lower is better, shape [evaluations]. seconds: per
    evaluation. '' where no curve decreases.
    """
    shares = [share for curve in curves if (share := decrease_shares(curve, fitted=True)) is not None]
    if not shares or samples[0] > 0:
        return ""
    done = np.mean(shares, axis=0)
    record = f"the record has {_cost(len(samples) - 1, seconds)}"
    if done[1] > MAX_SHARE:
        count = EvalConfig().num_evaluations
        late = f"{plain_percent(float(done[1]))} of the decrease came before its first one"
        return f"{_settings(count)} begins at step 1: {_cost(count, seconds)} per run; {record}, and {late}"
    log, even = (_fewest(samples, done, spacing, samples_per_step) for spacing in ("log", "even"))
    pieces = f"the decrease in pieces of at most {plain_percent(MAX_SHARE)}"
    if log is None or (even is not None and even <= log):
        return f"even evaluations do: {_cost(even, seconds)} per run show {pieces}; {record}" if even else ""
    instead = f"even evaluations would take {_cost(even, seconds)}" if even else "no even spacing does"
    return f"{_settings(log)} shows {pieces} with {_cost(log, seconds)} per run; {instead}, {record}"


def _fewest(samples: Values, done: Values, spacing: str, samples_per_step: int) -> int | None:
    """The fewest evaluations that show the decrease in small pieces, by bisection; None where one at every step does not."""
    total = int(samples[-1])
    low, high = 1, min(_MAX_EVALUATIONS, total // samples_per_step)
    fewest = None
    while low <= high:
        count = (low + high) // 2
        points = evaluation_points(
            every=Interval(float(-(-total // count)), "samples"),
            spacing=spacing,
            count=count,
            total_samples=total,
            samples_per_step=samples_per_step,
            samples_per_epoch=total,
        )
        if np.diff(np.interp([0, *points], samples, done)).max() <= MAX_SHARE + 1e-9:
            fewest, high = len(points), count - 1
        else:
            low = count + 1
    return fewest


def _settings(count: int) -> str:
    return f"eval.spacing=log eval.num_evaluations={count}"


def _cost(count: int, seconds: float | None) -> str:
    """`20 evaluations (30 s)`."""
    cost = f" ({plain_figure(count * seconds, 2)} s)" if seconds is not None else ""
    return f"{counted(count, 'evaluation')}{cost}"

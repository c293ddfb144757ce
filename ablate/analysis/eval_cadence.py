"""How coarsely each curve could have been recorded without telling something else: whether a verdict flips when every arm is
read at a coarser cadence, and how much of the fall would have been over before the first look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.load import RunFiles
from ablate.analysis.replay import Read, at_looks, at_rows, rising
from ablate.analysis.results import Adequacy, Rung
from ablate.config.schema import EvalConfig
from ablate.design.plan import Plan
from ablate.formatting import counted, joined, plain_figure, plain_percent
from ablate.metrics.curve_fits import falling
from ablate.metrics.metric import MetricInfo, Outcome, Record
from ablate.metrics.registry import find, outcome
from ablate.training.lr_schedule import looks
from ablate.units import Interval

# How many looks a curve needs, evenly and log-spaced, and what they cost.

PIECE = 0.1
"""Largest share of a curve's fall that may lie between two looks in a row, or before the first one."""

_MOST_LOOKS = 1000

Values = NDArray[np.float64]


def fallen(values: Values) -> Values | None:
    """Share of a curve's fall that had happened by each look, from the never-rising curve nearest to it. Shape [looks].

    None where it does not fall or is not finite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    fit = falling(values)
    fall = float(fit[0] - fit[-1])
    return np.asarray((fit[0] - fit) / fall) if fall > 0 else None


def log_advice(
    samples: Values, curves: Sequence[Values], *, samples_per_step: int, seconds_per_look: float | None
) -> str:
    """What to type for log-spaced looks, with their number and seconds beside those of even looks and of the record.

    samples: of each look, the first one 0. curves: one per seed, lower is better, shape [looks]. '' where none of them falls.
    """
    shares = [share for curve in curves if (share := fallen(curve)) is not None]
    if not shares or samples[0] > 0:
        return ""
    done = np.mean(shares, axis=0)
    recorded = len(samples) - 1
    has = f"the record has {_cost(recorded, seconds_per_look)}"
    if done[1] > PIECE:
        count = EvalConfig().num_evaluations
        return (
            f"{_typed(count)} begins at step 1: {_cost(count, seconds_per_look)} per run; {has}, and {plain_percent(float(done[1]))} "
            "of the fall lies before its first one"
        )

    log, even = (_enough(samples, done, spacing, samples_per_step) for spacing in ("log", "even"))
    shown = f"shows the fall in pieces of at most {plain_percent(PIECE)}"
    if log is None or (even is not None and even <= log):
        return (
            f"even looks do: {_cost(even, seconds_per_look)} per run {shown.replace('shows', 'show')}; {has}"
            if even
            else ""
        )
    instead = f"even looks would take {_cost(even, seconds_per_look)}" if even else "no even spacing does"
    return f"{_typed(log)} {shown} with {_cost(log, seconds_per_look)} per run; {instead}, {has}"


def _enough(samples: Values, done: Values, spacing: str, samples_per_step: int) -> int | None:
    """The fewest looks that show the fall in small pieces, by halving; None where as many as there are steps do not."""
    total = int(samples[-1])
    low, high = 1, min(_MOST_LOOKS, total // samples_per_step)
    found = None
    while low <= high:
        count = (low + high) // 2
        at = looks(
            every=Interval(float(-(-total // count)), "samples"),
            spacing=spacing,
            count=count,
            total_samples=total,
            samples_per_step=samples_per_step,
            samples_per_epoch=total,
        )
        if np.diff(np.interp([0, *at], samples, done)).max() <= PIECE + 1e-9:
            found, high = len(at), count - 1
        else:
            low = count + 1
    return found


def _typed(count: int) -> str:
    return f"eval.spacing=log eval.num_evaluations={count}"


def _cost(count: int, seconds_per_look: float | None) -> str:
    """`20 looks (30 s)`."""
    seconds = f" ({plain_figure(count * seconds_per_look, 2)} s)" if seconds_per_look is not None else ""
    return f"{counted(count, 'look')}{seconds}"


MOST_BEFORE = PIECE
"""Of a curve's fall, the most that a truthful cadence leaves before its first look."""

_RECORD = "the record"

Verdicts = Callable[[MetricInfo, Sequence[float | None]], Mapping[str, str]]
"""The study's own verdicts on an outcome, by variant, from one value per run (None where a run has none)."""


def adequacy(
    plan: Plan,
    runs: Sequence[RunFiles],
    common: NDArray[np.int64],
    verdicts: Verdicts,
    logged: NDArray[np.float64] | None = None,
) -> tuple[Adequacy, ...]:
    """Of the eval curve, the training loss and the gradient norm, as far as the runs have recorded them.

    common: sample counts at which every finished run was looked at. A verdict is that of the primary metric where it is read
    from the curve in question, and else that of the curve's own outcome. logged: `Record`; a log with gaps is its own
    coarsest cadence, so that only its looks are read again. A cadence is truthful where no verdict differs from
    the record's and, of a loss, at most a tenth of the fall lies before its first look or row, in every arm.
    """
    records = [_record(run, common, logged) for run in runs]
    arms = [run.arm for run in runs]
    dense = [record for arm, record in zip(arms, records, strict=True) if record and arm == plan.baseline.name]
    if not dense:
        return ()
    primary = find(plan.metric)
    batch = int(plan.baseline.derived.get("effective_batch", 0))
    batch = batch or (int(dense[0].trace["samples"][0]) if logged is None else 1)
    found = []
    blind = logged is not None and not np.any(
        common == 0
    )  # without a look before training nothing shows the whole fall
    if (metric := _eval_metric(primary, dense[0])) and not blind:
        judged = _judged_by(primary, "eval", f"eval_{metric}_roughness")
        advice = _eval_advice([run for run in runs if run.arm == plan.baseline.name], dense, metric, batch)
        reads = at_looks(records, judged, metric, common, batch)
        sparse = any(
            len(record.curves[metric]) > len(common) for record in records if record and metric in record.curves
        )
        basis = "what all arms have in common" if sparse else _RECORD
        found.append(_adequacy(f"eval {metric}", judged, list(reads), arms, verdicts, advice, basis))
    for curve, name in (
        () if logged is not None else (("train loss", "final_train_loss"), ("grad norm", "grad_norm_p95_p5"))
    ):
        judged = _judged_by(primary, curve, name)
        reads = at_rows(records, judged, curve, len(dense[0].trace))
        found.append(_adequacy(curve, judged, list(reads), arms, verdicts))
    return tuple(one for one in found if one.rungs)


def _record(run: RunFiles, common: NDArray[np.int64], logged: NDArray[np.float64] | None) -> Record | None:
    if run.trace is None or run.curves is None or not (len(run.trace) or run.sparse):
        return None
    return Record(trace=run.trace, curves=run.curves, common=common, logged=logged)


def _eval_metric(primary: Outcome | None, record: Record) -> str | None:
    """The primary metric's own curve, else the loss, else whatever was evaluated."""
    wanted = [primary.metric] if primary is not None and primary.curve == "eval" else []
    return next((metric for metric in (*wanted, "loss", *record.curves) if metric in record.curves), None)


def _judged_by(primary: Outcome | None, curve: str, otherwise: str) -> Outcome:
    return primary if primary is not None and primary.curve in (curve, "any") else outcome(otherwise)


def _eval_advice(runs: Sequence[RunFiles], dense: Sequence[Record], metric: str, batch: int) -> str:
    """From the looks of the baseline alone, which may be more than the arms have in common."""
    known = [record for record in dense if metric in record.curves]
    own = reduce(np.intersect1d, [record.curves[metric].samples for record in known])
    curves = [curve for one in known if (curve := replace(one, common=own).common_curve(metric)) is not None]
    seconds = [one for run in runs if run.finished and (one := _seconds_per_look(run)) is not None]
    return log_advice(
        curves[0].samples.astype(np.float64),
        [rising(metric) * curve.value for curve in curves],
        samples_per_step=batch,
        seconds_per_look=float(np.median(seconds)) if seconds else None,
    )


def _seconds_per_look(run: RunFiles) -> float | None:
    seconds = run.outcome.throughput.get("eval_seconds") if run.outcome else None
    most = max((len(curve) for curve in (run.curves or {}).values()), default=0)
    return seconds / most if seconds and most else None


def _adequacy(
    curve: str,
    judged: Outcome,
    reads: Sequence[Read],
    arms: Sequence[str],
    verdicts: Verdicts,
    advice: str = "",
    basis: str = _RECORD,
) -> Adequacy:
    """basis: what the first of `reads` is called."""
    rungs: list[Rung] = []
    said = [verdicts(judged.info, read.values) for read in reads]
    for read, now in zip(reads, said, strict=True):
        flips = tuple(f"{arm}: {before} -> {now[arm]}" for arm, before in said[0].items() if now[arm] != before)
        shares = _by_arm(arms, read.shares)
        latest = max(shares, key=shares.__getitem__, default=None)
        before_first = shares[latest] if latest is not None else None
        rungs.append(
            Rung(
                every=read.every,
                points=read.points,
                first_step=read.first_step,
                before_first=before_first,
                latest=latest,
                peak=min(_by_arm(arms, read.peaks).values(), default=None),
                flips=flips,
                truthful=not flips and (before_first is None or before_first <= MOST_BEFORE),
            )
        )
    good = next((place for place, rung in enumerate(rungs) if not rung.truthful), len(rungs))
    return Adequacy(
        curve=curve,
        metric=judged.info.name,
        rungs=tuple(rungs),
        coarsest=rungs[good - 1].every if good else None,
        sentence=_sentence(curve, judged.info.name, rungs, good).replace(_RECORD, basis) if rungs else "",
        advice=advice,
    )


def _by_arm(arms: Sequence[str], values: Sequence[float | None]) -> dict[str, float]:
    """The mean over seeds of each arm."""
    found: dict[str, list[float]] = {}
    for arm, value in zip(arms, values, strict=True):
        if value is not None:
            found.setdefault(arm, []).append(value)
    return {arm: float(np.mean(mine)) for arm, mine in found.items()}


def _sentence(curve: str, metric: str, rungs: Sequence[Rung], good: int) -> str:
    """`eval loss: every 20 steps tells the same as the record, every 50 steps not: ...`. good: how many are truthful."""
    first, last = rungs[0], rungs[-1]
    if good == 0:
        return f"{curve}: not even the record shows the fall: {_late(first)}"
    if len(rungs) == 1:
        known = f" ({_late(first)})" if first.before_first is not None else ""
        return f"{curve}: the record shows it{known}; no coarser even cadence can be read from it"
    if good == len(rungs):
        return f"{curve}: {every(last.every)} still tells the same as the record"
    worse = rungs[good]
    why = [f"the verdict on {metric} flips ({joined(worse.flips)})"] if worse.flips else []
    why += [_late(worse)] if worse.before_first is not None and worse.before_first > MOST_BEFORE else []
    same = f"{every(rungs[good - 1].every)} tells the same as the record"
    return f"{curve}: {same}, {every(worse.every)} not: {joined(why)}"


def _late(rung: Rung) -> str:
    where = f" in {rung.latest}" if rung.latest else ""
    return f"{plain_percent(rung.before_first or 0.0)} of the fall{where} lies before the first point, at step {rung.first_step}"


def every(cadence: str) -> str:
    """`every 20 steps`; `every step`."""
    return f"every {cadence.removeprefix('1 ')}"

"""How often the curves of an imported run were logged, and what they cannot show for that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.adequacy import MOST_BEFORE
from ablate.analysis.curves import falling
from ablate.analysis.import_values import Looked
from ablate.analysis.readings import RunFiles
from ablate.analysis.reread import rising
from ablate.analysis.words import counted, figure, percent
from ablate.record.origin import origin_of
from ablate.record.reader import EvalCurve, Trace

_FEWEST_ROWS = 2
"""Rows of the train loss up to the first look that tell how far it had fallen by then."""


def looked(arm: str, runs: Sequence[RunFiles], metric: str) -> Iterator[Looked]:
    """Of one arm: its eval curve, its train loss, its gradient norm, as far as each was logged. runs: finished, at least one.

    metric: of the eval curve.
    """
    first = runs[0]
    if first.curves and metric in first.curves and len(first.curves[metric]):
        yield _evaluations(arm, runs, metric)
    if first.trace is not None and len(first.trace):
        for column, curve in (("loss", "train loss"), ("grad_norm", "grad norm")):
            steps = first.trace["step"][first.trace.told(column)].astype(np.int64)
            if len(steps):
                yield _rows(arm, curve, steps, first)


def gaps(steps: NDArray[np.int64]) -> tuple[str, int]:
    """(`500 steps` or `about 500 steps`, the largest gap) of rising steps, the first one counted from 0."""
    apart = np.diff(steps, prepend=0)
    apart = apart[apart > 0]
    if not len(apart):
        return "once", 0
    sizes, times = np.unique(apart, return_counts=True)
    usual = int(sizes[times == times.max()].max())
    # The last row often comes at the end of training, whatever the cadence.
    even = bool(np.all(apart[:-1] == usual)) and (apart[-1] <= usual or len(apart) == 1)
    return f"{'' if even else 'about '}{counted(usual, 'step')}", int(apart.max())


def _evaluations(arm: str, runs: Sequence[RunFiles], metric: str) -> Looked:
    curves = [run.curves[metric] for run in runs if run.curves and metric in run.curves]
    curve = curves[0]
    trained = np.unique(curve.step[curve.step > 0])
    every, largest = gaps(trained)
    at = int(trained[0]) if len(trained) else 0
    shares = [share for one in curves if (share := _fallen_by_first_look(one, metric)) is not None]
    told_by = f"eval {metric}" if shares else ""
    if not shares:
        shares = [share for run in runs if run.trace is not None and (share := train_share(run.trace, at)) is not None]
        told_by = "train loss" if shares else ""
    before = float(np.mean(shares)) if shares else None
    last = int(curve.step[-1])
    # What rows of the train loss show is the least that had happened: little of it is no proof that it was little.
    sure = told_by != "train loss" or _from_the_start(runs)
    rarely = before > MOST_BEFORE if before is not None and (sure or before > MOST_BEFORE) else None
    head = (
        f"{arm}: eval {metric}, first look after training began at step {at} of {last}, {counted(len(trained), 'look')}"
        f"{', ' + _one(every) if len(trained) > 1 else ''}"
    )
    blind = (
        f"this curve cannot show what happened before step {at}, nor a rise and fall within {counted(largest, 'step')}"
    )
    return Looked(
        arm=arm, curve="eval loss", every=every, points=len(trained), first_step=at, last_step=last, before_first=before,
        told_by=told_by, rarely=rarely, sentence=f"{head}: {_share(metric, before, told_by, runs[0], at)}; {blind}",
    )  # fmt: skip


def _from_the_start(runs: Sequence[RunFiles]) -> bool:
    """Whether the train loss of the very first step was logged, from which the rest is counted."""
    return all(run.trace is not None and bool((run.trace["step"][run.trace.told("loss")] == 1).any()) for run in runs)


def _share(metric: str, before: float | None, told_by: str, run: RunFiles, at: int) -> str:
    if before is None:
        return (
            "there was no look before training, and no two rows of a train loss lie before it, so how much had happened by "
            "then is not on record"
        )
    if told_by != "train loss":
        move = "rise" if rising(metric) < 0 else "fall"
        return f"{percent(before)} of its {move} lies before it"
    assert run.trace is not None
    how = _one(gaps(run.trace["step"][run.trace.told("loss")].astype(np.int64))[0]).removeprefix("one ")
    return (
        f"there was no look before training, but the train loss, logged {how}, had made {_at_least(before)} of "
        f"its own fall by then{_early(run.trace, at)}"
    )


def _one(every: str) -> str:
    """`one every 500 steps`, `one about every 500 steps`, `one every step`."""
    about = "about " if every.startswith("about ") else ""
    return f"one {about}every {every.removeprefix('about ').removeprefix('1 ')}"


def _at_least(share: float) -> str:
    """`at least 94 %`, `over 99 %`."""
    text = percent(share)
    return text if text.startswith("over") else f"at least {text}"


def _early(trace: Trace, at: int) -> str:
    """By which row more than a truthful share of the fall was made."""
    fallen = _train_fallen(trace)
    if fallen is None:
        return ""
    steps, shares = fallen
    past = steps[shares > MOST_BEFORE]
    return f" ({percent(MOST_BEFORE)} by step {int(past[0])})" if len(past) and past[0] < at else ""


def _fallen_by_first_look(curve: EvalCurve, metric: str) -> float | None:
    """Share of the fall from the look before training to the best one; None without such a look or a fall."""
    after = np.flatnonzero(curve.step > 0)
    if not len(curve) or curve.step[0] != 0 or not len(after):
        return None
    values = rising(metric) * curve.value
    fall = float(values[0] - np.min(values))
    return float(values[0] - values[after[0]]) / fall if np.isfinite(fall) and fall > 0 else None


def train_share(trace: Trace, step: int) -> float | None:
    """Share of the train loss's fall that its rows had made by a step: at least that, because the first row is no start."""
    fallen = _train_fallen(trace)
    if fallen is None:
        return None
    steps, shares = fallen
    until = np.flatnonzero(steps <= step)
    return float(shares[until[-1]]) if len(until) >= _FEWEST_ROWS else None


def _train_fallen(trace: Trace) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(steps, share of the fall made by each) of the rows that hold a loss, by the never-rising curve nearest to them."""
    rows = trace.told("loss")
    steps, losses = trace["step"][rows], trace["loss"][rows]
    if len(losses) < _FEWEST_ROWS or not np.isfinite(losses).all():
        return None
    fit = falling(losses)
    fall = float(fit[0] - fit[-1])
    return (steps, np.asarray((fit[0] - fit) / fall)) if fall > 0 else None


def _rows(arm: str, curve: str, steps: NDArray[np.int64], run: RunFiles) -> Looked:
    every, largest = gaps(steps)
    dense = len(steps) == steps[-1]
    origin = origin_of(run.manifest.origin) if run.manifest else None
    head = f"{arm}: {curve}, {counted(len(steps), 'row')}, {_one(every)} from step {int(steps[0])} on"
    if dense:
        said = f"{arm}: {curve}, logged at every step"
    elif curve == "grad norm":
        said = (
            f"{head}: {figure(100 * len(steps) / int(steps[-1]), 2)} % of the steps; a spike between two rows is not seen, so "
            "spread, quantiles, maximum and spikes are not read from it"
        )
    else:
        what = f" ({origin.loss})" if origin is not None and origin.loss else ""
        said = f"{head}{what}: this curve cannot show what is shorter than {counted(largest, 'step')}"
    return Looked(
        arm=arm, curve="train loss" if curve == "train loss" else "grad norm", every=every, points=len(steps),
        first_step=int(steps[0]), last_step=int(steps[-1]), before_first=None, told_by="", rarely=None, sentence=said,
    )  # fmt: skip

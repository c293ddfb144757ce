"""Runs that were made elsewhere: what is not proven of them, in what settings they differ, how often they were looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.eval_cadence import MOST_BEFORE
from ablate.analysis.load import RunFiles
from ablate.analysis.replay import rising
from ablate.analysis.results import UNVERIFIED, Contrast, Imported, Looked
from ablate.config.flatten import leaf_or_absent
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.errors import ConfigError
from ablate.formatting import counted, joined, plain_figure, plain_percent
from ablate.metrics.curve_fits import falling
from ablate.metrics.eval_metrics import FEWEST_LOOKS
from ablate.metrics.registry import OUTCOMES, find
from ablate.records.metadata import Origin, origin_of
from ablate.records.reader import EvalCurve, Trace

# How often the curves of an imported run were logged, and what they cannot show for that.

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
        shares = [
            share for run in runs if run.trace is not None and (share := train_fraction(run.trace, at)) is not None
        ]
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
        return f"{plain_percent(before)} of its {move} lies before it"
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
    text = plain_percent(share)
    return text if text.startswith("over") else f"at least {text}"


def _early(trace: Trace, at: int) -> str:
    """By which row more than a truthful share of the fall was made."""
    fallen = _train_fallen(trace)
    if fallen is None:
        return ""
    steps, shares = fallen
    past = steps[shares > MOST_BEFORE]
    return f" ({plain_percent(MOST_BEFORE)} by step {int(past[0])})" if len(past) and past[0] < at else ""


def _fallen_by_first_look(curve: EvalCurve, metric: str) -> float | None:
    """Share of the fall from the look before training to the best one; None without such a look or a fall."""
    after = np.flatnonzero(curve.step > 0)
    if not len(curve) or curve.step[0] != 0 or not len(after):
        return None
    values = rising(metric) * curve.value
    fall = float(values[0] - np.min(values))
    return float(values[0] - values[after[0]]) / fall if np.isfinite(fall) and fall > 0 else None


def train_fraction(trace: Trace, step: int) -> float | None:
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
            f"{head}: {plain_figure(100 * len(steps) / int(steps[-1]), 2)} % of the steps; a spike between two rows is not seen, so "
            "spread, quantiles, maximum and spikes are not read from it"
        )
    else:
        what = f" ({origin.loss})" if origin is not None and origin.loss else ""
        said = f"{head}{what}: this curve cannot show what is shorter than {counted(largest, 'step')}"
    return Looked(
        arm=arm, curve="train loss" if curve == "train loss" else "grad norm", every=every, points=len(steps),
        first_step=int(steps[0]), last_step=int(steps[-1]), before_first=None, told_by="", rarely=None, sentence=said,
    )  # fmt: skip


UNSEEN = "initial weights, sample order, splits, evaluation set, environment, code and final weights"

_ENOUGH_NUMBERS = 4
"""Two runs that agree in fewer may do so by chance: an accuracy of three looks has few values."""

_CLOSE = 0.01


def origin(run: RunFiles) -> Origin | None:
    """Where an imported run comes from; None for one that was recorded. A manifest is checked when it is read."""
    return origin_of(run.manifest.origin) if run.manifest is not None else None


def imported_controls(plan: Plan, arm: Arm, runs: Sequence[RunFiles]) -> list[Control] | None:
    """All controls of an arm of which, or of whose baseline, a run was imported; None for any other arm."""
    mine = {run.seed: run for run in runs if run.arm == arm.name and run.finished}
    base = {run.seed: run for run in runs if run.arm == plan.baseline.name and run.finished}
    if not any(origin(run) for run in (*mine.values(), *base.values())):
        return None
    formats = joined(dict.fromkeys(one.format for run in (*base.values(), *mine.values()) if (one := origin(run))))
    if arm.axis is None:
        sentence = f"not verified: a log ({formats}) does not say that its seeds had one environment and one code"
        return [_control(arm, "matched", "unverified", sentence), *_seeds(arm, mine)]
    found = [_isolate(plan, arm, base, mine), _match(arm, formats), _took_effect(arm, base, mine)]
    return [*found, *_seeds(arm, mine)]


def _isolate(plan: Plan, arm: Arm, base: Mapping[int, RunFiles], mine: Mapping[int, RunFiles]) -> Control:
    pairs = differing(plan, arm)
    if len(pairs) > 1 and arm.kind != "placebo":
        return _control(arm, "one_variable", "failed", f"{arm.name} {_several(pairs)}")
    bare = [
        name
        for name, some in (("the baseline", base), (arm.name, mine))
        if not any(_settings(run) for run in some.values())
    ]
    if bare:
        sentence = f"not verified: no settings are on record for {joined(bare)}: --config-file ARM=FILE gives them"
    elif pairs:
        sentence = (
            f"not verified: of what the logs hold, only {pairs[0]} differs; what they do not hold may differ as well"
        )
    else:
        what = f"so what {arm.name} changes is not among them"
        sentence = f"not verified: the settings on record are equal, {what}{_seen(base, mine)}"
    return _control(arm, "one_variable", "unverified", sentence)


def _several(pairs: Sequence[str]) -> str:
    return (
        f"differs from the baseline in {len(pairs)} recorded settings at once ({', '.join(pairs)}): a contrast of several "
        "variables, in which none can be named. Import a run with each of them alone, or let "
        "`ablate attribute` run the corners between the two"
    )


def _settings(run: RunFiles) -> str:
    found = origin(run)
    return found.settings if found else "its own"


def _seen(base: Mapping[int, RunFiles], mine: Mapping[int, RunFiles]) -> str:
    """Settings of looking alone, in which the first runs differ."""
    both = [next(iter(some.values()), None) for some in (base, mine)]
    left, right = (found.looking if run is not None and (found := origin(run)) else {} for run in both)
    apart = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
    said = [f"{key} ({show(left.get(key, 'absent'))} -> {show(right.get(key, 'absent'))})" for key in apart]
    return f"; only the way of looking differs: {', '.join(said)}" if said else ""


def _match(arm: Arm, formats: str) -> Control:
    sentence = f"not verified: a log ({formats}) holds no fingerprint: {UNSEEN} may differ from the baseline's unseen"
    return _control(arm, "matched", "unverified", sentence)


def _took_effect(arm: Arm, base: Mapping[int, RunFiles], mine: Mapping[int, RunFiles]) -> Control:
    common = sorted(base.keys() & mine.keys())
    equal = [seed for seed in common if _same_numbers(base[seed], mine[seed])]
    if common and len(equal) == len(common):
        where = f"seed {common[0]}" if len(common) == 1 else counted(len(common), "seed")
        sentence = (
            f"no-op: {arm.name} logged the baseline's very numbers in {where}: what it changes never reached the run, or the "
            "same run was imported twice"
        )
        return _control(arm, "took_effect", "failed", sentence)
    sentence = "not verified: no final weights are on record; other numbers than the baseline's may have another cause"
    return _control(arm, "took_effect", "unverified", sentence)


def _seeds(arm: Arm, mine: Mapping[int, RunFiles]) -> list[Control]:
    for one, other in ((a, b) for a in mine for b in mine if a < b):
        if _same_numbers(mine[one], mine[other]):
            sentence = (
                f"seed ignored: {arm.name}, seeds {one} and {other} logged the very same numbers: they are one run"
            )
            return [_control(arm, "seeds", "failed", sentence)]
    if len(mine) < 2:
        return []
    sentence = "not verified: their numbers differ, but no final weights are on record"
    return [_control(arm, "seeds", "unverified", sentence)]


def _control(arm: Arm, name: str, status: str, sentence: str) -> Control:
    return Control(arm=arm.name, name=name, status="failed" if status == "failed" else "unverified", sentence=sentence)


def _same_numbers(one: RunFiles, other: RunFiles) -> bool:
    left, right = _numbers(one), _numbers(other)
    return (
        len(left) >= _ENOUGH_NUMBERS and left.shape == right.shape and bool(np.array_equal(left, right, equal_nan=True))
    )


def _numbers(run: RunFiles) -> NDArray[np.float64]:
    """All that the run logged of losses, norms and evaluations, in order."""
    curves = [run.curves[metric].value for metric in sorted(run.curves)] if run.curves else []
    rows = (
        [run.trace[column][run.trace.told(column)] for column in ("loss", "grad_norm")] if run.trace is not None else []
    )
    return np.concatenate([np.empty(0), *curves, *rows])


def differing(plan: Plan, arm: Arm) -> list[str]:
    """Recorded settings in which an arm differs from the baseline: `optim.lr (0.1 -> 0.5)`."""
    before = plan.baseline.config
    return [f"{key} ({show(leaf_or_absent(before, key))} -> {show(value)})" for key, value in arm.changes.items()]


# ---- what a report says at its top ---------------------------------------------------------------------------------


def labelled(contrasts: Sequence[Contrast], runs: Sequence[RunFiles], baseline: str) -> tuple[Contrast, ...]:
    """With `UNVERIFIED` where the arm or the baseline was imported; an arm without a verdict needs no label."""
    elsewhere = {run.arm for run in runs if origin(run) is not None}
    return tuple(
        replace(one, labels=(*one.labels, UNVERIFIED))
        if one.verdict != "none" and {one.arm, baseline} & elsewhere
        else one
        for one in contrasts
    )


def in_brief(found: Imported) -> str:
    """The first of the conclusions: what stands at the top, in one line."""
    labels = [label.lower() for label, _ in found.alarms[1:]]
    more = f" See at the top: {joined(labels)}." if labels else ""
    return f"These runs were made elsewhere, and no control is proven: a difference is no cause yet.{more}"


def imported(plan: Plan, runs: Sequence[RunFiles], common: NDArray[np.int64]) -> Imported | None:
    """None for a study without an imported run."""
    known = {(run.arm, run.seed): found for run in runs if (found := origin(run)) is not None}
    if not known:
        return None
    by_arm = {arm.name: [run for run in runs if run.arm == arm.name and run.finished] for arm in plan.arms}
    metric = _metric(plan, runs)
    seen = tuple(one for arm, mine in by_arm.items() if mine for one in looked(arm, mine, metric))
    apart = {arm.name: tuple(differing(plan, arm)) for arm in plan.arms[1:]}
    not_read = _not_read(runs)
    alarms = [
        ("IMPORTED", _nothing_proven(known)),
        *(("SEVERAL VARIABLES", f"{arm} {_several(pairs)}") for arm, pairs in apart.items() if len(pairs) > 1),
        *_rarely(seen),
        *_positions(known),
        *_lengths(by_arm, metric),
        *_apart(seen, int(np.sum(common > 0))),
        *([("NOT READ", _left(not_read))] if not_read else []),
    ]
    return Imported(
        sources=tuple(_source(arm, seed, one) for (arm, seed), one in known.items()),
        alarms=tuple(alarms),
        differing=apart,
        looked=seen,
        not_read=tuple(not_read),
    )


def _nothing_proven(known: Mapping[tuple[str, int], Origin]) -> str:
    formats = joined(dict.fromkeys(one.format for one in known.values()))
    return (
        f"{counted(len(known), 'run')} made elsewhere ({formats}). No control could be proven: {UNSEEN} are not on record, and "
        "any of them may be the cause of a difference between arms."
    )


def _rarely(seen: Sequence[Looked]) -> Iterator[tuple[str, str]]:
    """The arm where most was over before the first look; or, where nothing tells, that nothing does."""
    evals = [one for one in seen if one.curve == "eval loss"]
    late = sorted((one for one in evals if one.rarely), key=lambda one: -(one.before_first or 0.0))
    if late:
        others = f" Likewise {joined([one.arm for one in late[1:]])}." if len(late) > 1 else ""
        advice = "Look before training, and early: decide nothing by this curve."
        yield "LOOKED AT TOO RARELY", f"{late[0].sentence}. {advice}{others}"
    blind = [one for one in evals if one.rarely is None]
    if blind:
        others = f" Likewise {joined([one.arm for one in blind[1:]])}." if len(blind) > 1 else ""
        yield "CANNOT BE TOLD", f"whether it was looked at often enough. {blind[0].sentence}.{others}"


def _positions(known: Mapping[tuple[str, int], Origin]) -> Iterator[tuple[str, str]]:
    """With what samples were counted; steps take their place where no log says how many samples one has."""
    if not all(one.samples_per_step for one in known.values()):
        sentence = (
            "no log says how many samples a step has: runs are compared after the same number of steps, and `samples` are "
            "steps. Where batch sizes differ, --samples-per-step ARM=N says it"
        )
        yield "STEPS, NOT SAMPLES", sentence
        return
    unsure = dict.fromkeys(one.samples for one in known.values() if "not on record" in one.samples)
    if unsure:
        yield "SAMPLES", f"counted with {'; '.join(unsure)}. --samples-per-step ARM=N says it"


def _lengths(by_arm: Mapping[str, Sequence[RunFiles]], metric: str) -> Iterator[tuple[str, str]]:
    """A final look after another number of samples is another question."""
    ends = {
        f"{arm} seed {run.seed}": int(run.curves[metric].samples[-1])
        for arm, mine in by_arm.items()
        for run in mine
        if run.curves and metric in run.curves and len(run.curves[metric])
    }
    if not ends or max(ends.values()) - min(ends.values()) <= _CLOSE * max(ends.values()):
        return
    short, long = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
    yield (
        "UNEQUAL LENGTHS",
        (
            f"the last look of {short} is after {ends[short]:,} samples, that of {long} after {ends[long]:,}: what is read at "
            "the final look compares runs of other lengths"
        ),
    )


def _apart(seen: Sequence[Looked], common: int) -> Iterator[tuple[str, str]]:
    """Arms that were looked at otherwise share few looks, and curves are compared at those."""
    evals = [one for one in seen if one.curve == "eval loss"]
    cadences = [f"{one.arm} every {one.every}" for one in evals]
    if not evals or common >= min(FEWEST_LOOKS, *(one.points for one in evals)):
        return
    yield (
        "FEW COMMON LOOKS",
        (
            f"after the same number of samples all runs were looked at {counted(common, 'time')} ({joined(cadences)}): best, "
            "roughness "
            "and area, which depend on when one looks, are read there alone"
        ),
    )


def _not_read(runs: Sequence[RunFiles]) -> list[str]:
    """Outcomes that are read from every step, where an imported run has not logged every step."""
    sparse = [run for run in runs if origin(run) is not None and run.finished and run.sparse]
    return [name for name, one in OUTCOMES.items() if one.curve == "grad norm"] if sparse else []


def check_readable(plan: Plan, runs: Sequence[RunFiles]) -> None:
    """Raise ConfigError where the primary metric is one that needs every step, and an imported run logged some of them."""
    primary = find(plan.metric)
    sparse = next((run for run in runs if run.finished and run.sparse), None)
    if sparse is None or primary is None or primary.curve != "grad norm":
        return
    rows = int(sparse.trace.told("grad_norm").sum()) if sparse.trace is not None else 0
    last = sparse.outcome.step if sparse.outcome else 0
    raise ConfigError(
        f"{plan.metric} is read from the gradient norm of every step, and {sparse.arm} seed {sparse.seed} logged {rows} of "
        f"{last}: from those it would be another outcome",
        "--metric eval_loss; or record every step: TraceCallback, Recorder (docs/how-to/record_your_own_loop.md)",
    )


def said_here(runs: Sequence[RunFiles], checks: Sequence[Control]) -> Sequence[Control]:
    """The controls that conclusions have to name: of imported runs `Imported.alarms` says once what is proven of none."""
    if not any(run.manifest and run.manifest.origin for run in runs):
        return checks
    return [check for check in checks if check.status == "failed" and check.name != "one_variable"]


def _left(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)}: they are made of every step's gradient norm, and a norm read from some steps is another outcome. "
        "TraceCallback or Recorder record every step"
    )


def _metric(plan: Plan, runs: Sequence[RunFiles]) -> str:
    """The eval curve of the primary metric, else the loss, else whatever was evaluated."""
    primary = find(plan.metric)
    known = reduce(lambda found, run: found | dict.fromkeys(run.curves or {}), runs, dict[str, None]())
    wanted = [primary.metric] if primary is not None and primary.metric else []
    return next((metric for metric in (*wanted, "loss", *known) if metric in known), "loss")


def _source(arm: str, seed: int, one: Origin) -> str:
    files = ", ".join(f"{name} (sha256 {digest[:12]})" for name, digest in one.files.items())
    left = f"; left out: {', '.join(one.left_out)}" if one.left_out else ""
    notes = "".join(f"; {note}" for note in one.notes)
    return f"{arm}, seed {seed} ({one.seed}): {one.format}, {files}; settings: {one.settings or 'none'}{left}{notes}"

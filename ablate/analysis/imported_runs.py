"""Runs imported from another tool's log: what is unverified, which settings differ, and how often they were evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.controls import NOT_RECORDED, differing, log_formats, several_variables
from ablate.analysis.eval_cadence import MAX_SHARE
from ablate.analysis.infer_plan import NOT_COMPARED
from ablate.analysis.results import UNVERIFIED, Contrast, Imported, LoggedCurve
from ablate.controls.control import Control
from ablate.design.plan import Plan
from ablate.errors import ConfigError
from ablate.formatting import counted, joined, plain_figure, plain_percent
from ablate.metrics.curves import MIN_EVALUATIONS, decrease_before, decrease_shares, orientation
from ablate.metrics.registry import METRICS, find
from ablate.records.metadata import Origin
from ablate.records.reader import Trace
from ablate.records.run_files import RunFiles

_MIN_ROWS = 2
"""Rows of the train loss up to the first evaluation that show how far it had decreased by then."""
_EQUAL_LENGTH = 0.01
"""Relative difference below which two runs count as equally long."""

Runs = Sequence[RunFiles]
BySeed = Mapping[int, RunFiles]


def controls_to_conclude(runs: Runs, checks: Sequence[Control]) -> Sequence[Control]:
    """Return the controls that conclusions have to name: `Imported.alarms` covers the unverified ones of imported runs."""
    if not any(run.origin for run in runs):
        return checks
    return [check for check in checks if check.status == "failed" and check.name != "one_variable"]


def labelled(
    contrasts: Sequence[Contrast], runs: Runs, checks: Sequence[Control], baseline: str
) -> tuple[Contrast, ...]:
    """Add `UNVERIFIED` where the arm or the baseline was imported, or could not be compared with the other.

    An arm without a verdict or without an effect needs no label.
    """
    arms = {run.arm for run in runs if run.origin is not None}
    arms |= {one.arm for one in checks if (one.name, one.status) == ("matched", "unverified")}
    return tuple(
        replace(contrast, labels=(*contrast.labels, UNVERIFIED))
        if contrast.verdict != "none" and contrast.effect is not None and {contrast.arm, baseline} & arms
        else contrast
        for contrast in contrasts
    )


def in_brief(about: Imported) -> str:
    """Return the first of the conclusions in one sentence."""
    labels = [label.lower() for label, _ in about.alarms[1:]]
    more = f" See at the top: {joined(labels)}." if labels else ""
    return f"These runs were imported, and no control is verified: a difference does not show its cause.{more}"


def imported(plan: Plan, runs: Runs, common: NDArray[np.int64]) -> Imported | None:
    """Return what a report says of imported runs; None for a study without one.

    common: sample counts at which every run was evaluated.
    """
    origins = {(run.arm, run.seed): origin for run in runs if (origin := run.origin) is not None}
    if not origins:
        return None
    by_arm = {arm.name: [run for run in runs if run.arm == arm.name and run.finished] for arm in plan.arms}
    metric = _metric(plan, runs)
    curves = tuple(curve for arm, group in by_arm.items() if group for curve in _cadences(arm, group, metric))
    changes = {arm.name: tuple(differing(plan, arm)) for arm in plan.arms[1:]}
    sparse = any(run.finished and run.sparse for run in runs)
    not_read = [name for name, one in METRICS.items() if one.curve == "grad norm"] if sparse else []
    formats = log_formats([run for run in runs if run.origin])
    unit = "samples" if all(origin.samples_per_step for origin in origins.values()) else "steps"
    alarms = [
        (
            "IMPORTED",
            f"{counted(len(origins), 'run')} imported ({formats}). No control could be verified: {NOT_RECORDED} are not on "
            "record, and any of them may be the cause of a difference between arms.",
        ),
        *(
            ("SEVERAL VARIABLES", f"{arm} {several_variables(pairs)}")
            for arm, pairs in changes.items()
            if len(pairs) > 1
        ),
        *(("NOT ON RECORD", note) for note in plan.notes if NOT_COMPARED in note),
        *_no_value(plan, runs),
        *_late_evaluations(curves),
        *_positions(list(origins.values())),
        *_lengths(by_arm, metric, unit),
        *_few_common(curves, int(np.sum(common > 0)), unit),
    ]
    if not_read:
        reason = "they need every step's gradient norm, and computed from some steps they would be another metric"
        alarms.append(("NOT READ", f"{', '.join(not_read)}: {reason}. TraceCallback or Recorder record every step"))
    return Imported(
        sources=tuple(_source(arm, seed, origin) for (arm, seed), origin in origins.items()),
        alarms=tuple(alarms),
        differing=changes,
        curves=curves,
        not_read=tuple(not_read),
    )


def _no_value(plan: Plan, runs: Runs) -> Iterator[tuple[str, str]]:
    """Name what the logs have, where none of them has the primary metric."""
    primary = find(plan.metric)
    evaluated = dict.fromkeys(name for run in runs for name in run.curves or {})
    if primary is None or not primary.recorded_as or primary.recorded_as in evaluated:
        return
    trained = any(run.trace is not None and run.trace.recorded("loss").any() for run in runs)
    found = [*(f"eval_{name}" for name in evaluated), *(["final_train_loss"] if trained else [])]
    text = f"no log has {plan.metric}"
    yield "NO VALUE", f"{text}; read from them: {', '.join(found)}. --metric {found[0]} compares it" if found else text


def _late_evaluations(curves: Sequence[LoggedCurve]) -> Iterator[tuple[str, str]]:
    """The arm with most of the decrease before its first evaluation; and the arms where the share is unknown."""
    evals = [curve for curve in curves if curve.curve == "eval loss"]
    late = sorted((curve for curve in evals if curve.rarely), key=lambda curve: -(curve.before_first or 0.0))
    if late:
        advice = "Evaluate before training, and early; do not decide by this curve."
        yield "EVALUATED TOO RARELY", f"{late[0].sentence}. {advice}{_likewise(late)}"
    unknown = [curve for curve in evals if curve.rarely is None]
    if unknown:
        reason = f"the log does not show whether evaluations were frequent enough. {unknown[0].sentence}"
        yield "CADENCE UNVERIFIED", f"{reason}.{_likewise(unknown)}"


def _likewise(curves: Sequence[LoggedCurve]) -> str:
    return f" Likewise {joined([curve.arm for curve in curves[1:]])}." if len(curves) > 1 else ""


def _positions(origins: Sequence[Origin]) -> Iterator[tuple[str, str]]:
    """How samples were counted; steps replace them where no log holds the number of samples of a step."""
    if not all(origin.samples_per_step for origin in origins):
        yield (
            "STEPS, NOT SAMPLES",
            "no log holds the number of samples of a step: runs are compared after the same number of steps, and `samples` are "
            "steps. Where batch sizes differ, give them with --samples-per-step ARM=N",
        )
        return
    unsure = dict.fromkeys(origin.samples for origin in origins if "not on record" in origin.samples)
    if unsure:
        yield "SAMPLES", f"counted with {'; '.join(unsure)}. --samples-per-step ARM=N sets it"


def _lengths(by_arm: Mapping[str, Runs], metric: str, unit: str) -> Iterator[tuple[str, str]]:
    """Final evaluations after unequal numbers of samples answer another question."""
    ends = {
        f"{arm} seed {run.seed}": int(run.curves[metric].samples[-1])
        for arm, group in by_arm.items()
        for run in group
        if run.curves and metric in run.curves and len(run.curves[metric])
    }
    if not ends or max(ends.values()) - min(ends.values()) <= _EQUAL_LENGTH * max(ends.values()):
        return
    short, long = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
    yield (
        "UNEQUAL LENGTHS",
        f"the last evaluation of {short} is after {ends[short]:,} {unit}, that of {long} after {ends[long]:,}: metrics of the "
        "final evaluation compare runs of unequal length",
    )


def _few_common(curves: Sequence[LoggedCurve], common: int, unit: str) -> Iterator[tuple[str, str]]:
    """Arms of unequal cadence share few evaluations, and curves are compared at those."""
    evals = [curve for curve in curves if curve.curve == "eval loss"]
    if not evals or common >= min(MIN_EVALUATIONS, *(curve.points for curve in evals)):
        return
    cadences = joined([f"{curve.arm} every {curve.every}" for curve in evals])
    yield (
        "FEW COMMON EVALUATIONS",
        f"all runs were evaluated after the same number of {unit} {counted(common, 'time')} ({cadences}): best, "
        "irregularity and area, which depend on the cadence, are read there alone",
    )


def _metric(plan: Plan, runs: Runs) -> str:
    """The eval curve of the primary metric, else the loss, else any that was evaluated."""
    primary = find(plan.metric)
    recorded = dict.fromkeys(metric for run in runs for metric in run.curves or {})
    wanted = [primary.recorded_as] if primary is not None and primary.recorded_as else []
    return next((metric for metric in (*wanted, "loss", *recorded) if metric in recorded), "loss")


def _source(arm: str, seed: int, origin: Origin) -> str:
    files = ", ".join(f"{name} (sha256 {digest[:12]})" for name, digest in origin.files.items())
    left = f"; left out: {', '.join(origin.left_out)}" if origin.left_out else ""
    notes = "".join(f"; {note}" for note in origin.notes)
    settings = origin.settings or "none"
    return f"{arm}, seed {seed} ({origin.seed}): {origin.format}, {files}; settings: {settings}{left}{notes}"


def check_readable(plan: Plan, runs: Runs) -> None:
    """Raise ConfigError where the primary metric needs every step, and an imported run logged only some of them."""
    primary = find(plan.metric)
    sparse = next((run for run in runs if run.finished and run.sparse), None)
    if sparse is None or primary is None or primary.curve != "grad norm":
        return
    rows = int(sparse.trace.recorded("grad_norm").sum()) if sparse.trace is not None else 0
    last = sparse.outcome.step if sparse.outcome else 0
    raise ConfigError(
        f"{plan.metric} needs the gradient norm of every step, and {sparse.arm} seed {sparse.seed} logged {rows} of {last}",
        "--metric eval_loss; or record every step: TraceCallback, Recorder (docs/how-to/record_your_own_loop.md)",
    )


def _cadences(arm: str, runs: Runs, metric: str) -> Iterator[LoggedCurve]:
    """Eval curve, train loss and gradient norm of one arm, as far as each was logged. runs: finished, at least one."""
    first = runs[0]
    if first.curves and metric in first.curves and len(first.curves[metric]):
        yield _evaluations(arm, runs, metric)
    if first.trace is not None and len(first.trace):
        for column in ("loss", "grad_norm"):
            steps = first.trace["step"][first.trace.recorded(column)].astype(np.int64)
            if len(steps):
                yield _rows(arm, column, steps, first.origin)


def gaps(steps: NDArray[np.int64]) -> tuple[str, int]:
    """Return (`500 steps` or `about 500 steps`, the largest gap) of rising steps, the first one counted from 0."""
    sizes = np.diff(steps, prepend=0)
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return "once", 0
    unique, times = np.unique(sizes, return_counts=True)
    usual = int(unique[times == times.max()].max())
    # The last row often comes at the end of training, whatever the cadence.
    even = bool(np.all(sizes[:-1] == usual)) and (sizes[-1] <= usual or len(sizes) == 1)
    return f"{'' if even else 'about '}{counted(usual, 'step')}", int(sizes.max())


def _evaluations(arm: str, runs: Runs, metric: str) -> LoggedCurve:
    curve = next(run.curves[metric] for run in runs if run.curves and metric in run.curves)
    trained = np.unique(curve.step[curve.step > 0])
    every, largest = gaps(trained)
    first, last = int(trained[0]) if len(trained) else 0, int(curve.step[-1])
    before, measured_on, exact, decrease = _decrease_before_first(runs, metric, first)
    late = before is not None and before > MAX_SHARE
    interval = f", {_one_every(every)}" if len(trained) > 1 else ""
    return LoggedCurve(
        arm=arm, curve="eval loss", every=every, points=len(trained), first_step=first, last_step=last, before_first=before,
        measured_on=measured_on, rarely=late if exact else late or None,
        sentence=f"{arm}: eval {metric}, first evaluation after training began at step {first} of {last}, "
        f"{counted(len(trained), 'evaluation')}{interval}: {decrease}; this curve cannot show what happened before "
        f"step {first}, nor a rise and fall within {counted(largest, 'step')}",
    )  # fmt: skip


def _decrease_before_first(runs: Runs, metric: str, first: int) -> tuple[float | None, str, bool, str]:
    """Return (share of the decrease by step `first`, the curve that shows it, True unless it is a lower bound, in words)."""
    curves = [run.curves[metric] for run in runs if run.curves and metric in run.curves]
    shares = [share for curve in curves if (share := decrease_before(curve, metric)) is not None]
    if shares:
        before, change = float(np.mean(shares)), "increase" if orientation(metric) < 0 else "decrease"
        return before, f"eval {metric}", True, f"{plain_percent(before)} of its {change} came before it"
    traces = [run.trace for run in runs if run.trace is not None]
    decreases = [_train_decrease(trace) for trace in traces]
    shares = [float(by[steps <= first][-1]) for steps, by in decreases if np.sum(steps <= first) >= _MIN_ROWS]
    if not shares:
        text = (
            "the log has no evaluation before training and fewer than two rows of a train loss before it, so the decrease by "
            "then is not on record"
        )
        return None, "", False, text
    # The decrease counts from the first step: a log without it gives a lower bound, and a small one shows nothing.
    exact = len(traces) == len(runs) and all((trace["step"][trace.recorded("loss")] == 1).any() for trace in traces)
    before, (steps, by_row) = float(np.mean(shares)), decreases[0]
    text = plain_percent(before)
    at_least = text if text.startswith("over") else f"at least {text}"
    rows = traces[0]["step"][traces[0].recorded("loss")].astype(np.int64)
    logged = _one_every(gaps(rows)[0]).removeprefix("one ")
    past = steps[by_row > MAX_SHARE]
    early = f" ({plain_percent(MAX_SHARE)} by step {int(past[0])})" if len(past) and past[0] < first else ""
    text = (
        f"there was no evaluation before training, but the train loss, logged {logged}, had made {at_least} of its own "
        f"decrease by then{early}"
    )
    return before, "train loss", exact, text


def _train_decrease(trace: Trace) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(steps, share of the decrease by each) of the rows that hold a loss; empty where it never decreased."""
    rows = trace.recorded("loss")
    shares = decrease_shares(trace["loss"][rows], fitted=True)
    return (np.empty(0), np.empty(0)) if shares is None else (trace["step"][rows], shares)


def _one_every(interval: str) -> str:
    """`one every 500 steps`, `one about every 500 steps`, `one every step`."""
    about = "about " if interval.startswith("about ") else ""
    return f"one {about}every {interval.removeprefix('about ').removeprefix('1 ')}"


def _rows(arm: str, column: str, steps: NDArray[np.int64], origin: Origin | None) -> LoggedCurve:
    every, largest = gaps(steps)
    curve: Literal["train loss", "grad norm"] = "train loss" if column == "loss" else "grad norm"
    first, last = int(steps[0]), int(steps[-1])
    head = f"{arm}: {curve}, {counted(len(steps), 'row')}, {_one_every(every)} from step {first} on"
    if len(steps) == last:
        text = f"{arm}: {curve}, logged at every step"
    elif column == "grad_norm":
        text = (
            f"{head}: {plain_figure(100 * len(steps) / last, 2)}% of the steps; a spike between two rows is not visible, so "
            "spread, quantiles, maximum and spikes are not read from it"
        )
    else:
        what = f" ({origin.loss})" if origin is not None and origin.loss else ""
        text = f"{head}{what}: this curve cannot show what is shorter than {counted(largest, 'step')}"
    return LoggedCurve(
        arm=arm, curve=curve, every=every, points=len(steps), first_step=first,
        last_step=last, before_first=None, measured_on="", rarely=None, sentence=text,
    )  # fmt: skip

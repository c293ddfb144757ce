"""Compare runs at an equal amount of training: steps, samples, tokens, epochs or seconds.

A batch of 64 takes eight times the samples of a batch of 8 in as many steps, and an eighth of its steps over as many samples;
which of the two is better can depend on what is held equal (Shallue et al. 2019). Nothing is interpolated: a run is read up to
its last step, and its curves up to the last evaluation, within the amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.load import common_evaluations
from ablate.analysis.results import ArmAmount, Budgets
from ablate.design.plan import Plan
from ablate.errors import ConfigError
from ablate.formatting import counted, joined, plain_percent
from ablate.metrics.registry import find
from ablate.records.reader import EvalCurve, Trace
from ablate.records.run_files import RunFiles
from ablate.units import END, Amount, parse_amount

Values = NDArray[np.float64]

_TOLERANCE = 1e-9
"""Relative: epochs and seconds are sums of fractions."""


@dataclass(frozen=True, slots=True)
class ReadAt:
    """runs: cut off at the amount. common: of each of them, the samples at the evaluations that all runs have in common."""

    runs: list[RunFiles]
    common: list[NDArray[np.int64]]
    budgets: Budgets


def read_at(plan: Plan, runs: list[RunFiles], at: str | None = None) -> ReadAt:
    """Return the runs as the plan compares them, or at the amount `at`.

    Raises IntervalError for an invalid amount, ConfigError for one that was not recorded or that a run did not reach.
    """
    key = "study.compare_at" if at is None else "--compare-at"
    requested = parse_amount((plan.compare_at or END) if at is None else at, key=key)
    reread = at is not None and requested != parse_amount(plan.compare_at or END, key="study.compare_at")
    recorded = [(run, run.trace) for run in runs if run.finished and run.trace is not None and len(run.trace)]
    if requested.unit == END or not recorded:
        budgets = replace(_as_ended(plan, [run for run, _ in recorded]), reread=reread)
        return ReadAt(runs, [common_evaluations(runs)] * len(runs), _with_plan(budgets, plan))
    if any(plan.metric in (run.returned or {}) for run in runs):
        raise ConfigError(
            f"{key}={str(requested)!r}: {plan.metric} is a value that the app returned at its end, and has no earlier value",
            f"{key}={END}",
        )
    measured = [_Measured(run, trace, _amounts(run, trace, requested, key)) for run, trace in recorded]
    amount = _common_amount(measured, requested, key)
    within = [positions[_within(positions, amount)] for run in measured for positions in run.positions()]
    common = set.intersection(*({_rounded(one) for one in positions} for positions in within)) if within else set()
    shared = max(common, default=0.0) > 0
    last = max(common) if shared else amount  # up to where curves are read
    _check_evaluated(plan, measured, requested, amount, last, key)
    cut = {(one.run.arm, one.run.seed): one.cut(amount, last) for one in measured}
    rows = {(one.run.arm, one.run.seed): one.samples_at(common) for one in measured}
    arms = tuple(_arms(plan, measured, amount, last))
    wholes = [one.run for one in measured]
    budgets = Budgets(
        unit=requested.unit,
        amount=amount,
        reread=reread,
        question=_question(requested.unit, amount, arms, last, shared=shared),
        cautions=(*_schedules(plan, measured, amount), *_clock(requested.unit, wholes)),
        arms=arms,
    )
    keys, nothing = [(run.arm, run.seed) for run in runs], np.empty(0, dtype=np.int64)
    read = [cut.get(key, run) for key, run in zip(keys, runs, strict=True)]
    return ReadAt(read, [rows.get(key, nothing) for key in keys], _with_plan(budgets, plan))


@dataclass(frozen=True, slots=True)
class _Measured:
    """A run with its amount of the unit after each step, shape [steps]."""

    run: RunFiles
    trace: Trace
    amounts: Values

    def position(self, curve: EvalCurve) -> Values:
        """The amount at each evaluation; 0 is before training."""
        amounts = np.concatenate([[0.0], self.amounts])
        return np.asarray(amounts[np.searchsorted(self.trace["step"], curve.step, side="right")])

    def positions(self) -> list[Values]:
        """Of every curve."""
        return [self.position(curve) for curve in (self.run.curves or {}).values()]

    def last_evaluations(self, last: float) -> list[float]:
        """The amount at the last evaluation that is read, by curve; empty without one after training began."""
        read = [positions[_within(positions, last)] for positions in self.positions()]
        return [float(positions[-1]) for positions in read if len(positions) and positions[-1] > 0]

    def samples_at(self, common: set[float]) -> NDArray[np.int64]:
        """Sample counts of the evaluations at these amounts."""
        for curve in (self.run.curves or {}).values():
            shared = [_rounded(value) in common for value in self.position(curve)]
            return np.unique(curve.samples[np.asarray(shared, dtype=bool)])
        return np.empty(0, dtype=np.int64)

    def steps(self, amount: float) -> int:
        """Number of steps within the amount."""
        return int(np.sum(_within(self.amounts, amount)))

    def cut(self, amount: float, last: float) -> RunFiles:
        curves = {
            metric: curve.at(np.flatnonzero(_within(self.position(curve), last)))
            for metric, curve in (self.run.curves or {}).items()
        }
        return replace(
            self.run, trace=Trace(self.trace.table.slice(0, self.steps(amount))), curves=curves, returned=None
        )


def _amounts(run: RunFiles, trace: Trace, requested: Amount, key: str) -> Values:
    """Amount of the unit after each step [steps]. Raises ConfigError where the run has not recorded it."""
    columns = {"steps": "step", "samples": "samples", "tokens": "tokens", "epochs": "epoch"}
    values = np.cumsum(trace["step_seconds"]) if requested.unit == "seconds" else trace[columns[requested.unit]]
    if not np.all(np.isfinite(values)) or not values[-1] > 0:
        raise ConfigError(
            f"{key}={str(requested)!r}: seed {run.seed} of {run.arm} has recorded no {requested.unit}", f"{key}=samples"
        )
    return np.asarray(values, dtype=np.float64)


def _common_amount(measured: Sequence[_Measured], requested: Amount, key: str) -> float:
    """The requested amount, or the largest that every run has reached. Raises ConfigError where a run ends before it."""
    ends = [float(one.amounts[-1]) for one in measured]
    reached, unit = min(ends), requested.unit
    if requested.count is None:
        return reached
    num_short = sum(not _within(np.asarray(requested.count), end) for end in ends)
    if num_short:
        first = measured[int(np.argmin(ends))].run
        who = "no run has" if num_short == len(ends) else f"{num_short} of {counted(len(ends), 'run')} have not"
        raise ConfigError(
            f"{key}={str(requested)!r}: {who} reached that; seed {first.seed} of {first.arm} ended first, at "
            f"{_shown(reached, unit)}",
            f"{key}='{_exact(reached, unit)}', or {key}={unit} for the largest amount that every run has reached",
        )
    least = min(float(one.amounts[0]) for one in measured)
    if not _within(np.asarray(least), requested.count):
        raise ConfigError(
            f"{key}={str(requested)!r}: the first step of every run ends later, at {_shown(least, unit)} at the earliest",
            f"{key}={unit}",
        )
    return float(requested.count)


def _check_evaluated(
    plan: Plan, measured: Sequence[_Measured], requested: Amount, amount: float, last: float, key: str
) -> None:
    metric = find(plan.metric)
    missing = [one.run for one in measured if not one.last_evaluations(last)]
    if metric is None or metric.curve != "eval" or not missing:
        return
    positions = [one for run in measured for one in run.positions()]
    first = max((float(np.min(one[one > 0], initial=np.inf)) for one in positions), default=np.inf)
    raise ConfigError(
        f"{key}={str(requested)!r}: {plan.metric} is read from evaluations, and seed {missing[0].seed} of {missing[0].arm} has "
        f"none between the start and {_shown(amount, requested.unit)}",
        f"{key}='{_exact(first, requested.unit)}'" if np.isfinite(first) else f"{key}={END}",
    )


def _within(values: Values, amount: float) -> NDArray[np.bool_]:
    return np.asarray(values <= amount * (1 + _TOLERANCE))


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def _range(values: Iterable[float]) -> tuple[Any, Any]:
    listed = list(values)
    return min(listed), max(listed)


def _arms(plan: Plan, measured: Sequence[_Measured], amount: float, last: float) -> Iterator[ArmAmount]:
    """What each arm had at the comparison."""
    for arm in plan.arms:
        mine = [one for one in measured if one.run.arm == arm.name]
        ends = [one.steps(amount) - 1 for one in mine]
        evaluated = [end for one in mine for end in one.last_evaluations(last)]
        if mine:
            yield ArmAmount(
                arm=arm.name,
                steps=_range(
                    int(one.trace["step"][end]) if end >= 0 else 0 for one, end in zip(mine, ends, strict=True)
                ),
                samples=_range(
                    int(one.trace["samples"][end]) if end >= 0 else 0 for one, end in zip(mine, ends, strict=True)
                ),
                of_steps=_range(len(one.trace) for one in mine),
                final_eval=_range(evaluated) if evaluated else None,
            )


def _as_ended(plan: Plan, runs: Sequence[RunFiles]) -> Budgets:
    arms = []
    for arm in plan.arms:
        ends = [
            (int(run.trace["step"][-1]), int(run.trace["samples"][-1]))
            for run in runs
            if run.arm == arm.name and run.trace
        ]
        if ends:
            steps, samples = (_range(values) for values in zip(*ends, strict=True))
            arms.append(ArmAmount(arm=arm.name, steps=steps, samples=samples, of_steps=steps))
    if not arms:
        return Budgets(unit=END)
    equal = [unit for unit in ("samples", "steps") if len({getattr(arm, unit) for arm in arms}) == 1]
    if any(
        run.origin and not run.origin.samples_per_step for run in runs
    ):  # samples are not known: steps stand for them
        question = f"as the runs ended: {_each(arms, 'samples')}"
    elif len(equal) == 2:
        question = f"as the runs ended: {_had(arms[0])} in every arm"
    elif equal:
        question = (
            f"as the runs ended, at equal {equal[0]} ({_ranged(getattr(arms[0], equal[0]))}): {_each(arms, equal[0])}"
        )
    else:
        question = f"as the runs ended, at equal neither steps nor samples: {_each(arms)}"
    return Budgets(unit=END, question=question, arms=tuple(arms))


def _question(unit: str, amount: float, arms: Sequence[ArmAmount], last: float, *, shared: bool) -> str:
    exact = unit in ("steps", "samples") and all(getattr(arm, unit) == (amount, amount) for arm in arms)
    text = f"at equal {unit} ({_number(amount, unit)}): {_each(arms, unit if exact else '')}"
    ends = [end for arm in arms if arm.final_eval is not None for end in arm.final_eval]
    if not ends:
        return text
    if not shared:
        return (
            f"{text}; the runs have no evaluation in common there, so each is evaluated at its own last one before, "
            f"{_number(min(ends), unit)} to {_shown(max(ends), unit)}"
        )
    at_end = _number(last, unit) == _number(amount, unit)
    before = "" if at_end else ", the last evaluation before that all runs have in common"
    return f"{text}; evaluated at {_shown(last, unit)}{before}"


def _each(arms: Sequence[ArmAmount], unit: str = "") -> str:
    """`batch_size=64 16 steps, baseline and placebo 128 steps`. unit: the one that all have equally."""
    by_text = _grouped((arm.arm, _had(arm, unit)) for arm in arms)
    if len(by_text) == 1:
        return f"{next(iter(by_text))} in every arm"
    return ", ".join(f"{joined(names)} {had}" for had, names in by_text.items())


def _grouped(texts: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """{text: names that have it} of (name, text)."""
    by_text: dict[str, list[str]] = {}
    for name, text in texts:
        by_text.setdefault(text, []).append(name)
    return by_text


def _had(arm: ArmAmount, unit: str = "") -> str:
    return " and ".join(f"{_ranged(getattr(arm, name))} {name}" for name in ("steps", "samples") if name != unit)


def _ranged(ends: tuple[int, int]) -> str:
    least, most = ends
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit in ("steps", "samples", "tokens") else f"{value:.4g}"


def _shown(value: float, unit: str) -> str:
    return f"{_number(value, unit)} {unit}"


def _exact(value: float, unit: str) -> str:
    """An amount as an override can state it: never more than what was reached."""
    if unit in ("steps", "samples", "tokens"):
        return f"{value:.0f} {unit}"
    return f"{np.floor(value * 1e4) / 1e4:g} {unit}"


def _schedules(plan: Plan, measured: Sequence[_Measured], amount: float) -> Iterator[str]:
    """Arms whose learning-rate schedule was not over."""
    texts = []
    for arm in plan.arms:
        mine = [one for one in measured if one.run.arm == arm.name]
        if mine:
            steps = [int(one.trace["step"][end - 1]) if (end := one.steps(amount)) else 0 for one in mine]
            earliest = int(np.argmin(steps))
            texts.append((arm.name, _schedule(mine[earliest], steps[earliest], _ranged(_range(steps)))))
    for text, names in _grouped(texts).items():
        if text:
            yield f"{joined(names)}: {text}"


def _schedule(one: _Measured, steps: int, read: str) -> str:
    """one: the run of an arm that is cut off the earliest. read: at how many steps the arm's runs are read, in words."""
    rates, total = one.trace["learning_rate"], len(one.trace)
    where = f"read at {read} of {total:,} steps"
    if steps == total:
        return ""
    if not np.all(np.isfinite(rates)):
        return f"{where}; the learning rate was not recorded, so that a schedule may not have been over"
    left = rates[max(steps - 1, 0) :]
    if np.allclose(left, rates[-1], rtol=1e-9, atol=0):
        return ""
    item = one.run.fingerprint.items.get("schedule") if one.run.fingerprint else None
    shape = item.get("shape") if isinstance(item, dict) else None
    kind = f"a {shape} schedule" if isinstance(shape, str) and shape else "a schedule"
    now, end = (plain_percent(float(value) / float(np.max(rates))) for value in (left[0], left[-1]))
    return (
        f"{where} of {kind}, with the rate at {now} of its peak, which ends at {end}: a run that is cut off is not a run with "
        "that budget, whose rate would have decayed by then"
    )


def _clock(unit: str, runs: Sequence[RunFiles]) -> Iterator[str]:
    if unit != "seconds":
        return
    devices = dict.fromkeys(run.manifest.device for run in runs if run.manifest and run.manifest.device)
    where = f", on {joined(devices)}" if devices else ""
    yield (
        f"seconds are those of training, without evaluation{where}; other work on the machine slows runs down, so that another "
        "day gives other results"
    )
    if len(devices) > 1:
        yield "the runs used different devices, so that equal seconds are not equal work"


def _with_plan(budgets: Budgets, plan: Plan) -> Budgets:
    if not budgets.reread:
        return budgets
    if plan.compare_at in ("", END):
        planned = "as the runs ended"
    else:
        equal = "equal " if plan.compare_at in ("steps", "samples", "tokens", "epochs", "seconds") else ""
        planned = f"at {equal}{plan.compare_at}"
    caution = f"the study was planned to be compared {planned}; this comparison was chosen later"
    return replace(budgets, cautions=(f"re-read: {caution}", *budgets.cautions))

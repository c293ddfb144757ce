"""Compare runs at an equal amount of training: steps, samples, tokens, epochs or seconds.

A batch of 64 takes eight times the samples of a batch of 8 in as many steps, and an eighth of its steps over as many samples;
which of the two is better can depend on what is held equal (Shallue et al. 2019). Nothing is interpolated: a run is read up to
its last step, and its curves up to the last evaluation, within the amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
Key = tuple[str, int]
"""(arm, seed)"""

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
    recorded = [run for run in runs if run.finished and run.trace is not None and len(run.trace)]
    if requested.unit == END or not recorded:
        common = common_evaluations(runs)
        budgets = replace(_as_ended(plan, recorded), reread=reread)
        return ReadAt(runs, [common] * len(runs), _with_plan(budgets, plan))
    if any(plan.metric in (run.returned or {}) for run in runs):
        raise ConfigError(
            f"{key}={str(requested)!r}: {plan.metric} is a value that the app returned at its end, and has no earlier value",
            f"{key}={END}",
        )
    amounts = {_key(run): _amounts(run, requested, key) for run in recorded}
    amount = _common_amount(recorded, amounts, requested, key)
    evaluations = _Evaluations(recorded, amounts, amount)
    _check_evaluated(plan, evaluations, requested, amount, key)
    cut = [_cut(run, amounts[_key(run)], amount, evaluations) if _key(run) in amounts else run for run in runs]
    nothing = np.empty(0, dtype=np.int64)
    common_samples = [evaluations.common_samples(run) if _key(run) in amounts else nothing for run in runs]
    arms = tuple(_arms(plan, recorded, cut, evaluations))
    budgets = Budgets(
        unit=requested.unit,
        amount=amount,
        reread=reread,
        question=_question(requested.unit, amount, arms, evaluations),
        cautions=(*_schedules(plan, recorded, cut), *_clock(requested.unit, recorded)),
        arms=arms,
    )
    return ReadAt(cut, common_samples, _with_plan(budgets, plan))


def _key(run: RunFiles) -> Key:
    return run.arm, run.seed


def _cut(run: RunFiles, amounts: Values, amount: float, evaluations: _Evaluations) -> RunFiles:
    assert run.trace is not None
    curves = {metric: evaluations.cut(run, curve) for metric, curve in (run.curves or {}).items()}
    trace = Trace(run.trace.table.slice(0, int(np.sum(_within(amounts, amount)))))
    return replace(run, trace=trace, curves=curves, returned=None)


def _amounts(run: RunFiles, requested: Amount, key: str) -> Values:
    """Amount of the unit after each step [steps]. Raises ConfigError where the run has not recorded it."""
    assert run.trace is not None
    trace = run.trace
    columns = {"steps": "step", "samples": "samples", "tokens": "tokens", "epochs": "epoch"}
    values = np.cumsum(trace["step_seconds"]) if requested.unit == "seconds" else trace[columns[requested.unit]]
    if not np.all(np.isfinite(values)) or not values[-1] > 0:
        raise ConfigError(
            f"{key}={str(requested)!r}: seed {run.seed} of {run.arm} has recorded no {requested.unit}", f"{key}=samples"
        )
    return np.asarray(values, dtype=np.float64)


def _common_amount(runs: Sequence[RunFiles], amounts: Mapping[Key, Values], requested: Amount, key: str) -> float:
    """The requested amount, or the largest that every run has reached. Raises ConfigError where a run ends before it."""
    ends = [float(amounts[_key(run)][-1]) for run in runs]
    reached = min(ends)
    if requested.count is None:
        return reached
    num_short = sum(not _within(np.asarray(requested.count), end) for end in ends)
    if num_short:
        first = runs[int(np.argmin(ends))]
        who = "no run has" if num_short == len(runs) else f"{num_short} of {counted(len(runs), 'run')} have not"
        raise ConfigError(
            f"{key}={str(requested)!r}: {who} reached that; seed {first.seed} of {first.arm} ended first, at "
            f"{_shown(reached, requested.unit)}",
            f"{key}='{_exact(reached, requested.unit)}', or {key}={requested.unit} for the largest amount that every run has "
            "reached",
        )
    least = min(float(values[0]) for values in amounts.values())
    if not _within(np.asarray(least), requested.count):
        raise ConfigError(
            f"{key}={str(requested)!r}: the first step of every run ends later, at {_shown(least, requested.unit)} at the "
            "earliest",
            f"{key}={requested.unit}",
        )
    return float(requested.count)


class _Evaluations:
    """The evaluations of all runs, each by its amount of the unit: 0 is before training.

    common: amounts at which all runs were evaluated. last: up to where curves are read.
    """

    def __init__(self, runs: Sequence[RunFiles], amounts: Mapping[Key, Values], amount: float) -> None:
        self.runs, self._amounts = runs, amounts
        within = [
            {_rounded(value) for value in positions[_within(positions, amount)].tolist()}
            for run in runs
            for positions in self._positions(run)
        ]
        self.common = set.intersection(*within) if within else set()
        self.shared = max(self.common, default=0.0) > 0
        self.last = max(self.common) if self.shared else amount

    def _positions(self, run: RunFiles) -> list[Values]:
        """Of every curve of a run."""
        return [self._at(run, curve) for curve in (run.curves or {}).values()]

    def _at(self, run: RunFiles, curve: EvalCurve) -> Values:
        assert run.trace is not None
        amounts = np.concatenate([[0.0], self._amounts[_key(run)]])
        return np.asarray(amounts[np.searchsorted(run.trace["step"], curve.step, side="right")])

    def cut(self, run: RunFiles, curve: EvalCurve) -> EvalCurve:
        return curve.at(np.flatnonzero(_within(self._at(run, curve), self.last)))

    def common_samples(self, run: RunFiles) -> NDArray[np.int64]:
        curve = next(iter((run.curves or {}).values()), None)
        if curve is None:
            return np.empty(0, dtype=np.int64)
        shared = [_rounded(value) in self.common for value in self._at(run, curve).tolist()]
        return np.unique(curve.samples[np.asarray(shared, dtype=bool)])

    def ends(self, run: RunFiles) -> list[float]:
        """Amount at the last evaluation that is read, by curve; empty without one after training began."""
        read = (positions[_within(positions, self.last)] for positions in self._positions(run))
        return [float(positions[-1]) for positions in read if len(positions) and positions[-1] > 0]

    def first(self) -> float:
        """The least amount at which every run has been evaluated after training began; inf where there is none."""
        positions = [one for run in self.runs for one in self._positions(run)]
        return max((float(np.min(one[one > 0], initial=np.inf)) for one in positions), default=np.inf)


def _check_evaluated(plan: Plan, evaluations: _Evaluations, requested: Amount, amount: float, key: str) -> None:
    metric = find(plan.metric)
    missing = [run for run in evaluations.runs if not evaluations.ends(run)]
    if metric is None or metric.curve != "eval" or not missing:
        return
    first = evaluations.first()
    raise ConfigError(
        f"{key}={str(requested)!r}: {plan.metric} is read from evaluations, and seed {missing[0].seed} of {missing[0].arm} has "
        f"none between the start and {_shown(amount, requested.unit)}",
        f"{key}='{_exact(first, requested.unit)}'" if np.isfinite(first) else f"{key}={END}",
    )


def _within(values: Values, amount: float) -> NDArray[np.bool_]:
    return np.asarray(values <= amount * (1 + _TOLERANCE))


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def _end(run: RunFiles) -> tuple[int, int]:
    """(steps, samples) at the last step that is read."""
    trace = run.trace
    return (int(trace["step"][-1]), int(trace["samples"][-1])) if trace is not None and len(trace) else (0, 0)


def _range(values: Iterable[int]) -> tuple[int, int]:
    listed = list(values)
    return min(listed), max(listed)


def _arms(
    plan: Plan, whole: Sequence[RunFiles], read: Sequence[RunFiles], evaluations: _Evaluations | None = None
) -> Iterator[ArmAmount]:
    """What each arm had at the comparison. evaluations: None where the runs are compared as they ended."""
    by_key = {_key(run): run for run in read}
    for arm in plan.arms:
        runs = [run for run in whole if run.arm == arm.name]
        if not runs:
            continue
        ends = [_end(by_key[_key(run)]) for run in runs]
        last = [end for run in runs for end in evaluations.ends(run)] if evaluations else []
        yield ArmAmount(
            arm=arm.name,
            steps=_range(steps for steps, _ in ends),
            samples=_range(samples for _, samples in ends),
            of_steps=_range(len(run.trace) if evaluations and run.trace is not None else _end(run)[0] for run in runs),
            final_eval=(min(last), max(last)) if last else None,
        )


def _as_ended(plan: Plan, runs: Sequence[RunFiles]) -> Budgets:
    arms = tuple(_arms(plan, runs, runs))
    if not arms:
        return Budgets(unit=END)
    equal = [unit for unit in ("samples", "steps") if len({getattr(arm, unit) for arm in arms}) == 1]
    if len(equal) == 2:
        question = f"as the runs ended: {_had(arms[0])} in every arm"
    elif equal:
        question = (
            f"as the runs ended, at equal {equal[0]} ({_ranged(getattr(arms[0], equal[0]))}): {_each(arms, equal[0])}"
        )
    else:
        question = f"as the runs ended, at equal neither steps nor samples: {_each(arms)}"
    return Budgets(unit=END, question=question, arms=arms)


def _question(unit: str, amount: float, arms: Sequence[ArmAmount], evaluations: _Evaluations) -> str:
    exact = unit in ("steps", "samples") and all(getattr(arm, unit) == (amount, amount) for arm in arms)
    text = f"at equal {unit} ({_number(amount, unit)}): {_each(arms, unit if exact else '')}"
    ends = [end for arm in arms if arm.final_eval is not None for end in arm.final_eval]
    if not ends:
        return text
    if not evaluations.shared:
        return (
            f"{text}; the runs have no evaluation in common there, so each is evaluated at its own last one before, "
            f"{_number(min(ends), unit)} to {_shown(max(ends), unit)}"
        )
    at_end = _number(evaluations.last, unit) == _number(amount, unit)
    last = "" if at_end else ", the last evaluation before that all runs have in common"
    return f"{text}; evaluated at {_shown(evaluations.last, unit)}{last}"


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


def _schedules(plan: Plan, whole: Sequence[RunFiles], read: Sequence[RunFiles]) -> Iterator[str]:
    """Arms whose learning-rate schedule was not over."""
    by_key = {_key(run): run for run in read}
    texts = []
    for arm in plan.arms:
        runs = [run for run in whole if run.arm == arm.name]
        steps = [_end(by_key[_key(run)])[0] for run in runs]
        if runs:
            earliest = int(np.argmin(steps))
            texts.append((arm.name, _schedule(runs[earliest], steps[earliest], _ranged((min(steps), max(steps))))))
    for text, names in _grouped(texts).items():
        if text:
            yield f"{joined(names)}: {text}"


def _schedule(run: RunFiles, steps: int, read: str) -> str:
    """run: the one of an arm that is cut off the earliest. read: at how many steps the arm's runs are read, in words."""
    assert run.trace is not None
    rates, total = run.trace["learning_rate"], len(run.trace)
    where = f"read at {read} of {total:,} steps"
    if steps == total:
        return ""
    if not np.all(np.isfinite(rates)):
        return f"{where}; the learning rate was not recorded, so that a schedule may not have been over"
    rate = rates[max(steps - 1, 0)]
    if np.allclose(rates[max(steps - 1, 0) :], rates[-1], rtol=1e-9, atol=0):
        return ""
    item = run.fingerprint.items.get("schedule") if run.fingerprint else None
    shape = item.get("shape") if isinstance(item, dict) else None
    kind = f"a {shape} schedule" if isinstance(shape, str) and shape else "a schedule"
    now, end = (plain_percent(float(value) / float(np.max(rates))) for value in (rate, rates[-1]))
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

"""Runs read up to an equal amount of training: steps, samples, tokens, epochs or seconds. Each asks another question.

A batch of 64 sees eight times the samples of a batch of 8 in as many steps, and takes an eighth of its steps over as many
samples; which of the two is better can turn round with what is held equal (Shallue et al. 2019). Nothing is interpolated: a run
is read up to its last step, and its curves up to the last look, that lie within the amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.load import RunFiles, common_looks
from ablate.analysis.results import ArmAmount, Budgets
from ablate.design.plan import Plan
from ablate.errors import ConfigError
from ablate.formatting import counted, joined, plain_percent
from ablate.metrics.registry import find
from ablate.records.reader import EvalCurve, Trace
from ablate.units import END, Amount, parse_amount

Values = NDArray[np.float64]

_NEAR = 1e-9
"""Relative: epochs and seconds are sums of fractions."""


@dataclass(frozen=True, slots=True)
class ReadAt:
    """runs: as they are read. common: of each of them, the samples at the looks that all runs have in common."""

    runs: list[RunFiles]
    common: list[NDArray[np.int64]]
    budgets: Budgets


def read_at(plan: Plan, runs: list[RunFiles], at: str | None = None) -> ReadAt:
    """The runs as the plan compares them, or as `at` asks in the reading.

    Raises IntervalError for what is no amount, ConfigError for one that the record does not hold or that a run did not reach.
    """
    key = "study.compare_at" if at is None else "--compare-at"
    asked = parse_amount((plan.compare_at or END) if at is None else at, key=key)
    reread = at is not None and asked != parse_amount(plan.compare_at or END, key="study.compare_at")
    cut = [run for run in runs if run.finished and run.trace is not None and len(run.trace)]
    if asked.unit == END or not cut:
        common = common_looks(runs)
        budgets = replace(_as_ended(plan, cut), reread=reread)
        return ReadAt(runs, [common] * len(runs), _with_plan(budgets, plan))
    if any(plan.metric in (run.returned or {}) for run in runs):
        raise ConfigError(
            f"{key}={str(asked)!r}: {plan.metric} is what the app returned when it was over, and has no value before",
            f"{key}={END}",
        )
    return _cut(plan, runs, cut, asked, key, reread)


def _cut(plan: Plan, runs: list[RunFiles], cut: list[RunFiles], asked: Amount, key: str, reread: bool) -> ReadAt:
    amounts = {id(run): _amounts(run, asked, key) for run in cut}
    amount = _amount(cut, amounts, asked, key)
    looks = _Looks(cut, amounts, amount)
    _check_looked_at(plan, looks, asked, amount, key)
    read: list[RunFiles] = []
    common: list[NDArray[np.int64]] = []
    for run in runs:
        if id(run) not in amounts:
            read.append(run)
            common.append(np.empty(0, dtype=np.int64))
            continue
        assert run.trace is not None
        steps = int(np.sum(_within(amounts[id(run)], amount)))
        curves = {metric: looks.cut(run, curve) for metric, curve in (run.curves or {}).items()}
        read.append(replace(run, trace=Trace(run.trace.table.slice(0, steps)), curves=curves, returned=None))
        common.append(looks.common_samples(run))
    arms = tuple(_arms(plan, cut, read, looks))
    budgets = Budgets(
        unit=asked.unit,
        amount=amount,
        reread=reread,
        question=_question(asked.unit, amount, arms, looks),
        cautions=(*_schedules(plan, cut, read), *_clock(asked.unit, cut)),
        arms=arms,
    )
    return ReadAt(read, common, _with_plan(budgets, plan))


def _amounts(run: RunFiles, asked: Amount, key: str) -> Values:
    """Of the unit, after each step [steps]. Raises ConfigError where the run has not recorded it."""
    assert run.trace is not None
    trace = run.trace
    columns = {"steps": "step", "samples": "samples", "tokens": "tokens", "epochs": "epoch"}
    values = np.cumsum(trace["step_seconds"]) if asked.unit == "seconds" else trace[columns[asked.unit]]
    if not np.all(np.isfinite(values)) or not values[-1] > 0:
        raise ConfigError(
            f"{key}={str(asked)!r}: seed {run.seed} of {run.arm} has recorded no {asked.unit}", f"{key}=samples"
        )
    return np.asarray(values, dtype=np.float64)


def _amount(cut: Sequence[RunFiles], amounts: dict[int, Values], asked: Amount, key: str) -> float:
    """The largest that every run has reached, or the one that is asked for. Raises ConfigError where a run ends before it."""
    ends = [float(amounts[id(run)][-1]) for run in cut]
    reached = min(ends)
    if asked.count is None:
        return reached
    short = [run for run, end in zip(cut, ends, strict=True) if not _within(np.asarray(asked.count), end)]
    if short:
        first = cut[int(np.argmin(ends))]
        most = _shown(reached, asked.unit)
        who = "no run has" if len(short) == len(cut) else f"{len(short)} of {counted(len(cut), 'run')} have not"
        raise ConfigError(
            f"{key}={str(asked)!r}: {who} reached that; seed {first.seed} of {first.arm} ended first, at {most}",
            f"{key}='{_exact(reached, asked.unit)}', or {key}={asked.unit} for the largest amount that every run has reached",
        )
    if all(not np.any(_within(amounts[id(run)], asked.count)) for run in cut):
        least = min(float(amounts[id(run)][0]) for run in cut)
        raise ConfigError(
            f"{key}={str(asked)!r}: the first step of every run ends later, at {_shown(least, asked.unit)} at the earliest",
            f"{key}={asked.unit}",
        )
    return float(asked.count)


class _Looks:
    """The evaluations of all runs, each by its amount of the unit: 0 is before training."""

    def __init__(self, cut: Sequence[RunFiles], amounts: dict[int, Values], amount: float) -> None:
        self.runs, self._amounts = cut, amounts
        within = [
            {_key(value) for value in at[_within(at, amount)].tolist()}
            for at in (self._at(run, curve) for run in cut for curve in (run.curves or {}).values())
        ]
        self.common = set.intersection(*within) if within else set()
        self.shared = bool(within) and max(self.common, default=0.0) > 0
        self.last = max(self.common, default=0.0) if self.shared else amount

    def _at(self, run: RunFiles, curve: EvalCurve) -> Values:
        assert run.trace is not None
        amounts = np.concatenate([[0.0], self._amounts[id(run)]])
        return np.asarray(amounts[np.searchsorted(run.trace["step"], curve.step, side="right")])

    def cut(self, run: RunFiles, curve: EvalCurve) -> EvalCurve:
        return curve.at(np.flatnonzero(_within(self._at(run, curve), self.last)))

    def common_samples(self, run: RunFiles) -> NDArray[np.int64]:
        curve = next(iter((run.curves or {}).values()), None)
        if curve is None:
            return np.empty(0, dtype=np.int64)
        kept = [_key(value) in self.common for value in self._at(run, curve).tolist()]
        return np.unique(curve.samples[np.asarray(kept, dtype=bool)])

    def ends(self, run: RunFiles) -> list[float]:
        """Amount at the last look that is read, curve by curve; nothing where none is left after training began."""
        found = (self._at(run, curve) for curve in (run.curves or {}).values())
        return [float(at[-1]) for at in (at[_within(at, self.last)] for at in found) if len(at) and at[-1] > 0]

    def first(self) -> float:
        """The least amount at which every run has been looked at after training began; inf where there is none."""
        firsts = [
            min((value for value in self._at(run, curve).tolist() if value > 0), default=np.inf)
            for run in self.runs
            for curve in (run.curves or {}).values()
        ]
        return max(firsts, default=np.inf)


def _check_looked_at(plan: Plan, looks: _Looks, asked: Amount, amount: float, key: str) -> None:
    outcome = find(plan.metric)
    unseen = [run for run in looks.runs if not looks.ends(run)]
    if outcome is None or outcome.curve != "eval" or not unseen:
        return
    first = looks.first()
    raise ConfigError(
        f"{key}={str(asked)!r}: {plan.metric} is read from evaluations, and seed {unseen[0].seed} of {unseen[0].arm} has none "
        f"between the start and {_shown(amount, asked.unit)}",
        f"{key}='{_exact(first, asked.unit)}'" if np.isfinite(first) else f"{key}={END}",
    )


def _within(values: Values, amount: float) -> NDArray[np.bool_]:
    return np.asarray(values <= amount * (1 + _NEAR))


def _key(value: float) -> float:
    return float(f"{value:.9g}")


def _arms(plan: Plan, whole: Sequence[RunFiles], read: Sequence[RunFiles], looks: _Looks) -> Iterator[ArmAmount]:
    by_run = {(run.arm, run.seed): run for run in read}
    for arm in plan.arms:
        mine = [run for run in whole if run.arm == arm.name]
        if not mine:
            continue
        ends = [_end(by_run[run.arm, run.seed]) for run in mine]
        at = [value for run in mine for value in looks.ends(run)]
        yield ArmAmount(
            arm=arm.name,
            steps=_range(steps for steps, _ in ends),
            samples=_range(samples for _, samples in ends),
            of_steps=_range(len(run.trace) for run in mine if run.trace is not None),
            look=(min(at), max(at)) if at else None,
        )


def _end(run: RunFiles) -> tuple[int, int]:
    trace = run.trace
    return (int(trace["step"][-1]), int(trace["samples"][-1])) if trace is not None and len(trace) else (0, 0)


def _range(values: Iterable[int]) -> tuple[int, int]:
    listed = list(values)
    return min(listed), max(listed)


def _as_ended(plan: Plan, cut: Sequence[RunFiles]) -> Budgets:
    arms = []
    for arm in plan.arms:
        ends = [_end(run) for run in cut if run.arm == arm.name]
        if ends:
            steps, samples = _range(steps for steps, _ in ends), _range(samples for _, samples in ends)
            arms.append(ArmAmount(arm=arm.name, steps=steps, samples=samples, of_steps=steps))
    if not arms:
        return Budgets(unit=END)
    same_steps, same_samples = (len({getattr(arm, name) for arm in arms}) == 1 for name in ("steps", "samples"))
    if same_steps and same_samples:
        question = f"as the runs ended: {_had(arms[0])} in every arm"
    elif same_samples or same_steps:
        unit = "samples" if same_samples else "steps"
        question = f"as the runs ended, at equal {unit} ({_ranged(getattr(arms[0], unit))}): {_each(arms, unit)}"
    else:
        question = f"as the runs ended, at equal neither steps nor samples: {_each(arms)}"
    return Budgets(unit=END, question=question, arms=tuple(arms))


def _question(unit: str, amount: float, arms: Sequence[ArmAmount], looks: _Looks) -> str:
    text = f"at equal {unit} ({_number(amount, unit)})"
    hits = unit in ("steps", "samples") and all(getattr(arm, unit) == (amount, amount) for arm in arms)
    text += f": {_each(arms, unit if hits else '')}"
    ends = [end for arm in arms if arm.look is not None for end in arm.look]
    if not ends:
        return text
    if not looks.shared:
        least, most = min(ends), max(ends)
        return (
            f"{text}; the runs have no look in common there, so each is evaluated at its own last look before, "
            f"{_number(least, unit)} to {_shown(most, unit)}"
        )
    at = _shown(looks.last, unit)
    return f"{text}; evaluated at {at}" + (
        ""
        if _number(looks.last, unit) == _number(amount, unit)
        else ", the last look before that all runs have in common"
    )


def _each(arms: Sequence[ArmAmount], unit: str = "") -> str:
    """What each arm had had: `batch_size=64 16 steps, baseline and placebo 128 steps`. unit: the one that all have equally."""
    alike: dict[str, list[str]] = {}
    for arm in arms:
        alike.setdefault(_had(arm, unit), []).append(arm.arm)
    if len(alike) == 1:
        return f"{next(iter(alike))} in every arm"
    return ", ".join(f"{joined(names)} {had}" for had, names in alike.items())


def _had(arm: ArmAmount, unit: str = "") -> str:
    parts = [f"{_ranged(getattr(arm, name))} {name}" for name in ("steps", "samples") if name != unit]
    return " and ".join(parts)


def _ranged(ends: tuple[int, int]) -> str:
    least, most = ends
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit in ("steps", "samples", "tokens") else f"{value:.4g}"


def _shown(value: float, unit: str) -> str:
    return f"{_number(value, unit)} {unit}"


def _exact(value: float, unit: str) -> str:
    """An amount that may be typed: never more than what was reached."""
    if unit in ("steps", "samples", "tokens"):
        return f"{value:.0f} {unit}"
    return f"{np.floor(value * 1e4) / 1e4:g} {unit}"


def _schedules(plan: Plan, whole: Sequence[RunFiles], read: Sequence[RunFiles]) -> Iterator[str]:
    """Where a schedule was not over: the rate that the record has there, and at the end."""
    by_run = {(run.arm, run.seed): run for run in read}
    alike: dict[str, list[str]] = {}
    for arm in plan.arms:
        mine = [run for run in whole if run.arm == arm.name]
        if not mine:
            continue
        steps = [_end(by_run[run.arm, run.seed])[0] for run in mine]
        least = int(np.argmin(steps))
        if said := _schedule(mine[least], steps[least], _ranged((min(steps), max(steps)))):
            alike.setdefault(said, []).append(arm.name)
    for said, names in alike.items():
        yield f"{joined(names)}: {said}"


def _schedule(run: RunFiles, steps: int, read: str) -> str:
    """Of the run of an arm that is cut off the earliest. read: at how many steps the arm's runs are, in words."""
    assert run.trace is not None
    rates, of = run.trace["learning_rate"], len(run.trace)
    where = f"read at {read} of {of:,} steps"
    if steps == of:
        return ""
    if not np.all(np.isfinite(rates)):
        return f"{where}; the learning rate was not recorded, so that a schedule may not have been over"
    if np.allclose(rates[max(steps - 1, 0) :], rates[-1], rtol=1e-9, atol=0):
        return ""
    item = run.fingerprint.items.get("schedule") if run.fingerprint else None
    shape = item.get("shape") if isinstance(item, dict) else None
    peak = float(np.max(rates))
    now, end = (plain_percent(float(rate) / peak) for rate in (rates[max(steps - 1, 0)], rates[-1]))
    kind = f"a {shape} schedule" if isinstance(shape, str) and shape else "a schedule"
    return (
        f"{where} of {kind}, with the rate at {now} of its peak, which ends at {end}: a run that is cut off is no run of "
        "that budget, whose rate would have fallen by then"
    )


def _clock(unit: str, cut: Sequence[RunFiles]) -> Iterator[str]:
    if unit != "seconds":
        return
    devices = dict.fromkeys(run.manifest.device for run in cut if run.manifest and run.manifest.device)
    where = f", on {joined(devices)}" if devices else ""
    yield (
        f"seconds are those of training, evaluation left out{where}; whatever else ran on the machine counts as well, so that "
        "another day gives other figures"
    )
    if len(devices) > 1:
        yield "the runs were made on unlike devices, so that equal seconds are not equal work"


def _with_plan(budgets: Budgets, plan: Plan) -> Budgets:
    if not budgets.reread:
        return budgets
    own = (
        f"at equal {plan.compare_at}" if plan.compare_at in ("steps", "samples", "tokens", "epochs", "seconds") else ""
    )
    own = own or (f"at {plan.compare_at}" if plan.compare_at not in ("", END) else "as the runs ended")
    return replace(
        budgets,
        cautions=(f"re-read: the study was planned to be compared {own}; this was asked later", *budgets.cautions),
    )

"""Was the mediator moved by the treatment, and held by the intervention? From the record, not from the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.mediated import Seen
from ablate.analysis.readings import RunFiles
from ablate.analysis.values import RunReading
from ablate.analysis.words import figure, percent
from ablate.design.axis import show
from ablate.design.mediation import BASELINE, MEDIATORS, Held, Mediation

ByArm = Mapping[str, Mapping[int, float]]

CLIPPED = 0.9
"""Share of the steps that have to be clipped, in both arms, before their applied gradients count as equally large."""

_RUN_WIDE = {"grad_norm_median": "median grad norm", "grad_norm_spread": "grad norm spread"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """held: whether the record bears out that the mediator was held. sentence: what it says, with figures."""

    held: bool
    sentence: str
    seen: tuple[Seen, ...]


def holding(asked: Mediation, one: Held, readings: Sequence[RunReading], runs: Sequence[RunFiles]) -> Holding:
    """Of one pair of arms."""
    return _clip(asked, one, readings) if one.mediator == "clip_norm" else _noise(asked, one, readings, runs)


def _clip(asked: Mediation, one: Held, readings: Sequence[RunReading]) -> Holding:
    """Where nearly every step is clipped, the applied norm is the limit, whatever the treatment."""
    clipped = _outcome(readings, "clipped_share")
    seen = _seen("clipped share", clipped, asked, one)
    if seen.first is None or seen.second is None:
        return Holding(held=False, sentence="no record says how many steps were clipped.", seen=(seen,))
    each = [
        f"{percent(value)} of the steps of {arm}" for arm, value in ((one.first, seen.first), (one.second, seen.second))
    ]
    shares = f"{' and '.join(each)} were clipped"
    if min(seen.first, seen.second) < CLIPPED:
        sentence = f"{shares}, so that the applied gradients still differ in size; a smaller clip_norm clips them all."
        return Holding(held=False, sentence=sentence, seen=(seen,))
    return Holding(held=True, sentence=f"Held: {shares}.", seen=(seen,))


def _noise(asked: Mediation, one: Held, readings: Sequence[RunReading], runs: Sequence[RunFiles]) -> Holding:
    """Drawn in every run as declared, to another end than without, and seen in the gradient's norm at equal weights."""
    first_step = _first_steps(runs)
    seen = [_seen("grad norm at the first step", first_step, asked, one)]
    seen += [_seen(words, _outcome(readings, name), asked, one) for name, words in _RUN_WIDE.items()]
    seen = [each for each in seen if None not in (each.baseline, each.treated, each.first, each.second)]
    if problem := _not_applied(asked, one, runs):
        return Holding(held=False, sentence=problem, seen=tuple(seen))
    moved, left = (_log_ratio(first_step, *pair) for pair in ((BASELINE, asked.treated), (one.first, one.second)))
    if moved is None or left is None or not seen:
        return Holding(held=True, sentence="Drawn as declared in every run; no norm was measured.", seen=tuple(seen))
    figures = (
        f"at the first step, at equal weights, the grad norm is {_figures(seen[0].baseline, seen[0].treated)} as they are and "
        f"{_figures(seen[0].first, seen[0].second)} with the noise held"
    )
    if left.told and abs(left.mean) > abs(moved.mean) / 2:
        sentence = f"{figures}: the gap is not closed, so the noise is not what it should be."
        return Holding(held=False, sentence=sentence, seen=tuple(seen))
    if not moved.told:
        sentence = f"Drawn as declared; {figures}: in so few first steps the treatment is not seen to move it."
        return Holding(held=True, sentence=sentence, seen=tuple(seen))
    return Holding(held=True, sentence=f"Held: {figures}.", seen=tuple(seen))


def _not_applied(asked: Mediation, one: Held, runs: Sequence[RunFiles]) -> str:
    """Why the noise cannot have been what the arms declare; '' where nothing speaks against it."""
    by_arm = {name: [run for run in runs if run.arm == name and run.finished] for name in (one.first, one.second)}
    setting = MEDIATORS[one.mediator]
    for name, mine in by_arm.items():
        wanted = asked.arms.get(name, {}).get(setting)
        if wanted is None:
            continue
        for run in mine:
            items = run.fingerprint.items if run.fingerprint else {}
            of = items.get("grad_noise", {}).get("of")
            if of != wanted:
                what = "draws nothing" if of is None else f"draws {show(of)} samples of each step"
                return f"the run {name}, seed {run.seed} {what}, where {show(wanted)} were declared."
    plain = BASELINE if one.first != BASELINE else asked.treated
    noisy = one.first if one.first != BASELINE else one.second
    weights = {(run.arm, run.seed): run.weights for run in runs if run.finished and run.weights}
    pairs = [
        (weights[noisy, seed], weights[plain, seed])
        for arm, seed in weights
        if arm == noisy and (plain, seed) in weights
    ]
    if pairs and all(left == right for left, right in pairs):
        return f"{noisy} ends with the very weights of {plain}, bit for bit: the noise changed no update."
    return ""


@dataclass(frozen=True, slots=True)
class _LogRatio:
    mean: float
    told: bool


def _log_ratio(values: ByArm, first: str, second: str) -> _LogRatio | None:
    """Mean over seeds of log(second / first), and whether a paired t test tells it from 0."""
    left, right = values.get(first, {}), values.get(second, {})
    logs: NDArray[np.float64] = np.asarray(
        [np.log(right[seed] / left[seed]) for seed in left.keys() & right.keys() if left[seed] > 0 and right[seed] > 0]
    )
    if len(logs) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(logs) - 1) * np.std(logs, ddof=1) / len(logs) ** 0.5)
    mean = float(np.mean(logs))
    return _LogRatio(mean, abs(mean) > half)


def _first_steps(runs: Sequence[RunFiles]) -> ByArm:
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        norm = (run.fingerprint.items if run.fingerprint else {}).get("first_step", {}).get("grad_norm")
        if run.finished and isinstance(norm, int | float) and np.isfinite(norm):
            found.setdefault(run.arm, {})[run.seed] = float(norm)
    return found


def _outcome(readings: Sequence[RunReading], name: str) -> ByArm:
    found: dict[str, dict[int, float]] = {}
    for run in readings:
        value = run.values.get(name)
        if value is not None and np.isfinite(value):
            found.setdefault(run.arm, {})[run.seed] = value
    return found


def _seen(what: str, values: ByArm, asked: Mediation, one: Held) -> Seen:
    def mean(arm: str) -> float | None:
        return float(np.mean(list(values[arm].values()))) if values.get(arm) else None

    return Seen(
        what=what, baseline=mean(BASELINE), treated=mean(asked.treated), first=mean(one.first), second=mean(one.second)
    )


def _figures(before: float | None, after: float | None) -> str:
    return f"{figure(before or 0)} -> {figure(after or 0)}"

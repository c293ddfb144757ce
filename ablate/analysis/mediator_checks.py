"""Check from the record, not from the config, that the treatment moved the mediator and that the intervention held it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.complete_seeds import by_arm
from ablate.analysis.design_results import MediatorMeasure
from ablate.analysis.results import RunReading
from ablate.config.schema import BASELINE
from ablate.design.axis import show
from ablate.design.mediation import MEDIATORS, Held, Mediation
from ablate.formatting import plain_figure, plain_percent
from ablate.records.run_files import RunFiles

ByArm = Mapping[str, Mapping[int, float]]

CLIPPED = 0.9
"""Share of the steps that have to be clipped, in both arms, before their applied gradients count as equally large."""

_RUN_WIDE = {"grad_norm_median": "median grad norm", "grad_norm_p95_p5": "grad norm spread"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MediatorCheck:
    """held: whether the record confirms that the mediator was held. sentence: the evidence, with figures."""

    held: bool
    sentence: str
    measures: tuple[MediatorMeasure, ...]


def check_mediator(
    design: Mediation, one: Held, readings: Sequence[RunReading], runs: Sequence[RunFiles]
) -> MediatorCheck:
    """Check one pair of arms."""
    return _clip(design, one, readings) if one.mediator == "max_grad_norm" else _noise(design, one, readings, runs)


def _clip(design: Mediation, one: Held, readings: Sequence[RunReading]) -> MediatorCheck:
    """Where nearly every step is clipped, the applied norm is the limit, whatever the treatment."""
    clipped = by_arm(readings, "clip_fraction")
    measure = _measure("clip fraction", clipped, design, one)
    if measure.first is None or measure.second is None:
        return MediatorCheck(
            held=False, sentence="The record does not contain the fraction of clipped steps.", measures=(measure,)
        )
    each = [
        f"{plain_percent(value)} of the steps of {arm}"
        for arm, value in ((one.first, measure.first), (one.second, measure.second))
    ]
    shares = f"{' and '.join(each)} were clipped"
    if min(measure.first, measure.second) < CLIPPED:
        sentence = (
            f"{shares}, so that the applied gradients still differ in size; a smaller max_grad_norm clips them all."
        )
        return MediatorCheck(held=False, sentence=sentence, measures=(measure,))
    return MediatorCheck(held=True, sentence=f"Held: {shares}.", measures=(measure,))


def _noise(design: Mediation, one: Held, readings: Sequence[RunReading], runs: Sequence[RunFiles]) -> MediatorCheck:
    """Drawn in every run as declared, with other final weights than without, and measured in the grad norm at equal weights."""
    first_step = _first_steps(runs)
    measures = [_measure("grad norm at the first step", first_step, design, one)]
    measures += [_measure(words, by_arm(readings, name), design, one) for name, words in _RUN_WIDE.items()]
    measures = [each for each in measures if None not in (each.baseline, each.treated, each.first, each.second)]
    if problem := _not_applied(design, one, runs):
        return MediatorCheck(held=False, sentence=problem, measures=tuple(measures))
    moved, left = (_log_ratio(first_step, *pair) for pair in ((BASELINE, design.treated), (one.first, one.second)))
    if moved is None or left is None or not measures:
        return MediatorCheck(
            held=True, sentence="Drawn as declared in every run; no grad norm was recorded.", measures=tuple(measures)
        )
    plain, with_noise = (
        _figures(*pair)
        for pair in ((measures[0].baseline, measures[0].treated), (measures[0].first, measures[0].second))
    )
    figures = (
        f"at the first step, at equal weights, the grad norm is {plain} without and {with_noise} with the noise held"
    )
    if left.significant and abs(left.mean) > abs(moved.mean) / 2:
        sentence = f"{figures}: the gap is not closed, so the noise is not as declared."
        return MediatorCheck(held=False, sentence=sentence, measures=tuple(measures))
    if not moved.significant:
        sentence = f"Drawn as declared; {figures}: the treatment's effect on it is not significant with so few steps."
        return MediatorCheck(held=True, sentence=sentence, measures=tuple(measures))
    return MediatorCheck(held=True, sentence=f"Held: {figures}.", measures=tuple(measures))


def _not_applied(design: Mediation, one: Held, runs: Sequence[RunFiles]) -> str:
    """Why the noise cannot have been as the arms declare; '' where the record does not contradict them."""
    by_arm = {name: [run for run in runs if run.arm == name and run.finished] for name in (one.first, one.second)}
    setting = MEDIATORS[one.mediator]
    for name, mine in by_arm.items():
        wanted = design.arms.get(name, {}).get(setting)
        if wanted is None:
            continue
        for run in mine:
            items = run.fingerprint.items if run.fingerprint else {}
            of = items.get("grad_noise", {}).get("of")
            if of != wanted:
                what = "draws no noise" if of is None else f"draws {show(of)} samples of each step"
                return f"the run {name}, seed {run.seed} {what}, where {show(wanted)} were declared."
    plain = BASELINE if one.first != BASELINE else design.treated
    noisy = one.first if one.first != BASELINE else one.second
    weights = {(run.arm, run.seed): run.weights for run in runs if run.finished and run.weights}
    pairs = [
        (weights[noisy, seed], weights[plain, seed])
        for arm, seed in weights
        if arm == noisy and (plain, seed) in weights
    ]
    if pairs and all(left == right for left, right in pairs):
        return f"{noisy} ends with weights identical to those of {plain}: the noise changed no update."
    return ""


@dataclass(frozen=True, slots=True)
class _LogRatio:
    mean: float
    significant: bool


def _log_ratio(values: ByArm, first: str, second: str) -> _LogRatio | None:
    """Mean over seeds of log(second / first), and whether it is significant by a paired t test."""
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
    norms: dict[str, dict[int, float]] = {}
    for run in runs:
        norm = (run.fingerprint.items if run.fingerprint else {}).get("first_step", {}).get("grad_norm")
        if run.finished and isinstance(norm, int | float) and np.isfinite(norm):
            norms.setdefault(run.arm, {})[run.seed] = float(norm)
    return norms


def _measure(what: str, values: ByArm, design: Mediation, one: Held) -> MediatorMeasure:
    def mean(arm: str) -> float | None:
        return float(np.mean(list(values[arm].values()))) if values.get(arm) else None

    return MediatorMeasure(
        what=what, baseline=mean(BASELINE), treated=mean(design.treated), first=mean(one.first), second=mean(one.second)
    )


def _figures(before: float | None, after: float | None) -> str:
    return f"{plain_figure(before or 0)} -> {plain_figure(after or 0)}"

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
from ablate.design.designs import MEDIATORS, Held, Mediation
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

    def measure(words: str, values: ByArm) -> MediatorMeasure:
        arms = (BASELINE, design.treated, one.first, one.second)
        means = [float(np.mean(list(values[arm].values()))) if values.get(arm) else None for arm in arms]
        return MediatorMeasure(what=words, baseline=means[0], treated=means[1], first=means[2], second=means[3])

    if one.mediator == "max_grad_norm":
        return _clip(one, measure("clip fraction", by_arm(readings, "clip_fraction")))
    first_step = _first_steps(runs)
    measures = [measure("grad norm at the first step", first_step)]
    measures += [measure(words, by_arm(readings, name)) for name, words in _RUN_WIDE.items()]
    known = [each for each in measures if None not in (each.baseline, each.treated, each.first, each.second)]
    held, sentence = _noise(design, one, known, first_step, runs)
    return MediatorCheck(held=held, sentence=sentence, measures=tuple(known))


def _clip(one: Held, clipped: MediatorMeasure) -> MediatorCheck:
    """Where nearly every step is clipped, the applied norm is the limit, whatever the treatment."""
    first, second = clipped.first, clipped.second
    if first is None or second is None:
        sentence = "The record does not contain the fraction of clipped steps."
        return MediatorCheck(held=False, sentence=sentence, measures=(clipped,))
    each = [
        f"{plain_percent(value)} of the steps of {arm}" for arm, value in ((one.first, first), (one.second, second))
    ]
    shares, held = f"{' and '.join(each)} were clipped", min(first, second) >= CLIPPED
    smaller = "so that the applied gradients still differ in size; a smaller max_grad_norm clips them all"
    sentence = f"Held: {shares}." if held else f"{shares}, {smaller}."
    return MediatorCheck(held=held, sentence=sentence, measures=(clipped,))


def _noise(
    design: Mediation, one: Held, measures: Sequence[MediatorMeasure], first_step: ByArm, runs: Sequence[RunFiles]
) -> tuple[bool, str]:
    """Drawn in every run as declared, with other final weights than without, and measured in the grad norm at equal weights."""
    if problem := _not_applied(design, one, runs):
        return False, problem
    moved, left = (_log_ratio(first_step, *pair) for pair in ((BASELINE, design.treated), (one.first, one.second)))
    if moved is None or left is None or not measures:
        return True, "Drawn as declared in every run; no grad norm was recorded."
    at_first = measures[0]
    plain, with_noise = (
        f"{plain_figure(before or 0)} -> {plain_figure(after or 0)}"
        for before, after in ((at_first.baseline, at_first.treated), (at_first.first, at_first.second))
    )
    figures = (
        f"at the first step, at equal weights, the grad norm is {plain} without and {with_noise} with the noise held"
    )
    if left.significant and abs(left.mean) > abs(moved.mean) / 2:
        return False, f"{figures}: the gap is not closed, so the noise is not as declared."
    if not moved.significant:
        return True, f"Drawn as declared; {figures}: the treatment's effect on it is not significant with so few steps."
    return True, f"Held: {figures}."


def _not_applied(design: Mediation, one: Held, runs: Sequence[RunFiles]) -> str:
    """Why the noise cannot have been as the arms declare; '' where the record does not contradict them."""
    setting = MEDIATORS[one.mediator]
    pair = [run for name in (one.first, one.second) for run in runs if run.arm == name and run.finished]
    for run in pair:
        wanted = design.arms.get(run.arm, {}).get(setting)
        drawn = (run.fingerprint.items if run.fingerprint else {}).get("grad_noise", {}).get("of")
        if wanted is not None and drawn != wanted:
            what = "draws no noise" if drawn is None else f"draws {show(drawn)} samples of each step"
            return f"the run {run.arm}, seed {run.seed} {what}, where {show(wanted)} were declared."
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

"""Variant minus baseline, paired by seed: effect, interval, one of four verdicts, and the finding in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.analysis.intervals import Paired, correlation, paired
from ablate.analysis.power import MOST_SEEDS, seeds_needed
from ablate.analysis.values import Contrast, MetricInfo, VerdictKind
from ablate.analysis.words import change, counted, figure
from ablate.design.axis import show

ENOUGH_SEEDS = 5
"""Below this number of pairs every contrast is labelled LOW POWER."""

BySeed = Mapping[int, float | None]

DECIDED: tuple[VerdictKind, ...] = ("helps", "hurts", "raises", "lowers")

NOT_BEYOND = "NOT BEYOND PLACEBO"
"""Label of a difference from the baseline that does not hold against the placebo."""

WITHIN_FLOOR = "WITHIN NOISE FLOOR"
"""Label of a difference that is no larger than what runs differ by that nothing was done to."""

ONE_SIDED = "ONE-SIDED"
"""Label of a placebo that differs from the baseline always to the same side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a contrast is about.

    smallest_effect: None for a secondary outcome: without a declared margin there is no claim of `no effect`.
    refused: why the arm gets no verdict (a control that failed), else None.
    chance: the arm is itself a placebo, so that a secondary outcome which it moves was moved by chance.
    lost: runs that ended without a result, in words: `seed 1 of batch_size=64 diverged`.
    floor: the larger of the noise floor and the nondeterminism floor of the metric; None where neither was measured.
    """

    arm: str
    axis: str
    level: Any
    baseline_level: Any
    metric: MetricInfo
    primary: bool
    smallest_effect: float | None
    num_seeds: int
    refused: str | None = None
    lost: tuple[str, ...] = ()
    chance: bool = False
    floor: float | None = None
    bundle: str = ""

    @property
    def change(self) -> str:
        """`batch_size 8 -> 64`; where several keys are declared to be one change, all of them."""
        if self.bundle:
            return self.bundle
        if isinstance(self.level, Mapping):
            return self.arm
        return f"{self.axis} {show(self.baseline_level)} -> {show(self.level)}"


def contrast(question: Question, baseline: BySeed, arm: BySeed, placebo: BySeed | None = None) -> Contrast:
    """Pair the two arms' values by seed and infer from the differences; a seed without both values is no pair.

    An effect that is no larger than the floor of its metric is none. placebo: of an A/A arm. It is as good a baseline as the
    baseline is, so an effect must hold against both: its 95 % interval against the placebo must exclude 0 on the same side.
    Both rules can only take a verdict away, never give one.
    """
    pairs = {seed: pair for seed in sorted(baseline.keys() & arm.keys()) if (pair := _pair(baseline[seed], arm[seed]))}
    left, right = (np.asarray([pair[side] for pair in pairs.values()], dtype=np.float64) for side in (0, 1))
    differences = right - left
    inference = paired(differences)
    verdict = _verdict(question, inference)
    withdrawn = _withdrawn(question, inference, arm, placebo) if verdict in DECIDED and inference else None
    verdict = "undecided" if withdrawn else verdict
    # No number of seeds lifts an effect of this size above the floor.
    needed = _needed(question, inference) if verdict == "undecided" and withdrawn in (None, NOT_BEYOND) else None
    several = len(pairs) > 1
    return Contrast(
        arm=question.arm,
        axis=question.axis,
        level=question.level,
        baseline_level=question.baseline_level,
        metric=question.metric.name,
        unit=question.metric.unit,
        primary=question.primary,
        effect=float(np.mean(differences)) if several else None,
        low=inference.low if inference else None,
        high=inference.high if inference else None,
        seeds=tuple(pairs),
        differences=tuple(differences.tolist()),
        baseline_mean=float(np.mean(left)) if pairs else None,
        arm_mean=float(np.mean(right)) if pairs else None,
        p_value=inference.p_value if inference else None,
        rho=correlation(left, right),
        verdict=verdict,
        seeds_needed=needed,
        labels=(*_labels(question, len(pairs)), *([withdrawn] if withdrawn else [])),
        sentence=_sentence(question, inference, verdict, needed, withdrawn, left, right),
        floor=question.floor,
        bundle=question.bundle,
    )


def _pair(left: float | None, right: float | None) -> tuple[float, float] | None:
    if left is None or right is None or not (math.isfinite(left) and math.isfinite(right)):
        return None
    return left, right


def _withdrawn(question: Question, inference: Paired, arm: BySeed, placebo: BySeed | None) -> str | None:
    """Why a difference is not believed although its interval excludes 0: the label that says so, or None."""
    if question.floor is not None and abs(inference.mean) <= question.floor:
        # The mean of a placebo's differences is never beyond their root mean square; that it is no chance is still said.
        return ONE_SIDED if question.chance and question.primary else WITHIN_FLOOR
    return None if _holds(question, inference, arm, placebo) else NOT_BEYOND


def _holds(question: Question, inference: Paired, arm: BySeed, placebo: BySeed | None) -> bool:
    """Whether a difference from the baseline is one from the placebo as well. True where there is no second opinion."""
    if question.chance:
        return question.primary  # there the report says aloud that the placebo moved; elsewhere it is one of many
    pairs = [pair for seed in arm if placebo is not None and (pair := _pair(placebo.get(seed), arm[seed]))]
    second = paired(np.asarray([right - left for left, right in pairs], dtype=np.float64))
    return second is None or (second.differs and (second.mean > 0) == (inference.mean > 0))


def _verdict(question: Question, inference: Paired | None) -> VerdictKind:
    """Equivalence first: a difference that is proven to be smaller than what matters is no effect, be it zero or not."""
    if question.refused is not None:
        return "none"
    if inference is None:
        return "undecided"
    if question.smallest_effect is not None and inference.within(question.smallest_effect):
        return "no effect"
    if not inference.differs:
        return "undecided"
    rises, lower_is_better = inference.mean > 0, question.metric.lower_is_better
    if lower_is_better is None:
        return "raises" if rises else "lowers"
    return "hurts" if rises == lower_is_better else "helps"


def _needed(question: Question, inference: Paired | None) -> int | None:
    if inference is None or question.smallest_effect is None:
        return None
    needed = seeds_needed(inference.sd, question.smallest_effect)
    return None if needed is None else max(needed, inference.n + 1)


def _labels(question: Question, num_pairs: int) -> tuple[str, ...]:
    labels = ["LOW POWER"] if num_pairs < ENOUGH_SEEDS else []
    if num_pairs < question.num_seeds:
        labels.append(f"{num_pairs} of {question.num_seeds} seeds")
    if question.lost:
        labels.append("SURVIVORS ONLY")
    return tuple(labels)


def _sentence(
    question: Question,
    inference: Paired | None,
    verdict: VerdictKind,
    needed: int | None,
    withdrawn: str | None,
    left: np.ndarray[Any, np.dtype[np.float64]],
    right: np.ndarray[Any, np.dtype[np.float64]],
) -> str:
    lost = f"; without {', '.join(question.lost)}" if question.lost else ""
    subject = f"{question.change}, {question.metric.name}"
    if question.refused is not None:
        return f"{subject}: no verdict, because {question.refused}"
    if inference is None:
        return f"{subject}: undecided, {_no_interval(question, left, right)}{lost}"
    unit = f" {question.metric.unit}" if question.metric.unit else ""
    figures = (
        f"{figure(float(np.mean(left)))} -> {figure(float(np.mean(right)))}{unit} "
        f"({change(inference.mean, inference.low, inference.high)}; {counted(inference.n, 'seed')}{lost})"
    )
    return f"{subject}: {_finding(question, inference, verdict, needed, withdrawn)}, {figures}"


def _finding(
    question: Question, inference: Paired, verdict: VerdictKind, needed: int | None, withdrawn: str | None
) -> str:
    if verdict == "no effect":
        margin = f"inside plus or minus {figure(question.smallest_effect or 0.0)}"
        return f"no effect that matters (not zero, but {margin})" if inference.differs else f"no effect ({margin})"
    if verdict != "undecided":
        return verdict
    if withdrawn in (WITHIN_FLOOR, ONE_SIDED):
        return f"undecided (no larger than {figure(question.floor or 0.0)}, which chance alone makes)"
    if question.smallest_effect is None:
        return "undecided"
    if needed is None:
        return f"undecided (more than {MOST_SEEDS} seeds needed)"
    return f"undecided (about {needed} seeds needed)"


def _no_interval(
    question: Question, left: np.ndarray[Any, np.dtype[np.float64]], right: np.ndarray[Any, np.dtype[np.float64]]
) -> str:
    if not len(left):
        return f"no seed in which both arms have a value of {question.metric.name}"
    if len(left) == 1:
        only = float(right[0] - left[0])
        return f"one seed ({figure(only)}) has no interval: two are the least"
    same = float(right[0] - left[0])
    return f"the difference is {figure(same)} in each of {len(left)} seeds: without spread there is no interval"

"""Contrasts of a study: variant minus baseline on one metric, what takes a verdict away, and the finding in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.interim import InterimReader
from ablate.analysis.noise_floor import floors, largest
from ablate.analysis.results import Contrast, Floor, RunReading
from ablate.config.flatten import leaf_or_absent
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.formatting import change, counted, joined, plain_figure
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import CONFIDENCE
from ablate.stats.power import MAX_SEEDS
from ablate.stats.verdicts import (
    BY_STEPS,
    DECIDED,
    LOW_POWER_POOLED_ONLY,
    OWN_VARIANCE,
    POOLED_ONLY,
    Judgement,
    VerdictKind,
    judge,
)

BySeed = Mapping[int, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A judgement, and what its arm shares with those that were judged with it.

    variants: number of arms judged together; 1 for an arm by itself, whose analysis is the paired t.
    sd: of the residual that its error is based on. rho: measured between all these arms and the baseline over seeds.
    """

    judgement: Judgement
    variants: int
    sd: float | None
    rho: float | None

    @property
    def alone(self) -> bool:
        """Whether it is based on the runs of this arm and the baseline only."""
        return self.variants == 1 or self.judgement.method == "own pairs"


def family(plan: Plan, readings: Sequence[RunReading], checks: Sequence[Control]) -> dict[str, str]:
    """Return {variant: the arm whose runs represent it} in plan order: the variants that are judged together.

    Placebo and rerun are controls, not variants, and each is judged by itself. So is an arm whose control failed: it gets no
    verdict, and its runs must not affect the others' residual. Where the baseline's control failed there is no family. Two
    arms that share their runs are one: counted twice, the same values would count as agreement.
    """
    failed = {check.arm for check in checks if check.status == "failed"}
    if plan.baseline.name in failed:
        return {}
    first_with: dict[tuple[str, ...], str] = {}
    represented_by = {}
    for arm in plan.arms[1:]:
        if arm.replayed or arm.kind in ("placebo", "rerun") or arm.name in failed:
            continue
        runs = tuple(sorted(run.folder for run in readings if run.arm == arm.name))
        represented_by[arm.name] = first_with.setdefault(runs or (arm.name,), arm.name)
    return represented_by


def judge_together(
    metric: MetricInfo,
    baseline: BySeed,
    arms: Mapping[str, BySeed],
    smallest_effect: float | None,
    interim_confidence: float | None = None,
) -> dict[str, Judged]:
    """Judge every arm against the baseline in one table; values that are not finite count as missing.

    interim_confidence: as in `judge`.
    """
    if not arms:
        return {}
    seeds = sorted({seed for arm in (baseline, *arms.values()) for seed in arm})
    values = np.stack([_row(arm, seeds) for arm in (baseline, *arms.values())])
    margin = smallest_effect if smallest_effect is not None and smallest_effect > 0 else None
    table = judge(values, margin, metric.lower_is_better, interim_confidence)
    return {
        name: Judged(judgement=one, variants=len(arms), sd=_own_sd(one) or table.sd, rho=table.rho)
        for name, one in zip(arms, table.variants, strict=True)
    }


def _row(arm: BySeed, seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray([np.nan if (value := arm.get(seed)) is None else value for seed in seeds], dtype=np.float64)


def _own_sd(one: Judgement) -> float | None:
    """Residual sd of an arm that was set aside: a difference has the variance of two runs."""
    return one.error * float(np.sqrt(one.pairs / 2)) if one.method == "own pairs" and one.error else None


Values = np.ndarray[Any, np.dtype[np.float64]]

NOT_BEYOND = "NOT DIFFERENT FROM PLACEBO"
"""Label of a difference from the baseline that does not hold against the placebo."""

WITHIN_FLOOR = "WITHIN NOISE FLOOR"
"""Label of a difference that is not larger than the noise floor."""

ONE_SIDED = "ONE-SIDED"
"""Label of a placebo that differs from the baseline in the same direction at every seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a contrast is about.

    smallest_effect: None for a secondary metric: without a declared margin equivalence cannot be claimed.
    refused: why the arm gets no verdict (a control that failed), else None.
    placebo: the arm is itself a placebo, so that a secondary metric that it changes was changed by chance.
    lost: runs that ended without a result, in words: `seed 1 of batch_size=64 diverged`.
    floor: the larger of the noise floor and the nondeterminism floor of the metric; None where neither was measured.
    confidence: confidence of low and high.
    stopped: an interim analysis decided the variant, which then has fewer seeds than the rest.
    """

    arm: str
    axis: str
    value: Any
    baseline_value: Any
    metric: MetricInfo
    primary: bool
    smallest_effect: float | None
    num_seeds: int
    refused: str | None = None
    lost: tuple[str, ...] = ()
    placebo: bool = False
    floor: float | None = None
    bundle: str = ""
    confidence: float = 0.95
    stopped: bool = False

    @property
    def change(self) -> str:
        """Return `batch_size 8 -> 64`; where several keys are declared to be one change, all of them."""
        if self.bundle:
            return self.bundle
        if isinstance(self.value, Mapping):
            return self.arm
        return f"{self.axis} {show(self.baseline_value)} -> {show(self.value)}"


def contrast(
    question: Question, judged: Judged, baseline: BySeed, arm: BySeed, placebo: Judged | None = None
) -> Contrast:
    """Return the judgement of one arm with the values that it is based on; a seed without both values is left out.

    An effect that is not larger than the floor of its metric gets no verdict.

    placebo: judgement of the arm with an A/A arm as the baseline, together with the other variants. It is as good a
        baseline, so an effect must hold against both. Both rules can only take a verdict away.
    """
    seeds, left, right = _pairs(baseline, arm)
    judgement = judged.judgement
    verdict: VerdictKind = judgement.verdict if question.refused is None else "none"
    withdrawn = _withdrawn(question, judgement.effect or 0.0, placebo) if verdict in DECIDED else None
    return Contrast(
        arm=question.arm,
        axis=question.axis,
        value=question.value,
        baseline_value=question.baseline_value,
        metric=question.metric.name,
        unit=question.metric.unit,
        primary=question.primary,
        method="own pairs" if judged.alone else "seed-blocked",
        family=judged.variants,
        effect=judgement.effect if len(seeds) > 1 or judgement.low is not None else None,
        low=judgement.low,
        high=judgement.high,
        inner_low=judgement.inner_low,
        inner_high=judgement.inner_high,
        seeds=seeds,
        differences=tuple((right - left).tolist()),
        baseline_mean=float(np.mean(left)) if seeds else None,
        arm_mean=float(np.mean(right)) if seeds else None,
        beats=judgement.beats,
        hedges_g=judgement.hedges_g,
        p_value=judgement.p_value,
        own_p=judgement.own_p_value,
        signflip_p=judgement.signflip_p,
        residual_sd=judged.sd,
        df=judgement.df,
        rho=judged.rho,
        verdict="inconclusive" if withdrawn else verdict,
        # No number of seeds lifts an effect above the floor or beyond the placebo.
        seeds_needed=judgement.seeds_needed if verdict == "inconclusive" and judgement.low is not None else None,
        labels=(
            *(label for label in judgement.labels if not (withdrawn and label == BY_STEPS)),
            *_labels(question, len(seeds)),
            *([withdrawn] if withdrawn else []),
        ),
        sentence=_sentence(question, judged, "inconclusive" if withdrawn else verdict, withdrawn, left, right),
        floor=question.floor,
        bundle=question.bundle,
        error=judgement.error,
        step_p=judgement.step_p,
        confidence=question.confidence,
    )


def _pairs(left: BySeed, right: BySeed) -> tuple[tuple[int, ...], Values, Values]:
    """Return the seeds in which both arms have a finite value, and these values."""
    found = {
        seed: (one, other)
        for seed in sorted(left.keys() & right.keys())
        if (one := left[seed]) is not None
        and (other := right[seed]) is not None
        and math.isfinite(one)
        and math.isfinite(other)
    }
    values = np.asarray([*found.values()], dtype=np.float64).reshape(-1, 2)
    return tuple(found), values[:, 0], values[:, 1]


def _withdrawn(question: Question, effect: float, placebo: Judged | None) -> str | None:
    """Return the label that takes the verdict of a significant difference away, or None."""
    if question.floor is not None and abs(effect) <= question.floor:
        # The mean of a placebo's differences never exceeds their root mean square, which is the floor.
        return ONE_SIDED if question.placebo and question.primary else WITHIN_FLOOR
    return None if _holds(question, effect, placebo) else NOT_BEYOND


def _holds(question: Question, effect: float, placebo: Judged | None) -> bool:
    """Return whether a difference from the baseline is one from the placebo as well; True where there is no placebo."""
    if question.placebo:
        return question.primary  # there the report warns about the placebo; elsewhere it is one of many metrics
    if placebo is None or placebo.judgement.low is None or placebo.judgement.effect is None:
        return True
    return placebo.judgement.verdict in DECIDED and placebo.judgement.effect * effect > 0


def _labels(question: Question, num_pairs: int) -> tuple[str, ...]:
    labels = [f"{num_pairs} of {question.num_seeds} seeds"] if num_pairs < question.num_seeds else []
    if question.lost:
        labels.append("MISSING SEEDS")
    if question.stopped:
        labels.append(f"STOPPED AT {question.num_seeds} SEEDS")
    return tuple(labels)


def _sentence(
    question: Question, judged: Judged, verdict: VerdictKind, withdrawn: str | None, left: Values, right: Values
) -> str:
    lost = f"; without {', '.join(question.lost)}" if question.lost else ""
    subject = f"{question.change}, {question.metric.name}"
    if question.refused is not None:
        return f"{subject}: no verdict, because {question.refused}"
    one = judged.judgement
    if one.effect is None or one.low is None or one.high is None:
        return f"{subject}: inconclusive, {_no_interval(question, left, right)}{lost}"
    unit = f" {question.metric.unit}" if question.metric.unit else ""
    ends = f"{plain_figure(float(np.mean(left)))} -> {plain_figure(float(np.mean(right)))}{unit}, " if len(left) else ""
    alone = f"; {_set_aside(judged)}" if OWN_VARIANCE in one.labels else ""
    if BY_STEPS in one.labels and one.step_p is not None:
        alone = f"; step-down p {plain_figure(one.step_p, 2)}: the interval is simultaneous over all {judged.variants} variants"
    figures = f"{change(one.effect, one.low, one.high, question.confidence)}; {counted(one.pairs, 'seed')}{lost}{alone}"
    return f"{subject}: {_finding(question, judged, verdict, withdrawn)}, {ends.removesuffix(', ')} ({figures})"


def _set_aside(judged: Judged) -> str:
    """Why a contrast is not judged with the others."""
    why = "because its variance or the baseline's is unlike the other arms'"
    return f"judged by its own pairs, Holm over {judged.variants} variants, {why}"


def _finding(question: Question, judged: Judged, verdict: VerdictKind, withdrawn: str | None) -> str:
    one = judged.judgement
    if verdict == "equivalent":
        margin = f"within plus or minus {plain_figure(question.smallest_effect or 0.0)}"
        differs = one.low is not None and one.high is not None and one.low * one.high > 0
        return f"equivalent (not zero, but {margin})" if differs else f"equivalent ({margin})"
    if verdict != "inconclusive":
        return verdict
    why = _why_undecided(question, judged, withdrawn)
    return f"inconclusive ({joined(why)})" if why else "inconclusive"


def _why_undecided(question: Question, judged: Judged, withdrawn: str | None) -> list[str]:
    if withdrawn in (WITHIN_FLOOR, ONE_SIDED):
        return [f"within the noise floor of {plain_figure(question.floor or 0.0)}"]
    if withdrawn == NOT_BEYOND:
        return ["not different from the placebo"]
    one = judged.judgement
    only_pooled = {LOW_POWER_POOLED_ONLY, POOLED_ONLY} & set(one.labels)
    why = ["not confirmed by its own pairs"] if only_pooled else []
    if question.smallest_effect is None:
        return why
    if one.seeds_needed is None:
        return [*why, f"needs more than {MAX_SEEDS:,} seeds"]
    return [*why, f"needs about {one.seeds_needed} seeds"]


def _no_interval(question: Question, left: Values, right: Values) -> str:
    if not len(left):
        return f"no seed in which both arms have a value of {question.metric.name}"
    only = float(right[0] - left[0])
    if len(left) == 1:
        return f"one seed ({plain_figure(only)}) has no interval: at least two are needed"
    return f"the difference is {plain_figure(only)} in each of {len(left)} seeds: without spread there is no interval"


def contrasts_of(
    plan: Plan,
    metric: MetricInfo,
    represented_by: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    interims: InterimReader | None = None,
) -> Iterator[Contrast]:
    """Return the contrasts on one metric. interims: of a sequential study, whose arms are each read at an interim analysis."""
    if plan.variance is not None:
        return iter(())
    if interims is None:
        return _contrasts(plan, metric, represented_by, readings, checks, floors(plan, readings, checks))

    def read(
        then: Plan, metric: MetricInfo, known: Sequence[RunReading], level: float, early: Mapping[str, int]
    ) -> Iterator[Contrast]:
        return _contrasts(then, metric, represented_by, known, checks, floors(then, known, checks), level, early)

    return interims.contrasts(metric, readings, read)


def _contrasts(
    plan: Plan,
    metric: MetricInfo,
    represented_by: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    found: Sequence[Floor],
    interim_confidence: float | None = None,
    early: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Contrast]:
    """Yield the contrasts on one metric in plan order: the variants from one table, every other arm by itself.

    interim_confidence: of one of several interim analyses. early: {variant that one has stopped: its number of seeds}.
    """
    primary = metric.name == plan.metric
    margin = plan.smallest_effect if primary else None
    values: dict[str, dict[int, float | None]] = {arm.name: {} for arm in plan.arms}
    for run in readings:
        values[run.arm][run.seed] = run.values[metric.name]
    baseline = values[plan.baseline.name]
    variants = {name: values[name] for name in dict.fromkeys(represented_by.values())}
    together = judge_together(metric, baseline, variants, margin, interim_confidence)
    placebo = next((values[arm.name] for arm in plan.arms if arm.kind == "placebo"), None)
    against_placebo = judge_together(metric, placebo, variants, None, interim_confidence) if placebo is not None else {}
    for arm in plan.arms[1:]:
        if arm.replayed or arm.kind == "rerun":  # it changes nothing, so that there is no effect to infer
            continue
        question = Question(
            arm=arm.name,
            axis=arm.axis or "",
            value=arm.value,
            bundle=plan.bundle(arm),
            baseline_value=_baseline_value(plan, arm),
            metric=metric,
            primary=primary,
            smallest_effect=margin,
            num_seeds=min(len(plan.seeds_of(arm)), early.get(arm.name, len(plan.seeds))),
            refused=_refused(plan.baseline, arm, checks),
            lost=tuple(_lost(readings, (plan.baseline.name, arm.name))),
            placebo=arm.kind == "placebo",
            floor=largest(found, metric.name),
            confidence=interim_confidence or CONFIDENCE,
            stopped=arm.name in early,
        )
        if arm.name in represented_by:
            judged = together[represented_by[arm.name]]
        else:
            judged = judge_together(metric, baseline, {arm.name: values[arm.name]}, margin, interim_confidence)[
                arm.name
            ]
        yield contrast(
            question, judged, baseline, values[arm.name], against_placebo.get(represented_by.get(arm.name, ""))
        )


def verdicts(
    plan: Plan,
    metric: MetricInfo,
    values: Sequence[float | None],
    represented_by: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    interims: InterimReader | None,
) -> dict[str, str]:
    """Return every variant's verdict if its runs had these values of a metric; floors are computed from them as well."""
    read = [replace(run, values={metric.name: value}) for run, value in zip(readings, values, strict=True)]
    found = contrasts_of(plan, metric, represented_by, read, checks, interims)
    return {one.arm: one.verdict for one in found if plan.arm(one.arm).kind != "placebo"}


def _baseline_value(plan: Plan, arm: Arm) -> Any:
    """The baseline's value of what the arm moves: one value, or {key: value} where several keys move together."""
    values = {key: leaf_or_absent(plan.baseline.config, key) for key in arm.changes}
    return next(iter(values.values())) if len(values) == 1 else values


def _refused(baseline: Arm, arm: Arm, checks: Sequence[Control]) -> str | None:
    """A failed control of the baseline leaves nothing to compare with."""
    failed = [check for check in checks if check.status == "failed"]
    broken = [check for name in (arm.name, baseline.name) for check in failed if check.arm == name]
    return f"the control `{broken[0].name}` failed: {broken[0].sentence}" if broken else None


def _lost(readings: Sequence[RunReading], arms: Iterable[str]) -> Iterable[str]:
    names = tuple(arms)
    for run in readings:
        if run.arm in names and run.status in ("diverged", "failed", "unreadable"):
            ended = "is unreadable" if run.status == "unreadable" else run.status
            yield f"seed {run.seed} of {run.arm}, which {ended}"

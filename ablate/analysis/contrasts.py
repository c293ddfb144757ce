"""Variant minus baseline on one outcome: what its judgement says, what takes a verdict away, and the finding in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.load import Reader
from ablate.analysis.noise_floor import floors, largest
from ablate.analysis.results import Contrast, Floor, RunReading
from ablate.config.flatten import leaf_or_absent
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.formatting import change, counted, joined, plain_figure
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import CONFIDENCE
from ablate.stats.power import MOST_SEEDS
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

# Which arms are judged together, and the judgement of each on one outcome.

BySeed = Mapping[int, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A judgement, and what its arm shares with those that were judged with it.

    variants: how many; 1 for an arm by itself, whose analysis is the paired t. sd, df: of the residual that its error was
    had from. rho: measured between all these arms and the baseline over seeds.
    """

    judgement: Judgement
    variants: int
    sd: float | None
    rho: float | None

    @property
    def alone(self) -> bool:
        """Whether it rests on this arm's and the baseline's runs only."""
        return self.variants == 1 or self.judgement.method == "own pairs"


def family(plan: Plan, readings: Sequence[RunReading], checks: Sequence[Control]) -> dict[str, str]:
    """{variant: the arm that speaks for it}, in plan order: the variants that claims are made about.

    Placebo and repeat are no variants: nobody asks whether they help. They are controls, and each is judged by itself. So is
    an arm whose control failed: it gets no verdict, and what is wrong with it must not colour the others' residual. Where
    the baseline's control failed there is no family. Two arms that share their runs are one: counted twice, the same values
    would look like agreement.
    """
    failed = {check.arm for check in checks if check.status == "failed"}
    if plan.baseline.name in failed:
        return {}
    speaks: dict[tuple[str, ...], str] = {}
    found = {}
    for arm in plan.arms[1:]:
        if arm.replayed or arm.kind in ("placebo", "rerun") or arm.name in failed:
            continue
        runs = tuple(sorted(run.folder for run in readings if run.arm == arm.name))
        found[arm.name] = speaks.setdefault(runs or (arm.name,), arm.name)
    return found


def judge_together(
    metric: MetricInfo,
    baseline: BySeed,
    arms: Mapping[str, BySeed],
    smallest_effect: float | None,
    look_level: float | None = None,
) -> dict[str, Judged]:
    """Every arm against the baseline, in one table. A value that is missing or not finite is none.

    look_level: as in `judge`.
    """
    if not arms:
        return {}
    seeds = sorted({seed for arm in (baseline, *arms.values()) for seed in arm})
    values = np.stack([_row(arm, seeds) for arm in (baseline, *arms.values())])
    margin = smallest_effect if smallest_effect is not None and smallest_effect > 0 else None
    table = judge(values, margin, metric.lower_is_better, look_level)
    return {
        name: Judged(judgement=one, variants=len(arms), sd=_own_sd(one) or table.sd, rho=table.rho)
        for name, one in zip(arms, table.variants, strict=True)
    }


def _row(arm: BySeed, seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray([np.nan if (value := arm.get(seed)) is None else value for seed in seeds], dtype=np.float64)


def _own_sd(one: Judgement) -> float | None:
    """Of an arm that was set aside, in the terms of the pooled residual: a difference has the variance of two of them."""
    return one.error * float(np.sqrt(one.pairs / 2)) if one.method == "own pairs" and one.error else None


Values = np.ndarray[Any, np.dtype[np.float64]]

NOT_BEYOND = "NOT DIFFERENT FROM PLACEBO"
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
    interval_level: of low and high. stopped: whether a look decided the variant, which has fewer seeds than the rest then.
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
    interval_level: float = 0.95
    stopped: bool = False

    @property
    def change(self) -> str:
        """`batch_size 8 -> 64`; where several keys are declared to be one change, all of them."""
        if self.bundle:
            return self.bundle
        if isinstance(self.level, Mapping):
            return self.arm
        return f"{self.axis} {show(self.baseline_level)} -> {show(self.level)}"


def contrast(
    question: Question, found: Judged, baseline: BySeed, arm: BySeed, placebo: Judged | None = None
) -> Contrast:
    """The judgement of one arm, with the values it rests on; a seed without both values is no pair.

    An effect that is no larger than the floor of its metric is none. placebo: how the arm is judged with an A/A arm in the
    baseline's place. That is as good a baseline, so an effect must hold against both: together with the other variants, or a
    baseline that was lucky would have each of them try its own luck against the placebo. Both rules can only take a verdict
    away, never give one.
    """
    seeds, left, right = _pairs(baseline, arm)
    judgement = found.judgement
    verdict: VerdictKind = judgement.verdict if question.refused is None else "none"
    withdrawn = _withdrawn(question, judgement.effect or 0.0, placebo) if verdict in DECIDED else None
    return Contrast(
        arm=question.arm,
        axis=question.axis,
        level=question.level,
        baseline_level=question.baseline_level,
        metric=question.metric.name,
        unit=question.metric.unit,
        primary=question.primary,
        method="own pairs" if found.alone else "seed-blocked",
        family=found.variants,
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
        residual_sd=found.sd,
        df=judgement.df,
        rho=found.rho,
        verdict="inconclusive" if withdrawn else verdict,
        # No number of seeds lifts an effect above the floor or beyond the placebo; nothing measured, none known.
        seeds_needed=judgement.seeds_needed if verdict == "inconclusive" and judgement.low is not None else None,
        labels=(
            *(label for label in judgement.labels if not (withdrawn and label == BY_STEPS)),
            *_labels(question, len(seeds)),
            *([withdrawn] if withdrawn else []),
        ),
        sentence=_sentence(question, found, "inconclusive" if withdrawn else verdict, withdrawn, left, right),
        floor=question.floor,
        bundle=question.bundle,
        error=judgement.error,
        step_p=judgement.step_p,
        interval_level=question.interval_level,
    )


def _pairs(left: BySeed, right: BySeed) -> tuple[tuple[int, ...], Values, Values]:
    """The seeds in which both arms have a finite value, and these values."""
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
    """Why a difference is not believed although its interval excludes 0: the label that says so, or None."""
    if question.floor is not None and abs(effect) <= question.floor:
        # The mean of a placebo's differences is never beyond their root mean square; that it is no chance is still said.
        return ONE_SIDED if question.chance and question.primary else WITHIN_FLOOR
    return None if _holds(question, effect, placebo) else NOT_BEYOND


def _holds(question: Question, effect: float, placebo: Judged | None) -> bool:
    """Whether a difference from the baseline is one from the placebo as well. True where there is no second opinion."""
    if question.chance:
        return question.primary  # there the report says aloud that the placebo moved; elsewhere it is one of many
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
    question: Question, found: Judged, verdict: VerdictKind, withdrawn: str | None, left: Values, right: Values
) -> str:
    lost = f"; without {', '.join(question.lost)}" if question.lost else ""
    subject = f"{question.change}, {question.metric.name}"
    if question.refused is not None:
        return f"{subject}: no verdict, because {question.refused}"
    one = found.judgement
    if one.effect is None or one.low is None or one.high is None:
        return f"{subject}: undecided, {_no_interval(question, left, right)}{lost}"
    unit = f" {question.metric.unit}" if question.metric.unit else ""
    ends = f"{plain_figure(float(np.mean(left)))} -> {plain_figure(float(np.mean(right)))}{unit}, " if len(left) else ""
    alone = f"; {_set_aside(found)}" if OWN_VARIANCE in one.labels else ""
    if BY_STEPS in one.labels and one.step_p is not None:
        alone = f"; by steps, p {plain_figure(one.step_p, 2)}: the interval is over all {found.variants} variants"
    figures = (
        f"{change(one.effect, one.low, one.high, question.interval_level)}; {counted(one.pairs, 'seed')}{lost}{alone}"
    )
    return f"{subject}: {_finding(question, found, verdict, withdrawn)}, {ends.removesuffix(', ')} ({figures})"


def _set_aside(found: Judged) -> str:
    """Said of each contrast that is not judged with the others."""
    why = "because its spread or the baseline's is unlike the other arms'"
    return f"judged by its own pairs, Holm over {found.variants} variants, {why}"


def _finding(question: Question, found: Judged, verdict: VerdictKind, withdrawn: str | None) -> str:
    one = found.judgement
    if verdict == "equivalent":
        margin = f"inside plus or minus {plain_figure(question.smallest_effect or 0.0)}"
        differs = one.low is not None and one.high is not None and one.low * one.high > 0
        return f"no effect that matters (not zero, but {margin})" if differs else f"no effect ({margin})"
    if verdict != "inconclusive":
        return verdict
    why = _why_undecided(question, found, withdrawn)
    return f"undecided ({joined(why)})" if why else "inconclusive"


def _why_undecided(question: Question, found: Judged, withdrawn: str | None) -> list[str]:
    if withdrawn in (WITHIN_FLOOR, ONE_SIDED):
        return [f"no larger than {plain_figure(question.floor or 0.0)}, which chance alone makes"]
    if withdrawn == NOT_BEYOND:
        return ["it does not hold against the placebo"]
    one = found.judgement
    only_pooled = {LOW_POWER_POOLED_ONLY, POOLED_ONLY} & set(one.labels)
    why = ["all arms together would decide it, its own pairs do not"] if only_pooled else []
    if question.smallest_effect is None:
        return why
    if one.seeds_needed is None:
        return [*why, f"more than {MOST_SEEDS} seeds needed"]
    return [*why, f"about {one.seeds_needed} seeds needed"]


def _no_interval(question: Question, left: Values, right: Values) -> str:
    if not len(left):
        return f"no seed in which both arms have a value of {question.metric.name}"
    only = float(right[0] - left[0])
    if len(left) == 1:
        return f"one seed ({plain_figure(only)}) has no interval: two are the least"
    return f"the difference is {plain_figure(only)} in each of {len(left)} seeds: without spread there is no interval"


# All contrasts of a study: of each outcome the variants from one table, every other arm by itself.


def contrasts_of(
    plan: Plan,
    metric: MetricInfo,
    speaks: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    by_look: Reader | None = None,
) -> Iterator[Contrast]:
    """Of one outcome. by_look: of a study that adds seeds, whose arms are each read at a look, with its level."""
    if plan.variance is not None:  # nobody asks whether chance helps
        return iter(())
    if by_look is None:
        return _contrasts(plan, metric, speaks, readings, checks, floors(plan, readings, checks))

    def read(
        then: Plan, metric: MetricInfo, seen: Sequence[RunReading], level: float, early: Mapping[str, int]
    ) -> Iterator[Contrast]:
        return _contrasts(then, metric, speaks, seen, checks, floors(then, seen, checks), level, early)

    return by_look.contrasts(metric, readings, read)


def _contrasts(
    plan: Plan,
    metric: MetricInfo,
    speaks: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    found: Sequence[Floor],
    look_level: float | None = None,
    early: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Contrast]:
    """Of one outcome, arm by arm in plan order: the variants from one table, every other arm by itself.

    look_level: of one look of several. early: {variant that a look has stopped: its number of seeds}.
    """
    primary = metric.name == plan.metric
    margin = plan.smallest_effect if primary else None
    values: dict[str, dict[int, float | None]] = {arm.name: {} for arm in plan.arms}
    for run in readings:
        values[run.arm][run.seed] = run.values[metric.name]
    baseline = values[plan.baseline.name]
    variants = {name: values[name] for name in dict.fromkeys(speaks.values())}
    together = judge_together(metric, baseline, variants, margin, look_level)
    placebo = next((values[arm.name] for arm in plan.arms if arm.kind == "placebo"), None)
    beside = judge_together(metric, placebo, variants, None, look_level) if placebo is not None else {}
    for arm in plan.arms[1:]:
        if arm.replayed or arm.kind == "rerun":  # which changes nothing, so that there is no effect to infer
            continue
        question = Question(
            arm=arm.name,
            axis=arm.axis or "",
            level=arm.value,
            bundle=plan.bundle(arm),
            baseline_level=_baseline_level(plan, arm),
            metric=metric,
            primary=primary,
            smallest_effect=margin,
            num_seeds=min(len(plan.seeds_of(arm)), early.get(arm.name, len(plan.seeds))),
            refused=_refused(plan.baseline, arm, checks),
            lost=tuple(_lost(readings, (plan.baseline.name, arm.name))),
            chance=arm.kind == "placebo",
            floor=largest(found, metric.name),
            interval_level=look_level or CONFIDENCE,
            stopped=arm.name in early,
        )
        if arm.name in speaks:
            judged = together[speaks[arm.name]]
        else:
            judged = judge_together(metric, baseline, {arm.name: values[arm.name]}, margin, look_level)[arm.name]
        yield contrast(question, judged, baseline, values[arm.name], beside.get(speaks.get(arm.name, "")))


def verdicts(
    plan: Plan,
    metric: MetricInfo,
    values: Sequence[float | None],
    speaks: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    by_look: Reader | None,
) -> dict[str, str]:
    """What the study would say of every variant had its runs these values of an outcome; floors are had from them as well."""
    read = [replace(run, values={metric.name: value}) for run, value in zip(readings, values, strict=True)]
    found = contrasts_of(plan, metric, speaks, read, checks, by_look)
    return {one.arm: one.verdict for one in found if plan.arm(one.arm).kind != "placebo"}


def _baseline_level(plan: Plan, arm: Arm) -> Any:
    """The baseline's value of what the arm moves: one value, or {key: value} where several keys move together."""
    values = {key: leaf_or_absent(plan.baseline.config, key) for key in arm.changes}
    return next(iter(values.values())) if len(values) == 1 else values


def _refused(baseline: Arm, arm: Arm, checks: Sequence[Control]) -> str | None:
    """A baseline that is not what it says leaves nothing to compare with."""
    failed = [check for check in checks if check.status == "failed"]
    broken = [check for name in (arm.name, baseline.name) for check in failed if check.arm == name]
    return f"the control `{broken[0].name}` failed: {broken[0].sentence}" if broken else None


def _lost(readings: Sequence[RunReading], arms: Iterable[str]) -> Iterable[str]:
    names = tuple(arms)
    for run in readings:
        if run.arm in names and run.status in ("diverged", "failed", "unreadable"):
            ended = "is unreadable" if run.status == "unreadable" else run.status
            yield f"seed {run.seed} of {run.arm}, which {ended}"

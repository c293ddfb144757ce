"""Contrasts of a study: variant minus baseline on one metric, and the finding in words."""

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
from ablate.formatting import change, counted, plain_figure, plain_percent
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import CONFIDENCE, known
from ablate.stats.paired import beats
from ablate.stats.power import MAX_SEEDS
from ablate.stats.rates import collapsed, highest_rate
from ablate.stats.verdicts import BY_STEPS, DECIDED, Judgement, VerdictKind, judge

BySeed = Mapping[int, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A judgement, and what its arm shares with those that were judged with it.

    variants: number of arms judged together; 1 for an arm by itself, whose analysis is the paired t.
    collapsed: (collapsed runs, runs) of the baseline and of the arm, where the metric has a better side; else None.
    sd, df: of the residual. rho: measured between all these arms and the baseline over seeds.
    """

    judgement: Judgement
    variants: int
    sd: float | None
    df: int
    rho: float | None
    collapsed: tuple[tuple[int, int], tuple[int, int]] | None = None


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
    rounding: float = 0.0,
) -> dict[str, Judged]:
    """Judge every arm against the baseline in one table; values that are not finite count as missing.

    interim_confidence, rounding: as in `judge`.
    """
    if not arms:
        return {}
    seeds = sorted({seed for arm in (baseline, *arms.values()) for seed in arm})
    values = np.stack([_row(arm, seeds) for arm in (baseline, *arms.values())])
    margin = smallest_effect if smallest_effect is not None and smallest_effect > 0 else None
    far = collapsed(values, metric.lower_is_better, margin)
    counts = [(int(np.sum(row)), int(np.sum(np.isfinite(value)))) for row, value in zip(far, values, strict=True)]
    table = judge(values, margin, metric.lower_is_better, interim_confidence, rounding)
    return {
        name: Judged(
            judgement=one,
            variants=len(arms),
            sd=table.sd,
            df=table.df,
            rho=table.rho,
            collapsed=None if metric.lower_is_better is None else (counts[0], own),
        )
        for name, one, own in zip(arms, table.variants, counts[1:], strict=True)
    }


def _row(arm: BySeed, seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.asarray([np.nan if (value := arm.get(seed)) is None else value for seed in seeds], dtype=np.float64)


Values = np.ndarray[Any, np.dtype[np.float64]]

PLACEBO_DIFFERS = "PLACEBO DIFFERS"
"""Label of a placebo that differs significantly from the baseline: something besides chance differs between equal arms."""


COLLAPSED_RUNS = "COLLAPSED RUNS"
"""Label of a contrast with runs far worse than the others of their arm: a mean hides them, and equivalence is withheld."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a contrast is about.

    smallest_effect: None for a secondary metric: without a declared margin equivalence cannot be claimed.
    refused: why the arm gets no verdict (a control that failed), else None.
    lost: runs that ended without a result, in words: `seed 1 of batch_size=64 diverged`.
    placebo: the arm is an A/A arm, a negative control.
    floor: the larger of the noise floor and the nondeterminism floor of the metric, shown next to the effect; None where
        neither was measured.
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
    question: Question, judged: Judged, baseline: BySeed, arm: BySeed, ranked: tuple[BySeed, BySeed] | None = None
) -> Contrast:
    """Return the judgement of one arm with the values that it is based on; a seed without both values is left out.

    ranked: the same values, with the worst one for runs that diverged.
    """
    seeds, left, right = _pairs(baseline, arm)
    judgement = judged.judgement
    verdict: VerdictKind = judgement.verdict if question.refused is None else "none"
    collapses = sum(count for count, _ in judged.collapsed or ()) if question.primary else 0
    if verdict == "equivalent" and collapses:
        verdict = "inconclusive"  # of a rare collapse the mean of a few runs does not tell
    return Contrast(
        arm=question.arm,
        axis=question.axis,
        value=question.value,
        baseline_value=question.baseline_value,
        metric=question.metric.name,
        unit=question.metric.unit,
        primary=question.primary,
        method="own pairs" if judged.variants == 1 else "seed-blocked",
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
        beats=_beats(question.metric, *(ranked or (_finite(baseline), _finite(arm)))),
        hedges_g=judgement.hedges_g,
        p_value=judgement.p_value,
        own_p=judgement.own_p_value,
        signflip_p=judgement.signflip_p,
        residual_sd=judged.sd,
        residual_df=judged.df,
        pool_weight=judgement.pool_weight,
        df=judgement.df,
        rho=judged.rho,
        verdict=verdict,
        seeds_needed=judgement.seeds_needed if verdict == "inconclusive" and judgement.low is not None else None,
        labels=(
            *([COLLAPSED_RUNS] if collapses and verdict != "none" else []),
            *([PLACEBO_DIFFERS] if question.placebo and question.primary and verdict in DECIDED else []),
            *judgement.labels,
            *_labels(question, len(seeds)),
        ),
        sentence=_sentence(question, judged, verdict, left, right),
        floor=question.floor,
        bundle=question.bundle,
        error=judgement.error,
        corrected_effect=judgement.corrected_effect if verdict != "none" else None,
        pair_low=judgement.pair_low,
        pair_high=judgement.pair_high,
        step_p=judgement.step_p,
        confidence=question.confidence,
    )


def _finite(values: BySeed) -> BySeed:
    return {seed: value for seed, value in values.items() if value is not None and np.isfinite(value)}


def _beats(metric: MetricInfo, left: BySeed, right: BySeed) -> float | None:
    both = [(left[seed], right[seed]) for seed in left.keys() & right.keys()]
    values = np.asarray([pair for pair in both if None not in pair], dtype=np.float64).reshape(-1, 2)
    values = values[~np.any(np.isnan(values), axis=1)]
    return known(beats(values[:, 0], values[:, 1], bool(metric.lower_is_better)))


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


def _labels(question: Question, num_pairs: int) -> tuple[str, ...]:
    labels = [f"{num_pairs} of {question.num_seeds} seeds"] if num_pairs < question.num_seeds else []
    if question.lost:
        labels.append("MISSING SEEDS")
    if question.stopped:
        labels.append(f"STOPPED AT {question.num_seeds} SEEDS")
    return tuple(labels)


def _sentence(question: Question, judged: Judged, verdict: VerdictKind, left: Values, right: Values) -> str:
    lost = f"; without {', '.join(question.lost)}" if question.lost else ""
    subject = f"{question.change}, {question.metric.name}"
    if question.refused is not None:
        return f"{subject}: no verdict, because {question.refused}"
    one = judged.judgement
    if one.effect is None or one.low is None or one.high is None:
        return f"{subject}: inconclusive, {_no_interval(question, left, right)}{lost}"
    unit = f" {question.metric.unit}" if question.metric.unit else ""
    ends = f"{plain_figure(float(np.mean(left)))} -> {plain_figure(float(np.mean(right)))}{unit}, " if len(left) else ""
    steps = ""
    if BY_STEPS in one.labels and one.step_p is not None:
        steps = f"; step-down p {plain_figure(one.step_p, 2)}: the interval is simultaneous over all {judged.variants} variants"
    figures = f"{_figures(question, one, verdict)}; {counted(one.pairs, 'seed')}{lost}{steps}"
    figures += _collapse_words(judged, verdict) if question.primary else ""
    return f"{subject}: {_finding(question, one, verdict)}, {ends.removesuffix(', ')} ({figures})"


def _figures(question: Question, one: Judgement, verdict: VerdictKind) -> str:
    """The effect with its interval; of an equivalent one, the interval that is inside the margin as well."""
    assert one.effect is not None
    assert one.low is not None
    assert one.high is not None
    figures = change(one.effect, one.low, one.high, question.confidence)
    if verdict == "equivalent" and one.inner_low is not None and one.inner_high is not None:
        return f"{figures}; {equivalence(one.inner_low, one.inner_high)}"
    if verdict in DECIDED and one.corrected_effect is not None:
        return f"{figures}; corrected for selection {plain_figure(one.corrected_effect, 2)}"
    return figures


def _collapse_words(judged: Judged, verdict: VerdictKind) -> str:
    """`; no collapse in 10 runs, up to 26% possible`: of equivalent arms, and wherever a run collapsed."""
    if judged.collapsed is None:
        return ""
    (theirs, left), (own, right) = judged.collapsed
    if theirs or own:
        parts = [
            f"{count} of {counted(runs, 'run')} of the {name} collapsed"
            for name, count, runs in (("baseline", theirs, left), ("arm", own, right))
            if count
        ]
        withheld = ", so equivalence is not claimed" if verdict == "inconclusive" else ""
        return f"; {' and '.join(parts)}{withheld}"
    runs = min(left, right)
    if verdict != "equivalent" or not runs:
        return ""
    return (
        f"; no collapse in {counted(runs, 'run')} of either arm, up to {plain_percent(highest_rate(0, runs))} possible"
    )


def equivalence(low: float, high: float) -> str:
    """Return `equivalence interval [-0.006, 0.008]`: the one that has to be inside the margin."""
    return f"equivalence interval [{plain_figure(low, 2)}, {plain_figure(high, 2)}]"


def _finding(question: Question, one: Judgement, verdict: VerdictKind) -> str:
    if verdict == "equivalent":
        margin = f"within plus or minus {plain_figure(question.smallest_effect or 0.0)}"
        differs = one.low is not None and one.high is not None and one.low * one.high > 0
        return f"equivalent (not zero, but {margin})" if differs else f"equivalent ({margin})"
    if verdict != "inconclusive" or question.smallest_effect is None:
        return verdict
    needed = f"more than {MAX_SEEDS:,}" if one.seeds_needed is None else f"about {one.seeds_needed}"
    return f"inconclusive (needs {needed} seeds)"


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
    worst = None if metric.lower_is_better is None else math.inf if metric.lower_is_better else -math.inf
    ranked: dict[str, dict[int, float | None]] = {arm.name: {} for arm in plan.arms}
    for run in readings:
        values[run.arm][run.seed] = run.values[metric.name]
        ranked[run.arm][run.seed] = worst if run.status == "diverged" else run.values[metric.name]
    baseline = values[plan.baseline.name]
    variants = {name: values[name] for name in dict.fromkeys(represented_by.values())}
    step = rounding_of(plan, metric.name)
    together = judge_together(metric, baseline, variants, margin, interim_confidence, step)
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
            alone = {arm.name: values[arm.name]}
            judged = judge_together(metric, baseline, alone, margin, interim_confidence, step)[arm.name]
        yield contrast(question, judged, baseline, values[arm.name], (ranked[plan.baseline.name], ranked[arm.name]))


COUNTED = ("eval_accuracy", "best_eval_accuracy", "min_eval_accuracy", "max_eval_accuracy")
"""Metrics that are a count of examples over their number."""


def rounding_of(plan: Plan, metric: str) -> float:
    """Return the step of a metric that counts examples; 0 for any other, and where their number is not known."""
    examples = plan.baseline.derived.get("eval_examples")
    return 1 / float(examples) if metric in COUNTED and examples else 0.0


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

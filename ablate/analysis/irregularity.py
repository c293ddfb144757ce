"""Is the eval curve irregular, which suspect removes that, and does it change the training or only what is shown of it?

An observation axis on `eval.every` is read from the dense record of the baseline: the same runs, evaluated less often. Its
arms get contrasts as any other arm does. A baseline that is irregular in its dense record is irregular by its training, and
every arm is read there, from the most evaluations. One that is regular there has the symptom at a coarse cadence alone, and
every arm is read at the coarsest that has it. A suspect that changes the training does so in the runs themselves; one that
only evaluates more often shows the decrease that the coarse cadence misses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.answer_results import Irregularity, Suspect
from ablate.analysis.contrasts import Question, contrast, contrasts_of, judge_together
from ablate.analysis.interim import InterimReader
from ablate.analysis.load import common_evaluations
from ablate.analysis.resample import budget_of, finished_baseline
from ablate.analysis.results import Contrast, RunReading
from ablate.config.flatten import leaf_or_absent
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.errors import AblateError
from ablate.formatting import joined, plain_figure, plain_percent
from ablate.metrics.curves import MIN_EVALUATIONS
from ablate.metrics.metric import COMMON_EVALUATIONS, Metric, MetricInfo, Record
from ablate.metrics.registry import find, get_metric
from ablate.records.run_files import RunFiles
from ablate.stats.contrasts import CONFIDENCE

IRREGULAR = 0.25
"""Irregularity from which a curve is called irregular: its jumps fill a quarter of the height of its chart."""

GRAD_NORM = "grad_norm_p95_p5"

BySeed = Mapping[int, float | None]


@dataclass(frozen=True, slots=True)
class _Cadence:
    """An observation arm on `eval.every`, and the sample counts of its evaluations; the first one is before training."""

    arm: Arm
    samples: NDArray[np.int64]


def _cadences(plan: Plan, runs: Sequence[RunFiles]) -> list[_Cadence]:
    """The arms that the dense record of the baseline can show, the coarsest last."""
    found = []
    curves = [curve for run in finished_baseline(plan, runs) for curve in (run.curves or {}).values()]
    recorded = np.concatenate([np.empty(0, dtype=np.int64), *(curve.samples for curve in curves)])
    for arm in plan.arms:
        if arm.replayed and "eval.every" in arm.changes and len(recorded):
            try:
                due = budget_of(plan.baseline).due("eval.every", show(arm.changes["eval.every"]))
            except AblateError:
                continue  # a note of the analysis names it
            if np.isin(due, recorded).all():
                found.append(_Cadence(arm, np.union1d(recorded.min(), due)))
    return sorted(found, key=lambda one: -len(one.samples))


def _read(metric: Metric, run: RunFiles, samples: NDArray[np.int64]) -> float | None:
    """A run's value of a metric, from its evaluations at these sample counts."""
    if run.trace is None or run.curves is None:
        return None
    return metric(Record(trace=run.trace, curves=run.curves, common=samples))


def observation_contrasts(plan: Plan, metrics: Sequence[MetricInfo], runs: Sequence[RunFiles]) -> Iterator[Contrast]:
    """Yield the contrasts of every other cadence of `eval.every` with the record, on metrics of the curve, paired by seed.

    Each is judged alone, because a metric is noisier the fewer evaluations it is read from; the intervals hold for all
    cadences together (Bonferroni). A cadence changes nothing in the training: it raises or lowers a metric, and neither helps
    nor hurts.
    """
    cadences, baseline = _cadences(plan, runs), finished_baseline(plan, runs)
    every = common_evaluations(list(baseline))
    for info in metrics if cadences else ():
        metric = find(info.name)
        if metric is None or metric.curve != "eval" or info.cadence != COMMON_EVALUATIONS:
            continue
        sideless = replace(info, lower_is_better=None)
        record: BySeed = {run.seed: _read(metric, run, every) for run in baseline}
        arms = {one.arm.name: {run.seed: _read(metric, run, one.samples) for run in baseline} for one in cadences}
        read = [one for one in cadences if _known(arms[one.arm.name].values())]  # the others have too few evaluations
        margin = plan.smallest_effect if info.name == plan.metric else None
        confidence = 1 - (1 - CONFIDENCE) / max(len(read), 1)
        for one in read:
            question = Question(
                arm=one.arm.name,
                axis=one.arm.axis or "",
                value=one.arm.value,
                baseline_value=leaf_or_absent(plan.baseline.config, "eval.every"),
                metric=sideless,
                primary=info.name == plan.metric,
                smallest_effect=margin,
                num_seeds=len(plan.seeds),
                confidence=confidence,
            )
            name, alone = one.arm.name, None if len(read) == 1 else confidence
            judged = judge_together(sideless, record, {name: arms[name]}, margin, alone)
            yield contrast(question, judged[name], record, arms[name])


def irregularity_answer(
    plan: Plan,
    runs: Sequence[RunFiles],
    readings: Sequence[RunReading],
    common: NDArray[np.int64],
    represented_by: Mapping[str, str],
    checks: Sequence[Control],
    contrasts: Sequence[Contrast],
    observed: Sequence[Contrast],
    interims: InterimReader | None = None,
) -> Irregularity | None:
    """Return the answer in words and figures; None for a study without a cadence of evaluations or an irregularity to explain.

    contrasts: of the trained arms, at the evaluations of the record. observed: as `observation_contrasts` yields them.
    """
    primary, cadences = find(plan.metric), _cadences(plan, runs)
    curve = primary.recorded_as if primary is not None and primary.curve == "eval" else "loss"
    metric = get_metric(f"eval_{curve}_irregularity")
    if not cadences and metric.info.name != plan.metric:
        return None
    baseline = finished_baseline(plan, runs)
    by_cadence = _by_cadence(metric, cadences, baseline, common)
    symptom, base = _symptom(by_cadence)
    samples = np.intersect1d(symptom.samples, common) if symptom else common
    values = {(run.arm, run.seed): _read(metric, run, samples) for run in runs}
    coarse = [replace(run, values={metric.info.name: values.get((run.arm, run.seed))}) for run in readings]
    recorded = next((values for one, values in by_cadence if one is None), None)
    coarsest = next(((one, values) for one, values in by_cadence if one is not None), None)
    every = show(leaf_or_absent(plan.baseline.config, "eval.every"))
    about = Irregularity(
        metric=metric.info.name,
        cadence=show(symptom.arm.value) if symptom else every,
        record=every,
        threshold=IRREGULAR,
        baseline=float(np.mean(base)) if base else None,
        sd=float(np.std(base, ddof=1)) if len(base) > 1 else None,
        at_record=float(np.mean(recorded)) if recorded else None,
        coarsest=show(coarsest[0].arm.value) if coarsest else "",
        at_coarsest=float(np.mean(coarsest[1])) if coarsest else None,
        present=float(np.mean(base)) >= IRREGULAR if base else None,
    )
    if about.present:
        at_cadence = list(contrasts_of(plan, metric.info, represented_by, coarse, checks, interims))
        trained = [_trained(one, contrasts) for one in at_cadence if plan.arm(one.arm).kind != "placebo"]
        hides = (
            about.at_coarsest is None or about.at_coarsest < IRREGULAR
        )  # a coarse cadence that shows less explains nothing
        cadence = symptom or (coarsest[0] if coarsest and not hides else None)
        shown = next(
            (one for one in observed if cadence and (one.arm, one.metric) == (cadence.arm.name, about.metric)), None
        )
        suspects = (*trained, *([_shown(shown, about)] if shown is not None else []))
        about = replace(about, suspects=suspects, one_cause=_one_cause(about, suspects))
    answer = f"{_answer(about, curve)} {_about_cadence(about)}".rstrip()
    return replace(about, answer=answer, sentences=tuple(_sentences(about)))


_AtCadence = tuple[_Cadence | None, list[float]]
"""A cadence, None for the record, and the baseline's values at it."""


def _by_cadence(
    metric: Metric, cadences: Sequence[_Cadence], baseline: Sequence[RunFiles], common: NDArray[np.int64]
) -> list[_AtCadence]:
    """The cadences that have enough evaluations, the coarsest first and the record last."""
    found: list[_AtCadence] = []
    for cadence in (*reversed(cadences), None):
        samples = np.intersect1d(cadence.samples, common) if cadence else common_evaluations(list(baseline))
        if values := _known(_read(metric, run, samples) for run in baseline):
            found.append((cadence, values))
    return found


def _symptom(by_cadence: Sequence[_AtCadence]) -> _AtCadence:
    """The record if the baseline is irregular there, else the coarsest cadence at which it is, else the coarsest."""
    irregular = [one for one in by_cadence if np.mean(one[1]) >= IRREGULAR]
    if irregular and irregular[-1][0] is None:
        return irregular[-1]
    return next(iter((*irregular, *by_cadence)), (None, []))


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _trained(one: Contrast, contrasts: Sequence[Contrast]) -> Suspect:
    """A suspect that changes the training, read at the cadence of the symptom."""
    norm = next((other for other in contrasts if (other.arm, other.metric) == (one.arm, GRAD_NORM)), None)
    return Suspect(
        arm=one.arm,
        change=one.sentence.partition(f", {one.metric}:")[0],
        kind="training",
        before=one.baseline_mean,
        after=one.arm_mean,
        effect=one.effect,
        low=one.low,
        high=one.high,
        removed=_removed(one.baseline_mean, one.arm_mean),
        verdict=one.verdict,
        outcome=_outcome(one.verdict, one.arm_mean),
        grad_norm_before=norm.baseline_mean if norm else None,
        grad_norm_after=norm.arm_mean if norm else None,
        grad_norm_verdict=norm.verdict if norm else "",
    )


def _shown(one: Contrast, about: Irregularity) -> Suspect:
    """The suspect that changes only the cadence: from a coarse one back to the record."""
    turned = {"raises": "lowers", "lowers": "raises"}.get(one.verdict, one.verdict)
    return Suspect(
        arm=one.arm,
        change=f"{one.axis} {show(one.value)} -> {about.record}",
        kind="observation",
        before=one.arm_mean,
        after=one.baseline_mean,
        effect=None if one.effect is None else -one.effect,
        low=None if one.high is None else -one.high,
        high=None if one.low is None else -one.low,
        removed=_removed(one.arm_mean, one.baseline_mean),
        verdict=turned,
        outcome=_outcome(turned, one.baseline_mean),
    )


def _removed(before: float | None, after: float | None) -> float | None:
    return (before - after) / before if before and after is not None else None


def _outcome(verdict: str, after: float | None) -> Literal["removes", "reduces", "worsens", "not shown", "no verdict"]:
    if verdict == "none":
        return "no verdict"
    if verdict in ("helps", "lowers"):
        return "removes" if after is not None and after < IRREGULAR else "reduces"
    return "worsens" if verdict in ("hurts", "raises") else "not shown"


def _one_cause(about: Irregularity, suspects: Sequence[Suspect]) -> bool | None:
    """True where a trained suspect and the cadence both remove it, and the record has none left for the former to remove."""
    removing = {kind: [one for one in suspects if one.kind == kind and one.outcome == "removes"] for kind in _KINDS}
    if not all(removing.values()) or about.at_record is None:
        return None
    return about.at_record < IRREGULAR


_KINDS = ("training", "observation")
_HOW = {"training": "by changing the training", "observation": "only by showing the decrease"}


def _answer(about: Irregularity, curve: str) -> str:
    where = f"Evaluated every {about.cadence}, the baseline's eval {curve.replace('_', ' ')}"
    if about.present is None or about.baseline is None:
        return f"{where} has no irregularity to read: it needs {MIN_EVALUATIONS} evaluations after training began."
    scale = f"{plain_figure(about.baseline, 2)}; 0 is smooth, 1 is noise"
    if not about.present:
        return f"{where} is regular ({scale}): the symptom is absent, and no suspect is judged."
    by_outcome = {
        outcome: [one for one in about.suspects if one.outcome == outcome]
        for outcome in ("removes", "reduces", "worsens", "not shown", "no verdict")
    }
    parts = []
    for outcome in ("removes", "reduces"):
        for kind in _KINDS:
            found = [one for one in by_outcome[outcome] if one.kind == kind]
            if found:
                verb = outcome if len(found) == 1 else outcome.removesuffix("s")
                parts.append(f"{joined([_moved(one) for one in found])} {verb} it {_HOW[kind]}")
    head = "; ".join(parts) if parts else "no suspect is shown to remove it"
    rest = [f"{joined([one.change for one in by_outcome['worsens']])} makes it worse"] if by_outcome["worsens"] else []
    if by_outcome["not shown"]:
        rest.append(f"not shown to change it: {joined([_moved(one) for one in by_outcome['not shown']])}")
    if by_outcome["no verdict"]:
        rest.append(f"no verdict: {joined([one.change for one in by_outcome['no verdict']])}")
    return f"{where} is irregular ({scale}): {'; '.join([head, *rest])}."


def _moved(one: Suspect) -> str:
    """`batch_size 8 -> 64 (to 0.05, 94% less)`."""
    if one.after is None:
        return one.change
    less = f", {plain_percent(one.removed)} less" if one.removed is not None and one.removed > 0 else ""
    return f"{one.change} (to {plain_figure(one.after, 2)}{less})"


def _about_cadence(about: Irregularity) -> str:
    """Is it the training, the cadence, or are both explanations of one thing?"""
    if not about.present or about.at_record is None:
        return ""
    record = plain_figure(about.at_record, 2)
    trained = [one for one in about.suspects if one.kind == "training"]
    names = joined([one.change for one in trained if one.outcome == "removes"])
    if about.one_cause:
        return (
            f"{names} and the cadence are two explanations of one thing: evaluated every {about.record}, the baseline itself "
            f"is regular ({record}), and no irregularity is left to remove."
        )
    if about.cadence == about.record and about.at_coarsest is not None:
        at, coarse = f"evaluated every {about.coarsest}", plain_figure(about.at_coarsest, 2)
        if about.at_coarsest >= IRREGULAR:
            return f"It is not only a matter of the cadence: {at}, it is irregular as well ({coarse})."
        return f"{at.capitalize()}, it would appear regular ({coarse}): the cadence hides the irregularity of the training."
    if about.cadence != about.record:
        return f"Evaluated every {about.record}, the baseline is regular ({record}): the coarse cadence misses the decrease."
    return ""


def _sentences(about: Irregularity) -> Iterator[str]:
    trained = [one for one in about.suspects if one.kind == "training"]
    norms = [
        f"{one.change} {_NORM_VERBS.get(one.grad_norm_verdict, 'leaves it, as far as is shown, at')} "
        f"{plain_figure(one.grad_norm_after, 2)}"
        for one in trained
        if one.grad_norm_before is not None and one.grad_norm_after is not None
    ]
    if norms:
        before = plain_figure(next(one.grad_norm_before for one in trained if one.grad_norm_before is not None), 2)
        yield f"Gradient-norm spread (p95 - p5), {before} in the baseline: {'; '.join(norms)}. No cadence changes it."


_NORM_VERBS = {"lowers": "lowers it to", "raises": "raises it to", "helps": "lowers it to", "hurts": "raises it to"}

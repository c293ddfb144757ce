"""All contrasts of a study: of each outcome the variants from one table, every other arm by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ablate.analysis.contrasts import Question, contrast
from ablate.analysis.decide import LEVEL
from ablate.analysis.family import judge_together
from ablate.analysis.floors import floors, largest
from ablate.analysis.looks import Reader
from ablate.analysis.values import Contrast, Control, Floor, MetricInfo, RunReading
from ablate.design.leaves import leaf_or_absent
from ablate.design.plan import Arm, Plan


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
        if arm.replayed or arm.kind == "repeat":  # which changes nothing, so that there is no effect to infer
            continue
        question = Question(
            arm=arm.name,
            axis=arm.axis or "",
            level=arm.level,
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
            interval_level=look_level or LEVEL,
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

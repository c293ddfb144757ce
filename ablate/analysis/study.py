"""From a study folder to everything that a report shows. Reads only; a study that was killed half-way reads as far as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablate.analysis.adequacy import adequacy
from ablate.analysis.adopt import Asked
from ablate.analysis.attribution import answers, attribution
from ablate.analysis.checks import controls
from ablate.analysis.conclusions import conclusions
from ablate.analysis.contrasts import DECIDED, Question, contrast
from ablate.analysis.decide import LEVEL
from ablate.analysis.diverged import divergences
from ablate.analysis.family import family, judge_together
from ablate.analysis.floors import floors, largest
from ablate.analysis.looks import Reader, look, looks, next_at, reader
from ablate.analysis.method import method_notes
from ablate.analysis.readings import RunFiles, common_looks, read_plan, read_runs, reading
from ablate.analysis.replay import dense_share, finished_baseline, replay_level
from ablate.analysis.returned import metrics_of, settled
from ablate.analysis.values import Analysis, Contrast, Control, Floor, MetricInfo, ReplayedLevel, RunReading
from ablate.analysis.variance_study import crossed_controls, variance_study
from ablate.analysis.words import counted, joined
from ablate.design.axis import show
from ablate.design.leaves import leaf_or_absent
from ablate.design.plan import Arm, Plan
from ablate.errors import ConfigError
from ablate.record.rundir import StudyDir, write_json

ENDED = ("finished", "diverged", "failed", "interrupted")


def analyse(folder: Path, asked: Asked | None = None) -> Analysis:
    """Controls, contrasts, replays and conclusions of a study folder.

    asked: of a folder without a plan.json, whose arms are told from its runs. Raises StudyError when the folder has neither
    runs nor a readable plan.json; runs that are missing, going on or broken are readings with a status.
    """
    plan = read_plan(folder, asked)
    by_look = reader(folder, plan)
    plan = plan if by_look is None else by_look.due
    runs = read_runs(folder, plan)
    plan = settled(plan, runs)
    metrics = metrics_of(plan, runs)
    common = common_looks(runs)
    readings = tuple(reading(run, folder, common, [info.name for info in metrics]) for run in runs)
    checks = (*controls(plan, runs), *crossed_controls(plan, runs))
    chance = variance_study(plan, metrics, readings, checks)
    found = floors(plan, readings if by_look is None else by_look.at_last(readings), checks) if chance is None else ()
    speaks = family(plan, readings, checks)
    contrasts = tuple(
        one for metric in metrics for one in contrasts_of(plan, metric, speaks, readings, checks, by_look)
    )
    diverged = divergences(plan, speaks, readings)
    replays, refused = _replays(plan, runs)
    shared = attribution(plan, metrics, readings, checks, found)
    said = None if by_look is None else looks(by_look, runs, readings, contrasts)
    return Analysis(
        study=plan.study,
        question=plan.question,
        command=plan.command,
        metric=plan.metric,
        smallest_effect=plan.smallest_effect,
        seeds=plan.seeds,
        metrics=metrics,
        arms=tuple(_arm(plan, arm) for arm in plan.arms),
        contrasts=contrasts,
        divergences=diverged,
        replays=replays,
        controls=checks,
        runs=readings,
        floors=found,
        conclusions=(
            *answers(shared),
            *(said.sentences if said else ()),
            *([text for text in (chance.sentence, chance.advice) if text] if chance else ()),
            *conclusions(plan, contrasts, diverged, replays, dense_share(plan, runs), checks, readings, found),
        ),
        notes=(*plan.notes, *refused, *_notes(runs, contrasts, len(common))),
        complete=_complete(plan, readings),
        adequacy=adequacy(
            plan,
            runs,
            common,
            lambda metric, values: _verdicts(plan, metric, values, speaks, readings, checks, by_look),
        ),
        attribution=shared,
        looks=said,
        variance=chance,
    )


def look_at(folder: Path) -> dict[str, Any]:
    """What the next look at a study finds; its runs are all there. The study writes it down, once."""
    plan = read_plan(folder)
    before = reader(folder, plan)
    assert before is not None
    coming, due = next_at(before), before.due
    runs = read_runs(folder, due)
    due = settled(due, runs)
    common = common_looks(runs)
    metric = next(info for info in metrics_of(due, runs) if info.name == plan.metric)
    readings = tuple(reading(run, folder, common, [metric.name]) for run in runs)
    checks = controls(due, runs)
    found = contrasts_of(due, metric, family(due, readings, checks), readings, checks, coming)
    return look(plan, tuple(found), before.made)


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


def write_analysis(folder: Path, asked: Asked | None = None) -> Analysis:
    """`analyse`, and `analysis.json` replaced whole."""
    analysis = analyse(folder, asked)
    write_json(StudyDir(folder).analysis, analysis.to_json(), hide=True)
    return analysis


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
    spoken = {name: values[name] for name in dict.fromkeys(speaks.values())}
    together = judge_together(metric, baseline, spoken, margin, look_level)
    placebo = next((values[arm.name] for arm in plan.arms if arm.kind == "placebo"), None)
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
        yield contrast(question, judged, baseline, values[arm.name], placebo)


def _verdicts(
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


def _replays(plan: Plan, runs: Sequence[RunFiles]) -> tuple[tuple[ReplayedLevel, ...], list[str]]:
    """The levels of the observation axes, and a note for each that cannot be shown (yet)."""
    levels, notes = [], []
    finished = finished_baseline(plan, runs)
    for arm in (arm for arm in plan.arms if arm.replayed):
        if not finished:
            notes.append(f"{arm.name}: read from the baseline's record once a run of it has finished")
            continue
        key, level = next(iter(arm.changes.items()))
        try:
            levels.append(replay_level(plan, runs, key, show(level), arm=arm.name, axis=arm.axis or ""))
        except ConfigError as error:
            notes.append(f"{arm.name} is not shown: {error.problem}")
    return tuple(levels), notes


def _arm(plan: Plan, arm: Arm) -> dict[str, Any]:
    axis = plan.axis(arm.axis) if arm.axis else None
    return {
        "name": arm.name,
        "axis": arm.axis,
        "level": arm.level,
        "kind": arm.kind,
        "changes": arm.changes,
        "bundle": plan.bundle(arm),
        "derived": arm.derived,
        "question": axis.question if axis else "",
        "expect": axis.expect if axis else "",
        "source": axis.source if axis else "",
    }


def _notes(runs: Sequence[RunFiles], contrasts: Sequence[Contrast], num_common: int) -> Iterable[str]:
    origins = Counter(
        run.manifest.shared_from.partition("/")[0] for run in runs if run.manifest and run.manifest.shared_from
    )
    if origins:
        studies = joined([f"{study} ({count})" for study, count in origins.most_common()])
        yield f"{counted(origins.total(), 'run')} of {len(runs)} taken from studies that made the same ones before: {studies}"
    most = {
        run.arm: max((len(curve) for curve in (run.curves or {}).values()), default=0) for run in runs if run.finished
    }
    denser = [f"{arm} ({looks})" for arm, looks in most.items() if looks > num_common]
    if denser:
        yield (
            f"curve outcomes (best, roughness, area) are read at the {num_common} looks that all arms have in common, because "
            f"more looks alone find a lower best and more roughness; looked at more often or elsewhere: {joined(denser)}"
        )
    yield from method_notes(contrasts)
    if any(not one.primary and one.verdict in DECIDED for one in contrasts):
        yield (
            "secondary outcomes are corrected for the number of variants, not for their own: of twenty that nothing moves, "
            "about one is decided by chance; and they get no `no effect`, because a smallest effect was declared for the "
            "primary metric only"
        )
    if contrasts:
        yield "the claims are about this evaluation set: the sampling of its examples is not part of the intervals"


def _complete(plan: Plan, readings: Sequence[RunReading]) -> bool:
    ended = {(run.arm, run.seed) for run in readings if run.status in ENDED}
    return all((run.arm, run.seed) in ended for run in plan.runs)

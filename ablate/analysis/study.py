"""From a study folder to everything that a report shows. Reads only; a study that was killed half-way reads as far as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.amount import END
from ablate.analysis.adequacy import adequacy
from ablate.analysis.adopt import Asked
from ablate.analysis.attribution import answers, attribution
from ablate.analysis.checks import controls
from ablate.analysis.conclusions import conclusions
from ablate.analysis.contrasts import DECIDED, Question, contrast
from ablate.analysis.diverged import divergences
from ablate.analysis.effects import cell_effects, findings
from ablate.analysis.equal import ReadAt, read_at
from ablate.analysis.family import family, judge_together
from ablate.analysis.floors import floors, largest
from ablate.analysis.imported import check_readable, imported, in_brief, labelled, said_here
from ablate.analysis.mediation import mediated, said
from ablate.analysis.method import method_notes
from ablate.analysis.over_examples import over_examples
from ablate.analysis.readings import RunFiles, common_looks, common_rows, read_plan, read_runs, reading
from ablate.analysis.replay import dense_share, finished_baseline, replay_level
from ablate.analysis.returned import metrics_of, settled
from ablate.analysis.values import Analysis, Contrast, Control, Floor, MetricInfo, ReplayedLevel, RunReading
from ablate.analysis.words import counted, joined
from ablate.design.axis import show
from ablate.design.leaves import leaf_or_absent
from ablate.design.plan import Arm, Plan
from ablate.errors import ConfigError
from ablate.record.rundir import StudyDir, write_json

ENDED = ("finished", "diverged", "failed", "interrupted")


def analyse(folder: Path, asked: Asked | None = None, at: str | None = None) -> Analysis:
    """Controls, contrasts, replays and conclusions of a study folder.

    asked: of a folder without a plan.json, whose arms are told from its runs. at: compare the runs there, as in
    `ablate.amount`, and not where the plan says. Raises StudyError when the folder has neither
    runs nor a readable plan.json; runs that are missing, going on or broken are readings with a status.
    """
    plan = read_plan(folder, asked)
    return analysis_of(plan, read_runs(folder, plan), folder, at)


def analysis_of(plan: Plan, runs: list[RunFiles], folder: Path, at: str | None = None) -> Analysis:
    """The same of runs that have been read. folder: that of the study, which run folders are named from."""
    plan = settled(plan, runs)
    check_readable(plan, runs)
    metrics = metrics_of(plan, runs)
    common, read, logged = common_looks(runs), read_at(plan, runs, at), common_rows(runs)
    names = [info.name for info in metrics]
    readings = tuple(
        reading(run, folder, looks, names, logged) for run, looks in zip(read.runs, read.common, strict=True)
    )
    checks = controls(plan, runs)
    found = floors(plan, readings, checks)
    speaks = family(plan, readings, checks)
    contrasts = tuple(one for metric in metrics for one in _contrasts(plan, metric, speaks, readings, checks, found))
    contrasts = labelled(contrasts, runs, plan.baseline.name)
    diverged = divergences(plan, speaks, readings)
    replays, refused = _replays(plan, runs)
    # What the runs were to have at their end says nothing of where they are read.
    told = plan if read.budgets.unit == END else replace(plan, arms=tuple(replace(a, derived={}) for a in plan.arms))
    examples = over_examples(plan, read.runs, contrasts)
    elsewhere = imported(plan, runs, common)
    legible = [one for one in contrasts if elsewhere is None or one.metric not in elsewhere.not_read]
    shared = attribution(plan, metrics, readings, checks, found)
    through = mediated(plan, metrics, readings, runs, checks, found)
    effects = cell_effects(plan, metrics, readings, checks, found, contrasts)
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
            *([in_brief(elsewhere)] if elsewhere else []),
            *answers(shared),
            *said(through),
            *findings(effects),
            *conclusions(
                told, legible, diverged, replays, dense_share(plan, runs), said_here(runs, checks), readings, found
            ),
        ),
        notes=(*plan.notes, *refused, *_notes(read, contrasts), *([examples.scope] if examples else [])),
        complete=_complete(plan, readings),
        adequacy=adequacy(
            plan, runs, common, lambda metric, values: _verdicts(plan, metric, values, speaks, readings, checks), logged
        )
        if read.budgets.unit == END  # it is about the whole record
        else (),
        attribution=shared,
        examples=examples,
        budgets=read.budgets,
        mediated=through,
        effects=effects,
        imported=elsewhere,
    )


def write_analysis(folder: Path, asked: Asked | None = None, at: str | None = None) -> Analysis:
    """`analyse`, and `analysis.json` replaced whole; what was asked in the reading alone goes beside it."""
    analysis = analyse(folder, asked, at)
    write_json(folder / named(analysis, StudyDir(folder).analysis.name), analysis.to_json(), hide=True)
    return analysis


def named(analysis: Analysis, name: str) -> str:
    """`report.html`; `report.at-512-samples.html` of a study that is re-read at another amount than its plan's."""
    budgets = analysis.budgets
    if budgets is None or not budgets.reread:
        return name
    stem, _, end = name.partition(".")
    at = budgets.unit if budgets.amount is None else f"{budgets.amount:g}-{budgets.unit}"
    return f"{stem}.at-{at}.{end}"


def _contrasts(
    plan: Plan,
    metric: MetricInfo,
    speaks: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    found: Sequence[Floor],
) -> Iterator[Contrast]:
    """Of one outcome, arm by arm in plan order: the variants from one table, every other arm by itself."""
    primary = metric.name == plan.metric
    margin = plan.smallest_effect if primary else None
    values: dict[str, dict[int, float | None]] = {arm.name: {} for arm in plan.arms}
    for run in readings:
        values[run.arm][run.seed] = run.values[metric.name]
    baseline = values[plan.baseline.name]
    variants = {name: values[name] for name in dict.fromkeys(speaks.values())}
    together = judge_together(metric, baseline, variants, margin)
    placebo = next((values[arm.name] for arm in plan.arms if arm.kind == "placebo"), None)
    beside = judge_together(metric, placebo, variants, None) if placebo is not None else {}
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
            num_seeds=len(plan.seeds_of(arm)),
            refused=_refused(plan.baseline, arm, checks),
            lost=tuple(_lost(readings, (plan.baseline.name, arm.name))),
            chance=arm.kind == "placebo",
            floor=largest(found, metric.name),
        )
        if arm.name in speaks:
            judged = together[speaks[arm.name]]
        else:
            judged = judge_together(metric, baseline, {arm.name: values[arm.name]}, margin)[arm.name]
        yield contrast(question, judged, baseline, values[arm.name], beside.get(speaks.get(arm.name, "")))


def _verdicts(
    plan: Plan,
    metric: MetricInfo,
    values: Sequence[float | None],
    speaks: Mapping[str, str],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
) -> dict[str, str]:
    """What the study would say of every variant had its runs these values of an outcome; floors are had from them as well."""
    read = [replace(run, values={metric.name: value}) for run, value in zip(readings, values, strict=True)]
    found = _contrasts(plan, metric, speaks, read, checks, floors(plan, read, checks))
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


def _notes(read: ReadAt, contrasts: Sequence[Contrast]) -> Iterable[str]:
    runs, num_common = read.runs, max(map(len, read.common), default=0)
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


def _complete(plan: Plan, readings: Sequence[RunReading]) -> bool:
    ended = {(run.arm, run.seed) for run in readings if run.status in ENDED}
    return all((run.arm, run.seed) in ended for run in plan.runs)

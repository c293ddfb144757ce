"""From a study folder to everything that a report shows. Reads only; a study that was killed half-way reads as far as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ablate.analysis.adopt import Asked
from ablate.analysis.checks import controls
from ablate.analysis.conclusions import conclusions
from ablate.analysis.contrasts import Question, contrast
from ablate.analysis.floors import floors, largest
from ablate.analysis.readings import RunFiles, common_looks, read_plan, read_runs, reading
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


def analyse(folder: Path, asked: Asked | None = None) -> Analysis:
    """Controls, contrasts, replays and conclusions of a study folder.

    asked: of a folder without a plan.json, whose arms are told from its runs. Raises StudyError when the folder has neither
    runs nor a readable plan.json; runs that are missing, going on or broken are readings with a status.
    """
    plan = read_plan(folder, asked)
    runs = read_runs(folder, plan)
    plan = settled(plan, runs)
    metrics = metrics_of(plan, runs)
    common = common_looks(runs)
    readings = tuple(reading(run, folder, common, [info.name for info in metrics]) for run in runs)
    checks = controls(plan, runs)
    found = floors(plan, readings, checks)
    contrasts = tuple(
        _contrast(plan, arm, metric, readings, checks, found)
        for metric in metrics
        for arm in plan.arms[1:]
        if not arm.replayed and arm.kind != "repeat"  # which changes nothing, so that there is no effect to infer
    )
    replays, refused = _replays(plan, runs)
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
        replays=replays,
        controls=checks,
        runs=readings,
        floors=found,
        conclusions=conclusions(plan, contrasts, replays, dense_share(plan, runs), checks, readings, found),
        notes=(*plan.notes, *refused, *_notes(runs, contrasts, len(common))),
        complete=_complete(plan, readings),
    )


def write_analysis(folder: Path, asked: Asked | None = None) -> Analysis:
    """`analyse`, and `analysis.json` replaced whole."""
    analysis = analyse(folder, asked)
    write_json(StudyDir(folder).analysis, analysis.to_json(), hide=True)
    return analysis


def _contrast(
    plan: Plan,
    arm: Arm,
    metric: MetricInfo,
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    found: Sequence[Floor],
) -> Contrast:
    primary = metric.name == plan.metric
    question = Question(
        arm=arm.name,
        axis=arm.axis or "",
        level=arm.level,
        bundle=plan.bundle(arm),
        baseline_level=_baseline_level(plan, arm),
        metric=metric,
        primary=primary,
        smallest_effect=plan.smallest_effect if primary else None,
        num_seeds=len(plan.seeds_of(arm)),
        refused=_refused(plan.baseline, arm, checks),
        lost=tuple(_lost(readings, (plan.baseline.name, arm.name))),
        chance=arm.kind == "placebo",
        floor=largest(found, metric.name),
    )

    def values(name: str) -> dict[int, float | None]:
        return {run.seed: run.values[metric.name] for run in readings if run.arm == name}

    placebo = next((other.name for other in plan.arms if other.kind == "placebo"), None)
    return contrast(question, values(plan.baseline.name), values(arm.name), values(placebo) if placebo else None)


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
    decided = [one for one in contrasts if not one.primary and one.verdict in ("helps", "hurts", "raises", "lowers")]
    if decided:
        yield (
            "secondary outcomes are not corrected for their number: of twenty that nothing moves, about one is decided by "
            "chance; and they get no `no effect`, because a smallest effect was declared for the primary metric only"
        )
    if contrasts:
        yield "the claims are about this evaluation set: the sampling of its examples is not part of the intervals"


def _complete(plan: Plan, readings: Sequence[RunReading]) -> bool:
    ended = {(run.arm, run.seed) for run in readings if run.status in ENDED}
    return all((run.arm, run.seed) in ended for run in plan.runs)

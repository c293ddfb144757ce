"""Analysis of a study directory: everything that a report shows. It only reads, and incomplete studies are analysed as well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.attribution import attribution, attribution_sentences
from ablate.analysis.comparison_point import ReadAt, read_at
from ablate.analysis.contrasts import contrasts_of, family, verdicts
from ablate.analysis.controls import controls
from ablate.analysis.divergence import divergences
from ablate.analysis.eval_cadence import adequacy
from ablate.analysis.example_variance import over_examples
from ablate.analysis.factorial import design_effects, effect_sentences
from ablate.analysis.imported_runs import check_readable, controls_to_conclude, imported, in_brief, labelled
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.interim import InterimReader, interim_reader, interim_report, interim_result, next_interim
from ablate.analysis.irregularity import irregularity_answer, observation_contrasts
from ablate.analysis.learning import (
    SMOKE_RUN,
    label_learning,
    learned_controls,
    learning,
    learning_sentence,
    smoke_control,
)
from ablate.analysis.load import (
    common_evaluations,
    common_rows,
    metrics_of,
    read_plan,
    read_runs,
    reading,
    settled,
)
from ablate.analysis.mediation import mediation, mediation_sentences
from ablate.analysis.noise_floor import floors
from ablate.analysis.resample import finished_baseline, recorded_share, resample_value
from ablate.analysis.results import Analysis, Contrast, ResampledCadence, RunReading
from ablate.analysis.summary import conclusions, method_notes
from ablate.analysis.variance_components import crossed_controls, variance_study
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.errors import ConfigError
from ablate.formatting import counted, joined
from ablate.metrics.metric import MetricInfo
from ablate.records.layout import StudyDir
from ablate.records.run_files import RunFiles
from ablate.serialization import write_json
from ablate.stats.verdicts import DECIDED
from ablate.units import END

ENDED = ("finished", "diverged", "failed", "interrupted")


def analyse(folder: Path, options: PlanOptions | None = None, at: str | None = None) -> Analysis:
    """Return controls, contrasts, resampled cadences and conclusions of a study directory.

    options: for a directory without a plan.json, whose arms are inferred from its runs. at: compare the runs there, as in
    `ablate.units`, and not where the plan says. Raises StudyError when the folder has neither
    runs nor a readable plan.json; runs that are missing, going on or broken are readings with a status.
    """
    plan = read_plan(folder, options)
    interims = interim_reader(folder, plan)
    plan = plan if interims is None else interims.due
    return analysis_of(plan, read_runs(folder, plan), folder, at, interims)


def analysis_of(
    plan: Plan, runs: list[RunFiles], folder: Path, at: str | None = None, interims: InterimReader | None = None
) -> Analysis:
    """Analyse runs that have been read.

    folder: study directory, which run directories are relative to. interims: of a sequential study, whose runs are those up to
    its next interim analysis.
    """
    plan = settled(plan, runs)
    check_readable(plan, runs)
    metrics = metrics_of(plan, runs)
    common, read, logged = common_evaluations(runs), read_at(plan, runs, at), common_rows(runs)
    readings = _readings(read, folder, metrics, logged)
    smoke_run = bool(plan.baseline.config.get("study", {}).get("smoke_run", False))
    learned = learning(plan, read.runs)
    checks = (
        *controls(plan, runs),
        *crossed_controls(plan, runs),
        *(() if smoke_run else learned_controls(plan, learned)),
    )
    variance = variance_study(plan, metrics, readings, checks)
    last = readings if interims is None else interims.at_last(readings)
    measured_floors = floors(plan, last, checks) if variance is None else ()
    represented_by = family(plan, readings, checks)
    contrasts = tuple(
        one for metric in metrics for one in contrasts_of(plan, metric, represented_by, readings, checks, interims)
    )
    contrasts = labelled(contrasts, runs, checks, plan.baseline.name)
    observed = tuple(observation_contrasts(plan, metrics, runs)) if read.budgets.unit == END else ()
    contrasts, observed = (
        tuple(label_learning(one, plan.baseline.name, learned, smoke_run=smoke_run) for one in group)
        for group in (contrasts, observed)
    )
    diverged = divergences(plan, represented_by, readings)
    replays, refused = _replays(plan, runs)
    # What the runs were planned to have at their end does not apply where they are read earlier.
    planned = plan if read.budgets.unit == END else replace(plan, arms=tuple(replace(a, derived={}) for a in plan.arms))
    examples = over_examples(plan, read.runs, contrasts)
    external = imported(plan, runs, common)
    legible = [one for one in contrasts if external is None or one.metric not in external.not_read]
    judged = (*checks, smoke_control(plan)) if smoke_run else checks
    attributed = attribution(plan, metrics, readings, judged)
    mediated = mediation(plan, metrics, readings, runs, judged)
    effects = design_effects(plan, metrics, readings, judged, contrasts)
    irregular = None
    if read.budgets.unit == END and not smoke_run:
        irregular = irregularity_answer(
            plan, runs, readings, common, represented_by, checks, contrasts, observed, interims
        )
    interim = None if interims is None else interim_report(interims, runs, readings, contrasts)
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
        floors=measured_floors,
        conclusions=(
            *([SMOKE_RUN] if smoke_run else []),
            *([text] if not smoke_run and (text := learning_sentence(plan, learned)) else []),
            *([in_brief(external)] if external else []),
            *([irregular.answer, *irregular.sentences] if irregular else []),
            *attribution_sentences(attributed),
            *mediation_sentences(mediated),
            *effect_sentences(effects),
            *(interim.sentences if interim else ()),
            *([text for text in (variance.sentence, variance.advice) if text] if variance else ()),
            *conclusions(
                planned,
                legible,
                diverged,
                replays,
                recorded_share(plan, runs),
                controls_to_conclude(runs, checks),
                readings,
                measured_floors,
            ),
        ),
        notes=(*plan.notes, *refused, *_notes(read, contrasts), *([examples.scope] if examples else [])),
        complete=_complete(plan, readings),
        adequacy=adequacy(
            plan,
            runs,
            common,
            lambda metric, values: verdicts(plan, metric, values, represented_by, readings, checks, interims),
            logged,
        )
        if read.budgets.unit == END  # it is about the whole record
        else (),
        attribution=attributed,
        examples=examples,
        budgets=read.budgets,
        mediated=mediated,
        effects=effects,
        imported=external,
        interim=interim,
        learning=learned,
        observed=observed,
        irregularity=irregular,
        smoke_run=smoke_run,
        variance=variance,
    )


def analyse_interim(folder: Path) -> dict[str, Any]:
    """Return the result of the next interim analysis, whose runs have all ended; the study records it once."""
    plan = read_plan(folder)
    before = interim_reader(folder, plan)
    assert before is not None
    coming, due = next_interim(before), before.due
    runs = read_runs(folder, due)
    due = settled(due, runs)
    metric = next(info for info in metrics_of(due, runs) if info.name == plan.metric)
    readings = _readings(read_at(due, runs, None), folder, [metric], common_rows(runs))
    checks = (*controls(due, runs), *learned_controls(due, learning(due, runs)))
    found = contrasts_of(due, metric, family(due, readings, checks), readings, checks, coming)
    return interim_result(plan, tuple(found), before.made)


def write_analysis(folder: Path, options: PlanOptions | None = None, at: str | None = None) -> Analysis:
    """Analyse, and write `analysis.json`; an analysis at another comparison point gets a file of its own."""
    analysis = analyse(folder, options, at)
    write_json(folder / named(analysis, StudyDir(folder).analysis.name), analysis.to_json(), hide=True)
    return analysis


def named(analysis: Analysis, name: str) -> str:
    """Return `report.html`, or `report.at-512-samples.html` of an analysis at another amount than the plan's."""
    budgets = analysis.budgets
    if budgets is None or not budgets.reread:
        return name
    stem, _, end = name.partition(".")
    at = budgets.unit if budgets.amount is None else f"{budgets.amount:g}-{budgets.unit}"
    return f"{stem}.at-{at}.{end}"


def _readings(
    read: ReadAt, folder: Path, metrics: Sequence[MetricInfo], logged: NDArray[np.float64] | None
) -> tuple[RunReading, ...]:
    names = [info.name for info in metrics]
    return tuple(reading(run, folder, rows, names, logged) for run, rows in zip(read.runs, read.common, strict=True))


def _replays(plan: Plan, runs: Sequence[RunFiles]) -> tuple[tuple[ResampledCadence, ...], list[str]]:
    """Return the levels of the observation axes, and a note for each that cannot be shown yet."""
    levels, notes = [], []
    finished = finished_baseline(plan, runs)
    for arm in (arm for arm in plan.arms if arm.replayed):
        if not finished:
            notes.append(f"{arm.name}: read from the baseline's record once a run of it has finished")
            continue
        key, level = next(iter(arm.changes.items()))
        try:
            levels.append(resample_value(plan, runs, key, show(level), arm=arm.name, axis=arm.axis or ""))
        except ConfigError as error:
            notes.append(f"{arm.name} is not shown: {error.problem}")
    return tuple(levels), notes


def _arm(plan: Plan, arm: Arm) -> dict[str, Any]:
    axis = plan.axis(arm.axis) if arm.axis else None
    return {
        "name": arm.name,
        "axis": arm.axis,
        "value": arm.value,
        "kind": arm.kind,
        "changes": arm.changes,
        "bundle": plan.bundle(arm),
        "derived": arm.derived,
        "question": axis.question if axis else "",
        "expect": axis.hypothesis if axis else "",
        "source": axis.reference if axis else "",
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
    denser = [f"{arm} ({count})" for arm, count in most.items() if count > num_common]
    if denser:
        yield (
            f"curve metrics (best, irregularity, auc) use the {num_common} evaluations that all arms have in common, because "
            f"they depend on the evaluations that are read; evaluated more often or at other steps: {joined(denser)}"
        )
    yield from method_notes(contrasts)
    if any(not one.primary and one.verdict in DECIDED for one in contrasts):
        yield (
            "secondary metrics are corrected for the number of variants, not for the number of metrics: of twenty without an "
            "effect, about one is significant by chance; equivalence is not claimed for them, because the smallest effect of "
            "interest is declared for the primary metric only"
        )


def _complete(plan: Plan, readings: Sequence[RunReading]) -> bool:
    ended = {(run.arm, run.seed) for run in readings if run.status in ENDED}
    return all((run.arm, run.seed) in ended for run in plan.runs)

"""Load a study: its plan, every run of it, and each run's value of every metric."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.infer_plan import PlanOptions, adopt
from ablate.analysis.results import RunReading
from ablate.design import plan as frozen_plan
from ablate.design.plan import Plan, Run, run_digest
from ablate.errors import ConfigError, StudyError
from ablate.metrics.metric import MetricInfo, Record
from ablate.metrics.registry import METRICS, check_recorded, find, get_metric, recorded
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest
from ablate.records.returned_values import BARE, choose_metric
from ablate.records.run_files import RunFiles, read_run


def read_plan(folder: Path, options: PlanOptions | None = None) -> Plan:
    """Read `plan.json` of a study directory; without one, infer the plan that its runs could have had.

    options: for a directory without a plan. Raises StudyError where there is neither plan nor runs, or a plan that cannot be
    read; ConfigError where `options` sets what the plan has fixed.
    """
    study = StudyDir(folder)
    if not study.plan.exists():
        if any(True for _ in study.runs()):
            return adopt(folder, options or PlanOptions())
        others = sorted(plan.parent.name for plan in folder.parent.glob("*/plan.json"))
        fix = (
            f"studies in {folder.parent}: {', '.join(others)}" if others else "run one first: ablate -m axis=batch_size"
        )
        raise StudyError(f"{str(folder)!r} is not a study folder: it has no plan.json", fix)
    if options is not None and options.anything:
        raise ConfigError(
            f"{str(folder)!r} has a plan.json, which fixed the metric, the smallest effect and what each axis accepts before "
            "the first run",
            f"ablate report {folder}; another metric is another study: study.name=... study.metric=...",
        )
    return frozen_plan.read_plan(folder)


def planned_runs(folder: Path, plan: Plan) -> Iterator[tuple[str, Run, RunDir]]:
    """Yield (arm, run, run directory) of every trained arm at every seed, in plan order; arms of equal digest share one."""
    study = StudyDir(folder)
    planned = {(run.arm, run.seed): run for run in plan.runs}
    shared = {run.digest: run for run in reversed(plan.runs)}
    for arm in (arm for arm in plan.arms if not arm.replayed):
        for seed in plan.seeds_of(arm):
            run = planned.get((arm.name, seed))
            if run is None and plan.app is None:
                run = shared.get(
                    run_digest(arm.config, seed=seed, code_digest=plan.code_digest, data=arm.data, model=arm.model)
                )
            if run is not None:
                yield arm.name, run, study.run(run.arm, run.seed)


def of_plan(plan: Plan, run: Run, manifest: Manifest) -> bool:
    """Return False for the manifest of a run with other settings or other code than the plan's."""
    asked = {"digest": manifest.digest, "request": manifest.request, "code_digest": manifest.code_digest}
    return not manifest.digest or plan.keeps(run, **asked)


def read_runs(folder: Path, plan: Plan) -> list[RunFiles]:
    """Read every trained arm at every seed, in plan order."""
    return [
        read_run(run_dir, arm=arm, seed=run.seed, accept=partial(of_plan, plan, run))
        for arm, run, run_dir in planned_runs(folder, plan)
    ]


def settled(plan: Plan, runs: Sequence[RunFiles]) -> Plan:
    """Return the plan with the name of its metric: `hydra.sweeper.metric` may be left out where main returns one value.

    Raises ConfigError for an unknown metric, and where one of several values must be chosen.
    """
    if plan.app is None:
        check_recorded(plan.metric, [list(run.curves) for run in runs if run.curves])
        return plan
    names = _returned_names(runs)
    return replace(plan, metric=choose_metric(plan.metric, names) if names else plan.metric or BARE)


def metrics_of(plan: Plan, runs: Sequence[RunFiles]) -> tuple[MetricInfo, ...]:
    """Return the metrics of a report: the primary one, the standard ones, the final value of any other that was evaluated.

    For an external app: the values that it returned, then the metrics of its record.
    """
    if plan.app is None:
        measured = recorded(metric for run in runs for metric in run.curves or {})
        return tuple(get_metric(name).info for name in dict.fromkeys((plan.metric, *METRICS, *measured)))
    returned = dict.fromkeys((plan.metric, *_returned_names(runs)))
    sides = {plan.metric: plan.app.lower_is_better}
    infos = [
        MetricInfo(name=name, unit="", definition="As returned by the app.", lower_is_better=sides.get(name))
        for name in returned
    ]
    if any(run.trace is not None for run in runs):
        infos += [one.info for name, one in METRICS.items() if name not in returned]
    return tuple(infos)


def _returned_names(runs: Sequence[RunFiles]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.returned or ()))


def common_evaluations(runs: list[RunFiles]) -> NDArray[np.int64]:
    """Return the sample counts at which every finished run was evaluated, ascending."""
    counts = [set(curve.samples.tolist()) for run in runs for curve in (run.curves or {}).values()]
    return np.asarray(sorted(set.intersection(*counts)) if counts else [], dtype=np.int64)


def common_rows(runs: list[RunFiles]) -> NDArray[np.float64] | None:
    """Return the sample counts at which every finished run logged a training loss; None where all recorded every step.

    Empty where the runs do not have the same rows in the last tenth: a mean over other rows is another metric.
    """
    if not any(run.sparse for run in runs if run.finished):
        return None
    rows = [set(run.trace["samples"][run.trace.recorded("loss")].tolist()) for run in runs if run.trace is not None]
    late = [{count for count in counts if count > 0.9 * max(counts)} for counts in rows if counts]
    same = len(late) == len(rows) and all(counts == late[0] for counts in late)
    return np.asarray(sorted(set.intersection(*rows)) if same and rows else [], dtype=np.float64)


def reading(
    run: RunFiles,
    study: Path,
    common: NDArray[np.int64],
    metrics: Iterable[str] = tuple(METRICS),
    logged: NDArray[np.float64] | None = None,
) -> RunReading:
    """Return a run's value of every metric; only a finished run has any. logged: as in `Record`."""
    values: dict[str, float | None] = dict.fromkeys(metrics)
    if run.trace is not None and run.curves is not None:
        record = Record(trace=run.trace, curves=run.curves, common=common, logged=logged)
        values |= {name: known(record) for name in values if (known := find(name)) is not None}
    values |= {name: value for name, value in (run.returned or {}).items() if np.isfinite(value)}
    return RunReading(
        arm=run.arm,
        seed=run.seed,
        folder=run.folder.path.relative_to(study).as_posix(),
        status=run.status,
        sentence=run.sentence,
        weights_sha256=run.weights,
        values=values,
        throughput=run.outcome.throughput if run.outcome else _throughput(run),
    )


def _throughput(run: RunFiles) -> dict[str, float]:
    """From the steps of a run without a status, such as one that a time limit stopped."""
    trace = run.recorded_trace()
    seconds = float(np.sum(trace["step_seconds"])) if trace is not None else 0.0
    if trace is None or seconds <= 0:
        return {}
    return {
        "train_samples_per_second": float(trace["samples"][-1]) / seconds,
        "train_tokens_per_second": float(trace["tokens"][-1]) / seconds,
        "train_steps_per_second": len(trace) / seconds,
        "train_seconds": seconds,
    }

"""Every run of a plan as it lies on disk now: finished, ended otherwise, still going, or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.infer_plan import Asked, adopt
from ablate.analysis.results import Contrast, RunReading
from ablate.design.interim import Course
from ablate.design.plan import Arm, Plan, Run, run_digest
from ablate.errors import ConfigError, RecordError, StudyError
from ablate.metrics.metric import MetricInfo, Record
from ablate.metrics.registry import OUTCOMES, find
from ablate.records.interim import Look
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Fingerprint, Manifest, Outcome, read_fingerprint, read_manifest, read_outcome
from ablate.records.reader import EvalCurve, Trace, read_evals, read_trace
from ablate.records.returned_values import read_returned
from ablate.serialization import read_json


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """One run. status: that of its outcome, or `running` (going on, or killed), `missing`, `unreadable`.

    trace, curves: of a finished run; curves by metric, on the held-out split. returned: of a run of an app that is not ours,
        which may have neither.
    """

    arm: str
    seed: int
    folder: RunDir
    status: str
    sentence: str
    manifest: Manifest | None = None
    outcome: Outcome | None = None
    fingerprint: Fingerprint | None = None
    trace: Trace | None = None
    curves: dict[str, EvalCurve] | None = None
    returned: dict[str, float] | None = None

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def sparse(self) -> bool:
        """Whether it was imported and has no gradient norm for each of its steps."""
        imported = self.manifest is not None and bool(self.manifest.origin)
        return imported and not (
            self.trace is not None
            and len(self.trace) > 0
            and self.trace.every_step
            and bool(self.trace.told("grad_norm").all())
        )

    @property
    def weights(self) -> str | None:
        return self.outcome.weights_sha256 if self.outcome and self.finished else None


def read_plan(folder: Path, asked: Asked | None = None) -> Plan:
    """`plan.json` of a study folder; where there is none but runs are, the plan that they could have had.

    asked: for a folder without a plan. Raises StudyError where there is neither, or a plan that cannot be read; ConfigError
    where something is asked that the plan has fixed.
    """
    path = StudyDir(folder).plan
    if asked is not None and asked.anything and path.exists():
        raise ConfigError(
            f"{str(folder)!r} has a plan.json, which fixed the metric, the smallest effect and what each axis accepts before "
            "the first run",
            f"ablate report {folder}; another metric is another study: study.name=... study.metric=...",
        )
    if not path.exists() and any(True for _ in StudyDir(folder).runs()):
        return adopt(folder, asked or Asked())
    if not path.exists():
        beside = sorted(found.parent.name for found in folder.parent.glob("*/plan.json"))
        known = (
            f"studies in {folder.parent}: {', '.join(beside)}" if beside else "run one first: ablate -m axis=batch_size"
        )
        raise StudyError(f"{str(folder)!r} is not a study folder: it has no plan.json", known)
    try:
        return Plan.from_json(read_json(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path} cannot be read as a plan: {type(error).__name__}: {error}",
            "remove the study folder and run it again",
        ) from None


def read_runs(folder: Path, plan: Plan) -> list[RunFiles]:
    """Every trained arm at every seed, in plan order; arms of equal digest share one folder."""
    study = StudyDir(folder)
    planned = {(run.arm, run.seed): run for run in plan.runs}
    shared = {run.digest: run for run in reversed(plan.runs)}

    def digest(arm: Arm, seed: int) -> str:
        return run_digest(arm.config, seed=seed, code_digest=plan.code_digest, data=arm.data, model=arm.model)

    found = []
    for arm in (arm for arm in plan.arms if not arm.replayed):
        for seed in plan.seeds_of(arm):
            run = planned.get((arm.name, seed)) or shared.get(digest(arm, seed))
            if run is not None:
                found.append(_read(study.run(run.arm, run.seed), arm.name, run, plan))
    return found


def read_alone(folder: RunDir) -> RunFiles:
    """A run by itself, whatever study it belongs to. Raises RecordError where its manifest cannot be read."""
    if folder.leads_out():
        raise RecordError(
            f"{folder.path} or a file in it is a link that leads out, and is not followed", "copy the files"
        )
    manifest = read_manifest(folder)
    found = _read(folder, manifest.arm, Run(arm=manifest.arm, seed=manifest.seed, digest=manifest.digest), None)
    return found if found.manifest is not None else replace(found, manifest=manifest)


def _read(folder: RunDir, arm: str, run: Run, plan: Plan | None) -> RunFiles:
    """plan: None of a run by itself, which is whatever it is."""
    common: dict[str, Any] = {"arm": arm, "seed": run.seed, "folder": folder}
    if not folder.manifest.exists():
        return RunFiles(**common, status="missing", sentence="has not been started")
    if folder.leads_out():
        sentence = f"{folder.path} or a file in it is a link that leads out of the study, and is not followed"
        return RunFiles(**common, status="unreadable", sentence=sentence)
    try:
        manifest, outcome, fingerprint = read_manifest(folder), read_outcome(folder), read_fingerprint(folder)
        if (
            plan is not None
            and manifest.digest
            and not plan.keeps(run, digest=manifest.digest, request=manifest.request, code_digest=manifest.code_digest)
        ):
            sentence = "the folder holds a run of other settings or other code than the plan's"
            return RunFiles(**common, status="missing", sentence=sentence)
        common |= {"manifest": manifest, "outcome": outcome, "fingerprint": fingerprint}
        if outcome is None:
            return RunFiles(
                **common, status="running", sentence=f"no outcome yet, {_how_far(folder)}: still going, or killed"
            )
        if outcome.status != "finished":
            return RunFiles(**common, status=outcome.status, sentence=outcome.message)
        common |= {"returned": read_returned(folder)}
        if common["returned"] is not None and not folder.trace.exists():
            return RunFiles(**common, status="finished", sentence=outcome.message)
        evals = read_evals(folder.evals)
        curves = {metric: evals.curve(metric) for metric in evals.metrics()}
        trace = read_trace(folder.trace)
    except (RecordError, TypeError) as error:
        return RunFiles(**{**common, "outcome": None}, status="unreadable", sentence=str(error))
    return RunFiles(**common, status="finished", sentence=outcome.message, trace=trace, curves=curves)


def _how_far(folder: RunDir) -> str:
    try:
        return f"{len(read_trace(folder.trace))} steps recorded"
    except RecordError:
        return "no step recorded"


def common_looks(runs: list[RunFiles]) -> NDArray[np.int64]:
    """Sample counts at which every finished run was looked at, ascending."""
    looks = [set(curve.samples.tolist()) for run in runs for curve in (run.curves or {}).values()]
    return np.asarray(sorted(set.intersection(*looks)) if looks else [], dtype=np.int64)


def common_rows(runs: list[RunFiles]) -> NDArray[np.float64] | None:
    """Sample counts at which every finished run has a training loss; None where all of them recorded every step.

    Empty where their rows of the last tenth are not the same ones: what is read from other rows is another outcome.
    """
    if not any(run.sparse for run in runs if run.finished):
        return None
    rows = [set(run.trace["samples"][run.trace.told("loss")].tolist()) for run in runs if run.trace is not None]
    late = [{count for count in mine if count > 0.9 * max(mine)} for mine in rows if mine]
    same = len(late) == len(rows) and all(mine == late[0] for mine in late)
    return np.asarray(sorted(set.intersection(*rows)) if same and rows else [], dtype=np.float64)


def reading(
    run: RunFiles,
    study: Path,
    common: NDArray[np.int64],
    metrics: Iterable[str] = tuple(OUTCOMES),
    logged: NDArray[np.float64] | None = None,
) -> RunReading:
    """A run's value of every metric; only a finished run has any, because half a curve is another outcome. logged: `Record`."""
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
        throughput=run.outcome.throughput if run.outcome else _throughput(run.folder),
    )


def _throughput(folder: RunDir) -> dict[str, float]:
    """Of a run without an outcome, such as one that a time limit cut off: from its rows."""
    try:
        trace = read_trace(folder.trace)
    except RecordError:
        return {}
    seconds = float(np.sum(trace["step_seconds"])) if len(trace) else 0.0
    if seconds <= 0:
        return {}
    return {
        "train_samples_per_second": float(trace["samples"][-1]) / seconds,
        "train_tokens_per_second": float(trace["tokens"][-1]) / seconds,
        "train_steps_per_second": len(trace) / seconds,
        "train_seconds": seconds,
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A study's looks, as far as they have been made. plan: the whole one, as it was frozen."""

    plan: Plan
    made: tuple[Look, ...]
    course: Course
    levels: tuple[float, ...]

    @property
    def due(self) -> Plan:
        """What is read: the runs up to the next look, or up to the last one."""
        return self.course.due(self.plan)

    def contrasts(self, metric: MetricInfo, readings: Sequence[RunReading], read: ReadAt) -> Iterator[Contrast]:
        """In plan order, each arm at the last look that counts for it; none before the first look, whatever has run."""
        found: dict[str, Contrast] = {}
        for number in range(self.course.made):
            seeds = self.course.looks[number]
            then = self.course.at(self.plan, seeds)
            counted_runs = {(run.arm, run.seed) for run in then.runs}
            seen = [run for run in readings if (run.arm, run.seed) in counted_runs]
            early = {arm: last for arm, last in self.course.stops.items() if last <= seeds < self.course.looks[-1]}
            for one in read(then, metric, seen, self.levels[number], early):
                if self.course.stop_of(one.arm) == seeds:
                    found[one.arm] = one
        return iter([found[arm.name] for arm in self.plan.arms if arm.name in found])

    def at_last(self, readings: Sequence[RunReading]) -> list[RunReading]:
        """What the last look has read; nothing before the first."""
        if not self.course.made:
            return []
        planned = self.course.at(self.plan, self.course.looks[self.course.made - 1]).runs
        known = {(run.arm, run.seed) for run in planned}
        return [run for run in readings if (run.arm, run.seed) in known]


ReadAt = Callable[[Plan, MetricInfo, Sequence[RunReading], float, Mapping[str, int]], Iterator[Contrast]]
"""The contrasts of a plan on one outcome at a level; variants that have stopped by then, with their number of seeds."""

"""Where the runs of a folder lie, without reading what they recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.design.plan import Arm, Plan, Run, run_digest
from ablate.errors import RecordError
from ablate.record.rundir import RunDir, StudyDir
from ablate.record.values import read_manifest


@dataclass(frozen=True, slots=True)
class Place:
    """One run of an arm. Arms of equal digest have one folder."""

    arm: str
    seed: int
    run: RunDir


def places(folder: Path, plan: Plan) -> Iterator[Place]:
    """Every run of the plan that has begun, arm by arm; not what another plan has left in its folder."""
    study = StudyDir(folder)
    planned = {(run.arm, run.seed): run for run in plan.runs}
    shared = {run.digest: run for run in reversed(plan.runs)}
    for arm in (arm for arm in plan.arms if not arm.replayed):
        for seed in plan.seeds_of(arm):
            run = planned.get((arm.name, seed)) or shared.get(_digest(plan, arm, seed))
            if run is not None and _is_of(plan, run, place := study.run(run.arm, run.seed)):
                yield Place(arm.name, seed, place)


def _digest(plan: Plan, arm: Arm, seed: int) -> str:
    """Of a run that shares another's, '' where none does."""
    if plan.app is not None or not plan.code_digest:
        return ""
    return run_digest(arm.config, seed=seed, code_digest=plan.code_digest, data=arm.data, model=arm.model)


def _is_of(plan: Plan, run: Run, place: RunDir) -> bool:
    if not place.manifest.exists() or place.leads_out():
        return False
    try:
        manifest = read_manifest(place)
    except RecordError:
        return False
    asked = {"digest": manifest.digest, "request": manifest.request, "code_digest": manifest.code_digest}
    return not manifest.digest or plan.keeps(run, **asked)

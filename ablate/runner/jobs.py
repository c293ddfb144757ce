"""Jobs: runs with everything that a launcher needs, made from a plan or composed from overrides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ablate.config.flatten import changed
from ablate.config.schema import BASELINE, make_config
from ablate.design.plan import Plan, Run, config_digest, digest_by, read_plan, request_digest, what_counts
from ablate.errors import StudyError
from ablate.hashing import Planned
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.source_code import code_digest, code_files

if TYPE_CHECKING:
    from ablate.planning.compose import Composer
    from ablate.planning.planner import Prepared

SINGLE = "single"
"""Folder of the runs that belong to no study."""

_NOT_IN_ARM_NAME = ("seed", "study.", "study=", "tracker", "hydra")


class _Named(Protocol):
    @property
    def arm(self) -> str: ...

    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run to do."""

    arm: str
    seed: int
    config: dict[str, Any]
    """Resolved and complete, with arm and seed. An external app's own config for one of its runs."""
    folder: Path
    """Run directory."""
    changes: dict[str, Any]
    """What the arm changes, `{key: value}`."""
    digest: str
    planned: Planned = field(default_factory=Planned)
    """What the digest was computed from."""
    overrides: tuple[str, ...] = ()
    """The same run in Hydra's grammar, for launchers whose processes run on other machines."""
    command: tuple[str, ...] = ()
    """Command line of a run of an external app; empty for our own runs."""
    external: bool = False
    """Whether it is a run of an external app."""

    @property
    def name(self) -> str:
        return run_name(self)

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder)


def run_name(run: _Named) -> str:
    """Return `<arm>/seed=<n>`."""
    return f"{run.arm}/seed={run.seed}"


def planned_jobs(prepared: Prepared, plan: Plan, runs: Iterable[Run]) -> list[Job]:
    """Return jobs for some runs of a frozen plan.

    prepared: the composed study, whose overrides other machines need. plan: the same plan as it was frozen.
    """
    jobs = []
    for run in runs:
        arm = plan.arm(run.arm)
        named = {} if plan.app is not None else {"arm": run.arm, "seed": run.seed}
        jobs.append(
            Job(
                arm=run.arm,
                seed=run.seed,
                config={**arm.config, **named},
                folder=StudyDir(prepared.folder).run(run.arm, run.seed).path,
                changes=arm.changes,
                digest=run.digest,
                planned=Planned(request=run.request, data=arm.data, code=plan.code),
                overrides=tuple(prepared.job(run)),
                external=plan.app is not None,
            )
        )
    return jobs


def composed_job(composer: Composer, overrides: Sequence[str]) -> Job:
    """Return the job that overrides describe: a run of a frozen plan, or a run of its own.

    A run of its own is stored in `<study.output_dir>/single/<its overrides>/seed=<n>`. Raises StudyError where the study
    directory holds a plan without that run.
    """
    config = composer.compose(overrides)
    folder = study_folder(config)
    if StudyDir(folder).plan.exists():
        changes, digest, planned = _as_planned(folder, config)
    else:
        config = {**config, "arm": _arm_name(config, overrides), "study": {**config["study"], "name": folder.name}}
        base = what_counts(composer.compose())
        changes = {key: after for key, (_, after) in changed(base, what_counts(config)).items()}
        planned = _planned_alone(config)
        digest = digest_by(planned.request, code_digest(planned.code))
    return Job(
        arm=config["arm"],
        seed=config["seed"],
        config=config,
        folder=StudyDir(folder).run(config["arm"], config["seed"]).path,
        changes=changes,
        digest=digest,
        planned=planned,
    )


def study_folder(config: dict[str, Any]) -> Path:
    """Return the study directory of a config; `<study.output_dir>/single` for a run that belongs to no study."""
    study = make_config(config).study
    return Path(study.output_dir) / safe_name(study.name or SINGLE)


def _as_planned(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], str, Planned]:
    """Return what the plan in a study directory says of a run: changes of its arm, digest, and what that was computed from."""
    plan = _plan_in(folder, StudyDir(folder).plan.stat().st_mtime_ns)
    run = next((run for run in plan.runs if (run.arm, run.seed) == (config["arm"], config["seed"])), None)
    if run is not None:
        arm = plan.arm(run.arm)
        if run.request == request_digest(config_digest(config), seed=run.seed, data=arm.data, model=arm.model):
            return arm.changes, run.digest, Planned(request=run.request, data=arm.data, code=plan.code)
    raise StudyError(
        f"{folder} holds a study, and its plan has no run {config['arm']}, seed {config['seed']} of this config",
        "study.name=<another> for a separate run",
    )


@lru_cache(maxsize=4)
def _plan_in(folder: Path, _written: int) -> Plan:
    """Read a plan once for all jobs of a process; `_written` distinguishes it from an earlier one in the same directory."""
    return read_plan(folder)


def _planned_alone(config: dict[str, Any]) -> Planned:
    """Return what the digest of a run of its own is computed from. Raises DataError or ModelError."""
    from ablate.tasks.sizes import data_facts

    facts = data_facts(make_config(config))
    request = request_digest(config_digest(config), seed=config["seed"], data=facts.data, model=facts.model)
    return Planned(request=request, data=facts.data, code=code_files([config["task"]["entry_point"]]))


def _arm_name(config: dict[str, Any], overrides: Sequence[str]) -> str:
    if config["arm"] != BASELINE:
        return str(config["arm"])
    return ",".join(sorted(text for text in overrides if not text.startswith(_NOT_IN_ARM_NAME))) or BASELINE

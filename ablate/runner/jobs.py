"""Jobs: runs with everything that a launcher needs, made from a plan or composed from overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.flatten import changed
from ablate.config.schema import BASELINE, make_config
from ablate.design.plan import Plan, Run, config_digest, digest_by, request_digest, what_counts
from ablate.errors import StudyError
from ablate.hashing import Planned
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.source_code import code_digest, code_files

if TYPE_CHECKING:
    from ablate.planning.compose import Composer

_SINGLE = "single"
"""Folder of the runs that belong to no study."""

_NOT_IN_ARM_NAME = ("seed", "study.", "study=", "tracker", "hydra")


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
    notes: tuple[str, ...] = ()
    """Sentences about the data of a run of its own."""

    @property
    def name(self) -> str:
        """`<arm>/seed=<n>`."""
        return f"{self.arm}/seed={self.seed}"

    @property
    def run(self) -> RunDir:
        return RunDir(self.folder)


def planned_job(plan: Plan, folder: Path, run: Run, overrides: Sequence[str] = ()) -> Job:
    """Return the job of one run of a frozen plan. folder: study directory."""
    arm = plan.arm(run.arm)
    named = {} if plan.app is not None else {"arm": run.arm, "seed": run.seed}
    return Job(
        arm=run.arm,
        seed=run.seed,
        config={**arm.config, **named},
        folder=StudyDir(folder).run(run.arm, run.seed).path,
        changes=arm.changes,
        digest=run.digest,
        planned=Planned(request=run.request, data=arm.data, code=plan.code),
        overrides=tuple(overrides),
        external=plan.app is not None,
    )


def composed_job(composer: Composer, overrides: Sequence[str]) -> Job:
    """Return the job of a run of its own, stored in `<study.output_dir>/single/<its overrides>/seed=<n>`.

    Raises DataError or ModelError, and StudyError where the directory belongs to a study.
    """
    from ablate.tasks.registry import data_facts

    config = composer.compose(overrides)
    typed = make_config(config)
    folder = Path(typed.study.output_dir) / safe_name(typed.study.name or _SINGLE)
    arm = typed.arm
    if arm == BASELINE:
        arm = ",".join(sorted(text for text in overrides if not text.startswith(_NOT_IN_ARM_NAME))) or BASELINE
    if StudyDir(folder).plan.exists():
        raise StudyError(
            f"{folder} holds a study whose plan does not have this run", "study.name=<another> for a separate run"
        )
    facts = data_facts(typed)
    request = request_digest(config_digest(config), seed=typed.seed, data=facts.data, model=facts.model)
    planned = Planned(request=request, data=facts.data, code=code_files([typed.task.entry_point]))
    base = what_counts(composer.compose())
    return Job(
        arm=arm,
        seed=typed.seed,
        config={**config, "arm": arm, "study": {**config["study"], "name": folder.name}},
        folder=StudyDir(folder).run(arm, typed.seed).path,
        changes={key: after for key, (_, after) in changed(base, what_counts(config)).items()},
        digest=digest_by(request, code_digest(planned.code)),
        planned=planned,
        notes=facts.notes,
    )

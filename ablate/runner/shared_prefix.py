"""The checkpoints that a study's baselines lend to their siblings: which are left, and who begins at one. The worker's side."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ablate.design.plan import Plan
from ablate.errors import RecordError
from ablate.planning.shared_prefix import sharing
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_status

if TYPE_CHECKING:
    pass


# When a baseline's lent checkpoints go. Knows no torch.


def tidy(study: StudyDir, plan: Plan, seeds: Iterable[int]) -> None:
    """Remove what the baselines of these seeds have lent, where they have ended and every arm that shares has ended too, or
    goes on from a checkpoint of its own."""
    arms, planned = list(sharing(plan)), {(run.arm, run.seed) for run in plan.runs}
    for seed in seeds:
        lent = study.run(plan.baseline.name, seed).lent
        mine = [arm for arm in (plan.baseline.name, *arms) if (arm, seed) in planned]
        if lent.exists() and all(_needs_none(study.run(arm, seed)) for arm in mine):
            shutil.rmtree(lent, ignore_errors=True)


def _needs_none(run: RunDir) -> bool:
    return status(run) in ("finished", "diverged", "failed") or has_checkpoint(run)


def has_checkpoint(run: RunDir) -> bool:
    """Whether a run can go on from its own."""
    return next(run.checkpoint.glob("step=*"), None) is not None


def status(run: RunDir) -> str | None:
    """How a run ended; None while it has not."""
    try:
        outcome = read_status(run)
    except (RecordError, TypeError):
        return None  # what cannot be read is no result
    return outcome.status if outcome is not None else None

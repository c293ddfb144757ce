"""The checkpoints that a study's baselines lend to their siblings: which are left, and who begins at one. The worker's side."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ablate.config.schema import Config
from ablate.design.plan import Plan
from ablate.errors import AblateError, RecordError
from ablate.hashing import digest_of
from ablate.planning.shared_prefix import FEWEST_STEPS, shared_prefix, sharing
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_fingerprint, read_manifest, read_status
from ablate.records.reader import read_trace
from ablate.serialization import read_json

if TYPE_CHECKING:
    from ablate.training.shared_prefix import Lend, Prefix


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


LADDER = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Where a baseline saves for arms that clip otherwise, in parts of the steps that they can share at best; it ends at the first
gradient that is clipped."""


class Lending:
    """One run's part in it. What cannot be read or proven is no failure: the run takes all its steps itself."""

    def __init__(self, run: RunDir, config: Config) -> None:
        self.run, self.config = run, config
        self.study = StudyDir(run.path.parent.parent)
        self.plan = _plan(self.study) if config.study.share_prefix else None
        self._sharing = sharing(self.plan) if self.plan is not None else {}

    def leaves(self) -> Lend | None:
        """What this run leaves for arms that are still to come; None where it is no baseline, or where none can share."""
        if self.plan is None or self.config.arm != self.plan.baseline.name:
            return None
        from ablate.training.shared_prefix import Ladder, Lend

        coming = [shared for arm, shared in self._sharing.items() if not self._has(arm, "finished", "diverged")]
        sure = {shared.step for shared in coming if shared.clips_at is None}
        ladders = {(shared.clips_at, _rungs(shared.step)) for shared in coming if shared.clips_at is not None}
        lend = Lend(at_steps=tuple(sorted(sure)), ladders=tuple(Ladder(*one) for one in sorted(ladders)))
        return lend if coming else None

    def begins(self, environment: Mapping[str, Any]) -> tuple[Prefix | None, str]:
        """Where this run may begin, and a sentence about it, empty for one that never shares, or that goes on from its own.

        environment: as the fingerprint has it: the sibling's steps must have been taken in the very same.
        """
        if self.plan is None or self.config.arm not in self._sharing or has_checkpoint(self.run):
            return None, ""
        try:
            found = self._find(self.plan, environment)
        except (AblateError, OSError, ValueError, KeyError, TypeError) as error:
            found = f"the sibling's record cannot be read ({str(error).splitlines()[0]})"
        if isinstance(found, str):
            return None, f"takes every step itself: {found}"
        return found, f"begins after step {found.step} of {found.name}, which is the same run up to there"

    def tidy(self) -> None:
        """Remove what this seed's baseline has lent, once nobody needs it any more."""
        if self.plan is not None:
            tidy(self.study, self.plan, [self.config.seed])

    def _find(self, plan: Plan, environment: Mapping[str, Any]) -> Prefix | str:
        """Where to begin, or why not."""
        from ablate.training import checkpoint
        from ablate.training.shared_prefix import Prefix

        base, seed = plan.baseline, self.config.seed
        name, sibling = f"{base.name}/seed={seed}", self.study.run(base.name, seed)
        if not self._has(base.name, "finished", "diverged"):
            return f"{name} has no result yet"
        digest = next((run.digest for run in plan.runs if (run.arm, run.seed) == (base.name, seed)), "")
        if read_manifest(sibling).digest != digest:
            return f"{name} was made by other code"
        fingerprint = read_fingerprint(sibling)
        if fingerprint is None or digest_of(fingerprint.items.get("environment")) != digest_of(dict(environment)):
            return f"{name} was made in another environment"
        norms = read_trace(sibling.trace, ["grad_norm"])["grad_norm"]
        config = plan.arm(self.config.arm).config
        shared = shared_prefix(base.config, config, int(base.derived["train_examples"]), norms)
        if not shared.step:
            return shared.reason
        usable = [step for step in checkpoint.steps(sibling.lent) if step <= shared.step]
        if not usable:
            return f"{name} has left no checkpoint in the {shared.step} steps that are shared: {shared.reason}"
        return Prefix(run=sibling.path, name=name, step=max(usable), may_differ=shared.may_differ)

    def _has(self, arm: str, *statuses: str) -> bool:
        return status(self.study.run(arm, self.config.seed)) in statuses


def _rungs(most: int) -> tuple[int, ...]:
    return tuple(sorted({math.ceil(part * most) for part in LADDER if part * most >= FEWEST_STEPS}))


def _plan(study: StudyDir) -> Plan | None:
    """The study's plan, where there is one that can be read: a run of its own has none."""
    try:
        return Plan.from_json(read_json(study.plan))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None

"""Checkpoints that pass between runs: one lends them, and a sibling whose first steps are the same ones begins there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.records.layout import RunDir
from ablate.serialization import read_json
from ablate.training import checkpoint


@dataclass(frozen=True, slots=True)
class Ladder:
    """Of `steps`, the newest before the gradient norm first reaches `norm`: for a sibling that is the same run until then, and
    nobody knows until when. Each step's checkpoint replaces the one before it."""

    norm: float
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lend:
    """What a run leaves in `<run>/lent/`, beside its own checkpoints, until somebody removes it.

    at_steps: a checkpoint after each of these steps. ladders: one more for each of them, at most.
    """

    at_steps: tuple[int, ...] = ()
    ladders: tuple[Ladder, ...] = ()

    def is_wanted(self, step: int, largest_norm: float) -> bool:
        """Whether a checkpoint after this step is of use. largest_norm: of the gradient, up to there."""
        return step in self.at_steps or any(step in one.steps and largest_norm < one.norm for one in self.ladders)

    def may_be_wanted(self, step: int) -> bool:
        """The same for somebody who does not know the norm."""
        return self.is_wanted(step, 0.0)

    def kept(self, largest_norms: Mapping[int, float]) -> set[int]:
        """The steps of those checkpoints that are of use, of all that are there. largest_norms: by step."""
        rungs = [[step for step in one.steps if largest_norms.get(step, one.norm) < one.norm] for one in self.ladders]
        return set(self.at_steps) | {max(steps) for steps in rungs if steps}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """Where a run begins that shares its first steps with a sibling: at a checkpoint which the sibling has lent.

    run: the sibling's folder. name: what the record calls it. step: of the checkpoint.
    may_differ: items of the set-up that were proven not to matter up to that step; all others must be equal.
    """

    run: Path
    name: str
    step: int
    may_differ: tuple[str, ...] = ()


def largest_norms(lent: Path) -> dict[int, float]:
    """{step: largest gradient norm up to it} of the checkpoints that are there."""
    found = {}
    for step, folder in checkpoint.steps(lent).items():
        state = read_json(folder / "state.json")
        found[step] = float(state["observer"]["largest_norm"])
    return found


def remove_after(lent: Path, step: int) -> None:
    """Remove what a run that begins or goes on at `step` will make again, with other extents of its tables."""
    for later, folder in checkpoint.steps(lent).items():
        if later > step:
            shutil.rmtree(folder, ignore_errors=True)


def prune(lent: Path, lend: Lend) -> None:
    """Remove what is of use to nobody."""
    kept = lend.kept(largest_norms(lent))
    for step, folder in checkpoint.steps(lent).items():
        if step not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def begin(prefix: Prefix, setup: Mapping[str, Any], run: RunDir, *, records: bool) -> checkpoint.Saved:
    """The checkpoint to begin from; the sibling's rows up to there lie in the run's folder then, in place of an earlier try's.

    records: whether this process writes the record.
    Raises LoopError where the checkpoint is gone, or naming what differs between the set-ups and was not proven harmless.
    """
    theirs = RunDir(prefix.run)
    saved = checkpoint.at(theirs.lent, prefix.step)
    checkpoint.check_same_setup(saved, setup, may_differ=prefix.may_differ)
    if records:
        run.path.mkdir(parents=True, exist_ok=True)
        run.progress.unlink(missing_ok=True)
        for source, target in ((theirs.trace, run.trace), (theirs.evals, run.evals)):
            shutil.copyfile(source, target)
            # The rest is cut off, and a file that is too short is found out, where the table is opened.
    observer = {**saved.state["observer"], "prefix_from": {"run": prefix.name, "step": prefix.step}}
    return checkpoint.Saved(saved.folder, {**saved.state, "observer": observer})

"""A frozen plan and its runs: what lies there already, what is still to do, and nobody else at it. Knows no torch."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.design.axis import show
from ablate.design.leaves import changed
from ablate.design.plan import Plan, Run
from ablate.errors import RecordError, StudyError
from ablate.record.digest import digest_of
from ablate.record.rundir import RunDir, StudyDir, read_json, write_json
from ablate.record.values import read_manifest, read_outcome
from ablate.study.planner import Prepared

Launch = Callable[[Sequence[Sequence[str]], int], Any]
"""Hydra's `Launcher.launch`: the overrides of every job, and the number of the first one."""


def read_plan(folder: Path) -> Plan:
    """The plan that is frozen in a study folder. Raises StudyError when there is none, or none that can be read."""
    path = StudyDir(folder).plan
    try:
        return Plan.from_json(read_json(path))
    except FileNotFoundError:
        raise StudyError(
            f"{folder} is no study: there is no {path.name} in it", "ablate -m axis=... makes one"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(f"{path} cannot be read: {error}", f"remove {folder}, or study.name=<another>") from None


def freeze(plan: Plan, folder: Path) -> None:
    """Write plan.json before the first run, or check that the one which lies there is this very plan.

    Raises StudyError naming what differs first, RecordError when the folder cannot be written. Leaves nothing then.
    """
    check_writable(folder)
    if not check_same_study(plan, folder):
        write_json(StudyDir(folder).plan, plan.to_json() | {"digest": plan.digest})


def check_same_study(plan: Plan, folder: Path) -> bool:
    """Whether this very plan lies there already. Raises StudyError when another study's runs do."""
    study = StudyDir(folder)
    if not study.plan.exists():
        return False
    before = read_plan(folder)
    if before.digest == plan.digest:
        return True
    if next(study.runs(), None) is not None:
        raise StudyError(
            f"{folder} holds another study: {_first_difference(before, plan)}",
            f"study.name={_next_name(folder)} for a new one beside it, or remove {folder}",
        )
    return False


def check_writable(folder: Path) -> None:
    """Raises RecordError when `folder` cannot be made or written, before anything is made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise RecordError(f"{folder} cannot be made: {place} is a file", "study.root=<a folder>")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RecordError(f"{folder} cannot be written: no permission to write in {place}", "study.root=<a folder>")


def _first_difference(before: Plan, now: Plan) -> str:
    if before.code_digest != now.code_digest:
        return (
            f"its runs were made by other code of ablate (digest {before.code_digest[:12]} there, "
            f"{now.code_digest[:12]} now)"
        )
    for name, key in (
        ("study.seeds", "seeds"),
        ("study.metric", "metric"),
        ("study.smallest_effect", "smallest_effect"),
    ):
        left, right = getattr(before, key), getattr(now, key)
        if left != right:
            left, right = (len(left), len(right)) if key == "seeds" else (left, right)
            return f"{name} is {left} there and {right} now"
    for key, (left, right) in changed(
        before.counted()["arms"][0]["config"], now.counted()["arms"][0]["config"]
    ).items():
        return f"the baseline's {key} is {show(left)} there and {show(right)} now"
    names = ([arm.name for arm in before.arms], [arm.name for arm in now.arms])
    if names[0] != names[1]:
        return f"its arms are {', '.join(names[0])} there and {', '.join(names[1])} now"
    where = next(key for key, value in before.counted().items() if digest_of(value) != digest_of(now.counted()[key]))
    return f"`{where}` of its plan.json is not what is asked now"


def _next_name(folder: Path) -> str:
    number = 2
    while folder.with_name(f"{folder.name}_{number}").exists():
        number += 1
    return f"{folder.name}_{number}"


def pending(plan: Plan, folder: Path) -> list[Run]:
    """The runs that are still to do; finished and diverged ones of equal digest are kept."""
    return [run for run in plan.runs if not is_done(folder, run)]


def is_done(folder: Path, run: Run) -> bool:
    """Whether the run's result lies there, made from the same config by the same code."""
    return holds_result(StudyDir(folder).run(run.arm, run.seed), run.digest)


def holds_result(place: RunDir, digest: str) -> bool:
    """Whether a run folder holds a result of this digest. Diverging is a result; failing and being interrupted are none."""
    outcome = read_outcome(place)
    if outcome is None or outcome.status not in ("finished", "diverged"):
        return False
    return place.manifest.exists() and read_manifest(place).digest == digest


def run_study(prepared: Prepared, launch: Launch) -> Path:
    """Freeze the plan and launch what is still to do. Returns the study's folder."""
    check_writable(prepared.folder)
    try:
        prepared.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{prepared.folder} cannot be made: {error.strerror}", "study.root=<a folder>") from None
    with _alone_in(prepared.folder):
        freeze(prepared.plan, prepared.folder)
        waiting = pending(prepared.plan, prepared.folder)
        if waiting:
            launch([prepared.job(run) for run in waiting], 0)
    return prepared.folder


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time runs a study; the lock goes with the process, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(
                f"{folder} is being run by another process", f"wait for it, or study.name={_next_name(folder)}"
            ) from None
        yield
    finally:
        os.close(handle)

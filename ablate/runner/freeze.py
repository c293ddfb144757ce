"""Freeze a plan in its study directory before the first run, and refuse a directory that holds another study."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from ablate.config.flatten import changed
from ablate.design.axis import show
from ablate.design.plan import Plan, Run, free_name, read_plan, write_plan
from ablate.errors import RecordError, StudyError
from ablate.hashing import digest_of
from ablate.records.layout import StudyDir
from ablate.records.metadata import Manifest
from ablate.records.returned_values import read_returned
from ablate.records.source_code import code_digest
from ablate.runner.locks import Locks
from ablate.runner.reuse import has_result, imports_changed, stored, what_changed

OPEN_LOCK = "open"
"""First part of the names of locks that say that a study is being run."""


def freeze(plan: Plan, folder: Path, *, accept_code_change: bool = False) -> Plan:
    """Write plan.json before the first run, unless the same plan is stored already. Returns it with the code it accepts.

    Raises StudyError with the first difference from a stored plan, RecordError where nothing can be written.
    """
    check_writable(folder)
    frozen = settled(plan, folder, accept_code_change=accept_code_change)
    if not _is_stored(frozen, folder):
        write_plan(frozen, folder)
    return frozen


def _is_stored(plan: Plan, folder: Path) -> bool:
    try:
        before = read_plan(folder)
    except StudyError:
        return False
    return (before.digest, before.accepted) == (plan.digest, plan.accepted)


def settled(plan: Plan, folder: Path, *, accept_code_change: bool = False) -> Plan:
    """Return the plan in the form that its study directory stores, or will store.

    Raises StudyError where the directory holds runs of another study, or runs of this one by other code that the user has not
    accepted.
    """
    study = StudyDir(folder)
    if not study.plan.exists():
        return plan
    key = "study.name" if plan.app is None else "hydra.sweeper.name"
    try:
        stored_plan = read_plan(folder, rename=f"{key}=<another>")
    except StudyError:
        if not _made_all_runs(plan, study):
            raise
        print(f"{study.plan} was damaged; all runs there are of this command, which writes it again", flush=True)
        return plan
    before = _renamed_metric(stored_plan, plan, study)
    instead = f"{key}={free_name(folder)}"
    if before.digest == plan.digest or _differs_in_code_alone(before, plan):
        return _with_code_accepted(before, plan, folder, accept=accept_code_change, instead=instead)
    if _has_runs(study, plan) or _is_being_run(folder):
        more = (
            "; seeds are not added after a result is known, except by a rule declared before: study.stopping=sequential"
            if plan.app is None
            and len(before.seeds) != len(plan.seeds)
            and not (before.interim_seeds or plan.interim_seeds)
            else ""
        )
        raise StudyError(
            f"{folder} holds another study: {_first_difference(before, plan)}",
            f"{instead} for a new one, or remove {folder}{more}",
        )
    return plan


def _made_all_runs(plan: Plan, study: StudyDir) -> bool:
    """Return whether every run of a directory that can be read is one of the plan: its damaged plan.json was this plan then."""
    planned = {run.digest: (run.arm, run.seed) for run in plan.runs}
    manifests = [manifest for run in study.runs() if (manifest := stored(run)[1]) is not None]
    return bool(manifests) and all(planned.get(one.digest) == (one.arm, one.seed) for one in manifests)


def _differs_in_code_alone(before: Plan, now: Plan) -> bool:
    requested = [
        {key: item for key, item in plan.counted().items() if key not in ("code", "code_digest", "runs")}
        for plan in (before, now)
    ]
    runs = [[(run.arm, run.seed, run.request) for run in plan.runs] for plan in (before, now)]
    return requested[0] == requested[1] and runs[0] == runs[1]


def _with_code_accepted(before: Plan, now: Plan, folder: Path, *, accept: bool, instead: str) -> Plan:
    """Return `now` with the code that `before` had accepted.

    before: the plan stored in `folder`, equal except perhaps for its code. instead: the text to type for a new study.
    Where runs were made by other code, `accept` adds that code to what the plan keeps, with a note; otherwise StudyError is
    raised, which names the files.
    """
    notes = (*now.notes, *(note for note in before.notes if note.startswith(_NOTE)))
    plan = replace(now, accepted=before.accepted, notes=tuple(dict.fromkeys(notes)))
    others = [manifest for manifest in _results(before, folder) if _is_other(plan, manifest)]
    if not others:
        return plan
    files = list(dict.fromkeys(text for manifest in others for text in what_changed(manifest, now.code)))
    shown = ", ".join(files[:6]) + (f" and {len(files) - 6} more" if len(files) > 6 else "")
    runs = f"{len(others)} of its runs {'was' if len(others) == 1 else 'were'} made by other code"
    if not accept:
        keep = "--accept-code-change keeps them, and the study and its report say so; or " if now.app is None else ""
        raise StudyError(
            f"{folder}: {runs}: {shown or 'files that were not recorded'}", f"{keep}{instead} for a new study"
        )
    accepted = list(before.accepted)
    for manifest in others:
        accepted += [manifest.code_digest, *[code_digest(manifest.imported)] * bool(imports_changed(manifest))]
    kept = tuple(digest for digest in dict.fromkeys(accepted) if digest != now.code_digest)
    return replace(plan, accepted=kept, notes=(*plan.notes, f"{_NOTE}: {runs}: {shown}"))


_NOTE = "code that changed was accepted"


def _results(plan: Plan, folder: Path) -> Iterator[Manifest]:
    """Yield the manifest of every run of the plan that has a result. A run without one begins again anyway."""
    for run in plan.runs:
        run_dir = StudyDir(folder).run(run.arm, run.seed)
        _, manifest, _ = stored(run_dir)
        if manifest is not None and has_result(run_dir) and manifest.request == run.request:
            yield manifest


def _is_other(plan: Plan, manifest: Manifest) -> bool:
    other = manifest.code_digest not in (plan.code_digest, *plan.accepted)
    return other or _imports_are_other(plan, manifest)


def _imports_are_other(plan: Plan, manifest: Manifest) -> bool:
    """Return whether files that the run imported have changed, in a way that was not accepted."""
    return code_digest(manifest.imported) not in plan.accepted and bool(imports_changed(manifest))


def _renamed_metric(before: Plan, plan: Plan, study: StudyDir) -> Plan:
    """Return the stored plan of an external app with the metric of the new one, if no run has returned the old metric."""
    if (
        before.app is None
        or plan.app is None
        or any(before.metric in (read_returned(run) or ()) for run in study.runs())
    ):
        return before
    design = replace(plan.app, seed_key=before.app.seed_key)
    return replace(before, metric=plan.metric, smallest_effect=plan.smallest_effect, design=design)


def _has_runs(study: StudyDir, plan: Plan) -> bool:
    """Return whether the directory holds runs that another plan must not replace."""
    if plan.app is not None:  # a failed run of an external app is no reason to keep its plan
        return any(read_returned(run) for run in study.runs())
    return next(study.runs(), None) is not None


def _is_being_run(folder: Path) -> bool:
    """Return whether a process works on the study. Its first moments leave nothing in the run directories."""
    locks = Locks(folder.parent)
    names = [path.name for path in locks.folder.glob(f"{OPEN_LOCK}.{escape(folder.name)}.*")]
    return any(locks.holder(name) is not None for name in names)


def check_writable(folder: Path) -> None:
    """Raise RecordError where `folder` cannot be made or written, before anything is made."""
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise RecordError(f"{folder} cannot be made: {parent} is a file", "study.output_dir=<a folder>")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise RecordError(
            f"{folder} cannot be written: no permission to write in {parent}", "study.output_dir=<a folder>"
        )


def pending(plan: Plan, folder: Path) -> list[Run]:
    """Return the runs that are still to do; finished and diverged runs of equal digest are kept."""
    return [run for run in plan.runs if not is_done(plan, folder, run)]


def is_done(plan: Plan, folder: Path, run: Run) -> bool:
    """Return whether the run's result is stored, of the same config and data, by the same code or by accepted code."""
    run_dir = StudyDir(folder).run(run.arm, run.seed)
    _, manifest, _ = stored(run_dir)
    if manifest is None or not has_result(run_dir):
        return False
    keeps = plan.keeps(run, digest=manifest.digest, request=manifest.request, code_digest=manifest.code_digest)
    return keeps and not _imports_are_other(plan, manifest)


def _first_difference(before: Plan, now: Plan) -> str:
    """Return a sentence that names the first difference between two plans."""
    if (before.app is None) != (now.app is None):
        return "one of an external app" if now.app is None else "one of ablate's own"
    if (before.interim_seeds, before.alpha_spending) != (now.interim_seeds, now.alpha_spending):
        looks = [", ".join(map(str, plan.interim_seeds)) for plan in (before, now)]
        when = [
            f"at {seeds} seeds ({plan.alpha_spending})" if seeds else "once, at the end"
            for seeds, plan in zip(looks, (before, now), strict=True)
        ]
        return f"it is analysed {when[0]} there and {when[1]} now"
    for key, (left, right) in _settings(before, now).items():
        if left != right:
            return f"{key} is {show(left)} there and {show(right)} now"
    configs = [plan.counted()["arms"][0]["config"] for plan in (before, now)]
    for key, (left, right) in changed(*configs).items():
        return f"the baseline's {key} is {show(left)} there and {show(right)} now"
    names = ([arm.name for arm in before.arms], [arm.name for arm in now.arms])
    if names[0] != names[1]:
        return f"its arms are {', '.join(names[0])} there and {', '.join(names[1])} now"
    for one, other in zip(before.arms, now.arms, strict=True):
        for what, left, right in (("data", one.data, other.data), ("model files", one.model, other.model)):
            if left != right:
                digests = f"digest {left[:12] or 'none'} there, {right[:12] or 'none'} now"
                return f"the {what} of {one.name} differ from those that it was planned with ({digests})"
    where = next(key for key, value in before.counted().items() if digest_of(value) != digest_of(now.counted()[key]))
    return f"`{where}` of its plan.json differs"


def _settings(before: Plan, now: Plan) -> Mapping[str, tuple[Any, Any]]:
    """Return the settings of a study by the keys that the user types, {key: (before, now)}."""
    group = "study" if now.app is None else "hydra.sweeper"
    settings = {f"{group}.seeds": (len(before.seeds), len(now.seeds))}
    settings |= {f"{group}.{key}": (getattr(before, key), getattr(now, key)) for key in ("metric", "smallest_effect")}
    if before.app is not None and now.app is not None:
        for key in ("seed_key", "lower_is_better"):
            settings[f"{group}.{key}"] = getattr(before.app, key), getattr(now.app, key)
    return settings

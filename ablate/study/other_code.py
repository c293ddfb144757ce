"""Runs of a study that were made by other code than there is now: said with the files that changed, kept only when accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.design.plan import Plan, Run
from ablate.errors import RecordError, StudyError
from ablate.record.code import changed_files, code_digest
from ablate.record.rundir import StudyDir
from ablate.record.values import Manifest, read_manifest
from ablate.study.shared import has_result, imports_changed


def differs_in_code_alone(before: Plan, now: Plan) -> bool:
    """Whether two plans ask for the same, and only the code that does it is another."""
    return _asked(before) == _asked(now)


def with_code_accepted(before: Plan, now: Plan, folder: Path, *, accept: bool, instead: str) -> Plan:
    """`now`, and what `before` had accepted. before: the plan that lies in `folder`, alike but perhaps for its code.

    Where runs there were made by other code, `accept` adds it to what the plan keeps, with a note. Otherwise raises StudyError
    that names the files. instead: the text to type for a new study.
    """
    kept = replace(now, accepted=before.accepted, notes=tuple(dict.fromkeys((*now.notes, *_about_code(before)))))
    made = [(run, manifest) for run, manifest in _made(before, folder) if _is_other(kept, manifest)]
    if not made:
        return kept
    files = list(dict.fromkeys(text for _, manifest in made for text in what_changed(manifest, now.code)))
    shown = ", ".join(files[:6]) + (f" and {len(files) - 6} more" if len(files) > 6 else "")
    runs = f"{len(made)} of its runs {'was' if len(made) == 1 else 'were'} made by other code"
    if not accept:
        raise StudyError(
            f"{folder}: {runs}: {shown or 'files that it did not name'}",
            f"--accept-code-change keeps them, and the study and its report say so; or {instead} for a new study",
        )
    other = [digest for _, manifest in made for digest in _digests(manifest)]
    accepted = dict.fromkeys((*before.accepted, *other))
    accepted.pop(now.code_digest, None)
    return replace(kept, accepted=tuple(accepted), notes=(*kept.notes, f"{_NOTE}: {runs}: {shown}"))


_NOTE = "code that changed was accepted"


def is_kept(plan: Plan, run: Run, manifest: Manifest) -> bool:
    """Whether a run on disk is the one that the plan asks for, by the code of now or by code that was accepted."""
    if not plan.keeps(run, digest=manifest.digest, request=manifest.request, code_digest=manifest.code_digest):
        return False
    return code_digest(manifest.imported) in plan.accepted or not imports_changed(manifest)


def _about_code(plan: Plan) -> list[str]:
    return [note for note in plan.notes if note.startswith(_NOTE)]


def _asked(plan: Plan) -> dict[str, Any]:
    value = {key: item for key, item in plan.counted().items() if key not in ("code", "code_digest")}
    return value | {"runs": [(run.arm, run.seed, run.request) for run in plan.runs]}


def _made(plan: Plan, folder: Path) -> Iterator[tuple[Run, Manifest]]:
    """Every run of the plan that has come to a result, and what it says of itself. One that has not begins anew anyway."""
    for run in plan.runs:
        place = StudyDir(folder).run(run.arm, run.seed)
        try:
            manifest = read_manifest(place) if has_result(place) else None
        except RecordError:
            continue  # it is made again
        if manifest is not None and manifest.request == run.request:
            yield run, manifest


def _is_other(plan: Plan, manifest: Manifest) -> bool:
    other = manifest.code_digest not in (plan.code_digest, *plan.accepted)
    return other or (code_digest(manifest.imported) not in plan.accepted and bool(imports_changed(manifest)))


def _digests(manifest: Manifest) -> Sequence[str]:
    """Of the code that is planned with, and of what the run had imported beyond that, where it is another now."""
    return [manifest.code_digest, *([code_digest(manifest.imported)] if imports_changed(manifest) else [])]


def what_changed(manifest: Manifest, code: Mapping[str, str]) -> list[str]:
    """The files that a run was made by and that are not what they were, in words. code: of now."""
    return [*changed_files(manifest.code, code), *imports_changed(manifest)]

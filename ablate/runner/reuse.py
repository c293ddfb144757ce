"""Runs of a study that were made by other code than there is now: said with the files that changed, kept only when accepted."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ablate.config.schema import make_config
from ablate.design.plan import Plan, Run
from ablate.errors import RecordError, StudyError
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Manifest, RunStatus, read_manifest, read_status, write_value
from ablate.records.provenance import PACKAGES, versions
from ablate.records.source_code import changed_files, code_digest, hashed_again
from ablate.serialization import read_json, write_json, write_text

# Results that lie under the same root already, found by their digest: they are taken over, and not made again.
# `<root>/.digests/<digest>` names the run that holds the result. It is a hint that is verified whenever it is
# read, so the folder may be removed at any time: what is lost is that runs are found there, not the runs.

FOLDER = ".digests"

RESULTS = ("finished", "diverged")
"""What a run can come to. Diverging is a result; failing and being interrupted are none."""

_OWN = ("config.yaml", "manifest.json", "status.json", "progress.json")
"""Files of a run that are written anew where it is taken over, and the one that no ended run needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A result with the wanted digest. origin: `<study>/<arm>/seed=<n>` of the run that made it."""

    run: RunDir
    manifest: Manifest
    outcome: RunStatus
    origin: str

    @property
    def study(self) -> str:
        return self.origin.partition("/")[0]


def has_result(run: RunDir) -> bool:
    """Whether a run has come to one."""
    outcome = read_status(run)
    return outcome is not None and outcome.status in RESULTS


def holds_result(run: RunDir, digest: str) -> bool:
    """Whether a run folder holds a result of this digest, by code that is still the same."""
    if not has_result(run) or not run.manifest.exists():
        return False
    manifest = read_manifest(run)
    return manifest.digest == digest and not imports_changed(manifest)


def publish(run: RunDir, digest: str, outcome: RunStatus, *, root: str | Path) -> None:
    """Let later studies under `root` find a run that has come to a result. A run outside of it, or without a digest, is not."""
    if not digest or outcome.status not in RESULTS:
        return
    try:
        place = run.path.resolve().relative_to(Path(root).resolve())
    except ValueError:
        return
    if len(place.parts) == 3:
        with suppress(OSError):  # a full disk: the run is there, it is just not found
            write_json(_entry(Path(root), digest), {"run": place.as_posix()}, durable=False)


def find(root: Path, digest: str, *, device: str = "auto") -> Found | None:
    """The run under `root` that has this digest and a result, made by code that is still the same, in this environment.

    device: `train.device` of the run that is wanted.
    """
    try:
        place = PurePosixPath(read_json(_entry(root, digest))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if place.is_absolute() or ".." in place.parts or len(place.parts) != 3:
        return None
    run = RunDir(root / place)
    try:
        outcome = read_status(run)
        if outcome is None or outcome.status not in RESULTS:
            return None
        manifest = read_manifest(run)
    except (RecordError, TypeError):
        return None
    if manifest.digest != digest or not _as_here(manifest, device) or imports_changed(manifest):
        return None
    return Found(run=run, manifest=manifest, outcome=outcome, origin=manifest.shared_from or place.as_posix())


def imports_changed(manifest: Manifest) -> list[str]:
    """The user's files that the run had imported beyond those of its code digest, where they are not what they were."""
    beyond = {name: sha for name, sha in manifest.imported.items() if name not in manifest.code}
    return changed_files(beyond, _now(tuple(beyond)))


def shareable(plan: Plan, folder: Path, waiting: Iterable[Run]) -> dict[tuple[str, int], Found]:
    """{(arm, seed): the run of another study that it can be taken from}. folder: of the study itself."""
    root = folder.parent
    if not (root / FOLDER).is_dir():
        return {}
    found = {}
    for run in waiting:
        there = find(root, run.digest, device=plan.arm(run.arm).config["train"]["device"])
        if there is not None and there.run.path != StudyDir(folder).run(run.arm, run.seed).path:
            found[run.arm, run.seed] = there
    return found


def take_all(plan: Plan, folder: Path, waiting: Iterable[Run]) -> dict[tuple[str, int], Found]:
    """Take over what can be, and say where it came from. Raises RecordError where the study cannot be written."""
    found = shareable(plan, folder, waiting)
    for (name, seed), there in found.items():
        arm = plan.arm(name)
        take(there, StudyDir(folder).run(name, seed), {**arm.config, "arm": name, "seed": seed}, arm.changes)
    return found


def take(found: Found, into: RunDir, config: Mapping[str, Any], changes: dict[str, Any]) -> None:
    """Copy a run's record into another study, with the config and the manifest that it has there. The outcome comes last.

    Copies and no hard links: what is written into a file of one study must not change the other's.
    """
    try:
        into.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(into.checkpoint, ignore_errors=True)
        into.status.unlink(missing_ok=True)
        for file in sorted(found.run.path.iterdir()):
            if file.is_file() and not file.is_symlink() and not file.name.startswith(".") and file.name not in _OWN:
                part = into.path / f".{file.name}.{os.getpid()}.part"
                shutil.copyfile(file, part)
                part.replace(into.path / file.name)
        write_text(into.config, yaml.safe_dump(asdict(make_config(config)), sort_keys=False))
        own = {"arm": config["arm"], "seed": config["seed"], "overrides": changes}
        write_value(into, replace(found.manifest, **own, shared_from=found.origin))
        write_value(into, found.outcome)
    except OSError as error:
        raise RecordError(
            f"{into.path} cannot be written: {error.strerror or error}", "study.output_dir=FOLDER for another place"
        ) from error


def said(found: Iterable[Found]) -> str:
    """How many runs come from where: `reference (4), batch_size (1)`."""
    counts = Counter(one.study for one in found)
    return ", ".join(f"{study} ({count})" for study, count in counts.most_common())


def forget(root: Path, digest: str) -> None:
    """Let a run be made again, and not be taken from where it lies."""
    _entry(root, digest).unlink(missing_ok=True)


def _entry(root: Path, digest: str) -> Path:
    return root / FOLDER / safe_name(digest)


@cache
def _now(names: tuple[str, ...]) -> dict[str, str]:
    """A plan asks for the same files run by run."""
    return hashed_again(names)


def _as_here(manifest: Manifest, device: str) -> bool:
    """Whether a run that is made now would have the same versions and device: another one rounds otherwise."""
    ours = {name: number for name, number in _versions().items() if name != "torch-ablate"}  # its code is in the digest
    theirs = {name: number for name, number in manifest.versions.items() if name != "torch-ablate"}
    return ours == theirs and (not manifest.device or manifest.device in _devices(device))


@cache
def _versions() -> dict[str, str]:
    return versions(PACKAGES)


@cache
def _devices(device: str) -> list[str]:
    """What a run of that `train.device` would train on here, in the words of a manifest; asked of the driver, without torch."""
    places = [] if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") else Path("/proc/driver/nvidia/gpus").glob("*")
    texts = [(place / "information").read_text(errors="replace") for place in places]
    lines = [line.partition(":") for text in texts for line in text.splitlines()]
    gpus = [value.strip() for key, _, value in lines if key.strip() == "Model"]
    return gpus if gpus and device != "cpu" else [f"{platform.machine()} cpu"]


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

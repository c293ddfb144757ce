"""Reuse results of equal runs under the same root."""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ablate.config.schema import make_config
from ablate.design.plan import Plan, Run
from ablate.errors import RecordError
from ablate.records.layout import RunDir, StudyDir, check_own_folder, safe_name
from ablate.records.metadata import (
    PACKAGES,
    RESULTS,
    Manifest,
    RunStatus,
    damage,
    read_manifest,
    read_status,
    versions,
    write_value,
)
from ablate.records.source_code import changed_files, hashed_again
from ablate.serialization import read_json, write_json, write_text
from ablate.training.hardware import gpu_names

FOLDER = ".digests"
"""Directory under the root in which `<digest>` names the run that holds the result. Each entry is a hint that is verified
whenever it is read, so the directory may be removed at any time: no run is lost, it is only not reused."""

_OWN = ("config.yaml", "manifest.json", "status.json", "progress.json")
"""Files that are written again where a run is reused, and the one that no ended run needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualRun:
    """A stored run with the wanted digest and a result."""

    run: RunDir
    manifest: Manifest
    outcome: RunStatus
    origin: str
    """`<study>/<arm>/seed=<n>` of the run that made the result."""

    @property
    def study(self) -> str:
        return self.origin.partition("/")[0]


def stored(run: RunDir) -> tuple[RunStatus | None, Manifest | None, str]:
    """Return outcome and manifest of a run, each None where there is none, and what is damaged of its record; '' for nothing.

    The run of a damaged record is made again.
    """
    try:
        outcome = read_status(run)
        manifest = read_manifest(run) if run.manifest.exists() else None
        if outcome is not None and outcome.status in RESULTS and manifest is None:
            return outcome, None, f"{run.manifest.name} is missing"
        return outcome, manifest, damage(run, outcome) if outcome is not None else ""
    except (OSError, RecordError, TypeError) as error:
        return None, None, error.problem if isinstance(error, RecordError) else str(error)


def has_result(run: RunDir) -> bool:
    """Return whether a run has a result that is whole."""
    outcome, _, problem = stored(run)
    return outcome is not None and outcome.status in RESULTS and not problem


def stored_status(run: RunDir) -> str | None:
    """Return the status of a run that has ended; "unreadable" where its record is broken, None where it has not ended."""
    outcome, _, problem = stored(run)
    return "unreadable" if problem else outcome.status if outcome is not None else None


def holds_result(run: RunDir, digest: str) -> bool:
    """Return whether a run directory holds a result of this digest, by code that is still the same."""
    _, manifest, _ = stored(run)
    return manifest is not None and has_result(run) and manifest.digest == digest and not imports_changed(manifest)


def publish(run: RunDir, digest: str, outcome: RunStatus, *, root: str | Path) -> None:
    """Let later studies under `root` reuse a run that has a result. A run outside of it, or without a digest, is left out."""
    if not digest or outcome.status not in RESULTS:
        return
    try:
        path = run.path.resolve().relative_to(Path(root).resolve())
    except ValueError:
        return
    if len(path.parts) == 3:
        with suppress(OSError):  # a full disk: the run exists, it is only not reused
            write_json(_entry(Path(root), digest), {"run": path.as_posix()}, durable=False)


def find_equal(root: Path, digest: str, *, device: str = "auto") -> EqualRun | None:
    """Return the run under `root` with this digest and a result, made by unchanged code in this environment.

    device: `train.device` of the run that is wanted.
    """
    try:
        path = PurePosixPath(read_json(_entry(root, digest))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if path.is_absolute() or ".." in path.parts or len(path.parts) != 3:
        return None
    run = RunDir(root / path)
    if not run.path.resolve().is_relative_to(root.resolve()):
        return None
    outcome, manifest, problem = stored(run)
    if outcome is None or manifest is None or outcome.status not in RESULTS or problem:
        return None
    if manifest.digest != digest or not _as_here(manifest, device) or imports_changed(manifest):
        return None
    return EqualRun(run=run, manifest=manifest, outcome=outcome, origin=manifest.shared_from or path.as_posix())


def imports_changed(manifest: Manifest) -> list[str]:
    """Return the user's files that the run imported beyond those of its code digest and that have changed."""
    beyond = {name: sha for name, sha in manifest.imported.items() if name not in manifest.code}
    return changed_files(beyond, _now(tuple(beyond)))


def reusable(plan: Plan, folder: Path, waiting: Iterable[Run]) -> dict[tuple[str, int], EqualRun]:
    """Return the equal runs of other studies, {(arm, seed): run}. folder: directory of the study itself."""
    root = folder.parent
    if not (root / FOLDER).is_dir():
        return {}
    equal = {}
    for run in waiting:
        there = find_equal(root, run.digest, device=plan.arm(run.arm).config["train"]["device"])
        if there is not None and there.run.path != StudyDir(folder).run(run.arm, run.seed).path:
            equal[run.arm, run.seed] = there
    return equal


def reuse_all(plan: Plan, folder: Path, waiting: Iterable[Run]) -> dict[tuple[str, int], EqualRun]:
    """Reuse every run that can be; return which. Raises RecordError where the study cannot be written."""
    equal = reusable(plan, folder, waiting)
    for (name, seed), there in equal.items():
        arm = plan.arm(name)
        copy_run(there, StudyDir(folder).run(name, seed), {**arm.config, "arm": name, "seed": seed}, arm.changes)
    return equal


def copy_run(equal: EqualRun, into: RunDir, config: Mapping[str, Any], changes: dict[str, Any]) -> None:
    """Copy a run's record into another study, with the config and the manifest that it has there. The outcome comes last.

    Hard links would not do: what is written into a file of one study must not change the other's.
    """
    into.check_own()
    try:
        into.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(into.checkpoint, ignore_errors=True)
        into.status.unlink(missing_ok=True)
        for file in sorted(equal.run.path.iterdir()):
            if file.is_file() and not file.is_symlink() and not file.name.startswith(".") and file.name not in _OWN:
                part = into.path / f".{file.name}.{os.getpid()}.part"
                shutil.copyfile(file, part)
                part.replace(into.path / file.name)
        write_text(into.config, yaml.safe_dump(asdict(make_config(config)), sort_keys=False), hide=True)
        own = {"arm": config["arm"], "seed": config["seed"], "overrides": changes}
        write_value(into, replace(equal.manifest, **own, shared_from=equal.origin))
        write_value(into, equal.outcome)
    except OSError as error:
        raise RecordError(
            f"{into.path} cannot be written: {error.strerror or error}", "study.output_dir=<another folder>"
        ) from error


def count_by_study(runs: Iterable[EqualRun]) -> str:
    """Return how many runs come from which study: `reference (4), batch_size (1)`."""
    counts = Counter(run.study for run in runs)
    return ", ".join(f"{study} ({count})" for study, count in counts.most_common())


def forget(root: Path, digest: str) -> None:
    """Let a run be made again instead of being reused."""
    _entry(root, digest).unlink(missing_ok=True)


def _entry(root: Path, digest: str) -> Path:
    check_own_folder(root / FOLDER)
    return root / FOLDER / safe_name(digest)


@cache
def _now(names: tuple[str, ...]) -> dict[str, str]:
    """Hash files; cached, because a plan needs the same files for every run."""
    return hashed_again(names)


def _as_here(manifest: Manifest, device: str) -> bool:
    """Return whether a run that is made now would have the same versions and device: others round differently."""
    ours = {name: number for name, number in _versions().items() if name != "torch-ablate"}  # its code is in the digest
    theirs = {name: number for name, number in manifest.versions.items() if name != "torch-ablate"}
    return ours == theirs and (not manifest.device or manifest.device in _devices(device))


@cache
def _versions() -> dict[str, str]:
    return versions(PACKAGES)


@cache
def _devices(device: str) -> list[str]:
    """Return the devices that a run of that `train.device` would train on here, as a manifest names them, without torch."""
    return (gpu_names() if device != "cpu" else []) or [f"{platform.machine()} cpu"]


def what_changed(manifest: Manifest, code: Mapping[str, str]) -> list[str]:
    """Return the files that made a run and have changed since, in words. code: the present one."""
    return [*changed_files(manifest.code, code), *imports_changed(manifest)]

"""Marks beside the record of what a tracker has already been sent, so that nothing is sent twice."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ablate.config.schema import TrackerConfig
from ablate.records.layout import RunDir, StudyDir
from ablate.redact import redact
from ablate.serialization import read_json, write_json
from ablate.tracking.describe import Mode, StudyTold, Told


def mark_run(name: str, told: Told) -> None:
    """The run has been sent whole."""
    _mark(told.run.path, name, where(name, told.tracker, told.mode), state_of_run(told.run))


def mark_study(name: str, told: StudyTold) -> None:
    """The study's own run has been sent, as its report says now."""
    _mark(told.folder, name, where(name, told.tracker, told.mode), state_of_study(told.folder))


def is_sent(folder: Path, name: str, place: str, state: str) -> bool:
    """Whether this has been sent there, as it lies here now."""
    return _marks(_file(folder, name)).get(place) == state


def where(name: str, tracker: TrackerConfig, mode: Mode) -> str:
    """A tracker and the place at it, in words."""
    if name == "wandb":
        return f"wandb {mode} {tracker.entity or ''}/{tracker.project}"
    if name == "mlflow":
        return redact(f"mlflow {mode} {tracker.uri or ''} {tracker.project}")
    return name


def state_of_run(run: RunDir) -> str:
    """Another one after a run was made anew, or went on."""
    parts = [run.status, run.config]  # the manifest gets its end after the outcome is there
    digest = sha256(b"".join(path.read_bytes() for path in parts if path.exists()))
    digest.update(f"{[_size(path) for path in (run.trace, run.evals)]}".encode())
    return digest.hexdigest()[:16]


def state_of_study(folder: Path) -> str:
    """Another one after the report says something else."""
    return sha256(StudyDir(folder).analysis.read_bytes()).hexdigest()[:16]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _file(folder: Path, name: str) -> Path:
    """One for each tracker: their processes end at the same time."""
    return folder / f"{name}.synced.json"


def _marks(path: Path) -> dict[str, str]:
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _mark(folder: Path, name: str, place: str, state: str) -> None:
    path = _file(folder, name)
    write_json(path, {**_marks(path), place: state}, durable=False)

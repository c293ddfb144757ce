"""Marks of what was sent where, `<tracker>.synced.json` in the directory of a run or study, so that nothing is sent twice."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ablate.config.schema import TrackerConfig
from ablate.records.layout import RunDir, StudyDir
from ablate.redact import redact
from ablate.serialization import read_json, write_json
from ablate.tracking.describe import Mode, RunInfo, StudyInfo


def mark_run(name: str, info: RunInfo) -> None:
    """Record that a run was sent completely."""
    _mark(info.run.path, name, destination(name, info.tracker, info.mode), run_version(info.run))


def mark_study(name: str, info: StudyInfo) -> None:
    """Record that the current conclusions of a study were sent."""
    _mark(info.folder, name, destination(name, info.tracker, info.mode), study_version(info.folder))


def is_sent(folder: Path, name: str, where: str, version: str) -> bool:
    """Return whether this version was sent to this destination."""
    return _read(_file(folder, name)).get(where) == version


def destination(name: str, tracker: TrackerConfig, mode: Mode) -> str:
    """Return the tracker, mode, server and project as text."""
    if name == "wandb":
        return f"wandb {mode} {tracker.entity or ''}/{tracker.project}"
    if name == "mlflow":
        return redact(f"mlflow {mode} {tracker.uri or ''} {tracker.project}")
    return name


def run_version(run: RunDir) -> str:
    """Return a digest that changes if the run is trained again or resumed."""
    # Not the manifest, whose end time is written after the status.
    digest = sha256(b"".join(path.read_bytes() for path in (run.status, run.config) if path.exists()))
    digest.update(str([path.stat().st_size if path.exists() else 0 for path in (run.trace, run.evals)]).encode())
    return digest.hexdigest()[:16]


def study_version(folder: Path) -> str:
    """Return a digest that changes with the conclusions."""
    return sha256(StudyDir(folder).analysis.read_bytes()).hexdigest()[:16]


def _file(folder: Path, name: str) -> Path:
    """One file for each tracker, because their processes end at the same time."""
    return folder / f"{name}.synced.json"


def _read(path: Path) -> dict[str, str]:
    try:
        marks = read_json(path)
    except (OSError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}


def _mark(folder: Path, name: str, where: str, version: str) -> None:
    path = _file(folder, name)
    write_json(path, {**_read(path), where: version}, durable=False)

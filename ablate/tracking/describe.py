"""Description of a run or study for a tracker: names, tags, settings and a deterministic id, without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ablate.config.flatten import ABSENT, leaf_or_absent
from ablate.config.schema import TrackerConfig
from ablate.errors import RecordError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.redact import redact
from ablate.serialization import read_json, read_yaml

Mode = Literal["online", "offline"]

_MAX_TAG_LENGTH = 64
_ID_LENGTH = 16

COLUMNS = (
    "arm", "axis", "baseline_value", "value", "metric", "unit", "primary", "verdict", "effect", "low", "high", "p_value",
    "baseline_mean", "arm_mean", "seeds", "labels", "sentence",
)  # fmt: skip
"""Columns of the table of contrasts."""

_STUDY_FILES = ("report.html", "analysis.json", "report.md", "table.tex", "plan.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """One run as a tracker shows it."""

    run: RunDir
    study: str
    arm: str
    axis: str
    level: str
    seed: int
    id: str
    """Digest of study, arm, seed and the run's digest: the same whenever and from wherever it is sent."""
    tags: tuple[str, ...]
    """Axis and arm."""
    config: dict[str, Any]
    hparams: dict[str, Any]
    """Arm, seed and every key that the study varies, with its value in this run."""
    started: float
    """Seconds since 1970."""
    tracker: TrackerConfig
    mode: Mode
    pid: int = 0
    """Process of the run; 0 if it has ended."""

    @property
    def name(self) -> str:
        return f"{self.arm}/seed={self.seed}"

    @property
    def folder(self) -> Path:
        return self.run.path

    @property
    def study_folder(self) -> Path:
        return self.run.path.parent.parent

    def x(self, row: Mapping[str, Any]) -> int:
        """Position of a row on `tracker.x_axis`, which is a whole number at TensorBoard and MLflow."""
        return int(row[self.tracker.x_axis if self.tracker.x_axis in row else "step"])

    def time(self, row: Mapping[str, Any]) -> float:
        """Start of the run plus training time, so that relative times are training times."""
        return float(self.started + row.get("seconds", 0.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnd:
    """End of a run."""

    status: str
    """Status of the run; `killed` if it has none."""
    message: str
    numbers: dict[str, float] = field(default_factory=dict)
    """Throughput, and the values that an app returned."""
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyInfo:
    """Conclusions of one study."""

    folder: Path
    study: str
    id: str
    question: str
    rows: tuple[tuple[Any, ...], ...]
    """Contrasts, with the columns `COLUMNS`."""
    conclusions: tuple[str, ...]
    numbers: dict[str, float]
    """Effects and their intervals on the primary metric."""
    words: dict[str, str]
    """Verdicts on the primary metric."""
    page: Path | None
    files: tuple[Path, ...]
    tracker: TrackerConfig
    mode: Mode


def describe_run(run: RunDir, mode: Mode, *, tracker: TrackerConfig | None = None, pid: int = 0) -> RunInfo:
    """Describe a run by what it has written so far. tracker: replaces the one in its config.

    Raises RecordError if the config cannot be read.
    """
    run = RunDir(run.path.resolve())
    config = read_config(run)
    manifest = read_manifest(run) if run.manifest.exists() else Manifest(arm=run.path.parent.name, seed=0)
    arm, seed = str(config.get("arm") or manifest.arm), int(config.get("seed") or manifest.seed)
    axis, _, level = arm.partition("=")
    study = run.path.parent.parent.name
    tags = (redact(tag[:_MAX_TAG_LENGTH]) for tag in ((axis, arm) if level else (axis,)))
    started = datetime.fromisoformat(manifest.started).timestamp() if manifest.started else run.config.stat().st_mtime
    return RunInfo(
        run=run, study=redact(study), arm=redact(arm), axis=redact(axis), level=redact(level), seed=seed,
        id=digest_of([study, arm, seed, manifest.digest or manifest.started])[:_ID_LENGTH], tags=tuple(dict.fromkeys(tags)),
        config=redacted(config), hparams=redacted(_varied(run, config, manifest)), started=started,
        tracker=tracker or tracker_of(config), mode=mode, pid=pid,
    )  # fmt: skip


def read_config(run: RunDir) -> dict[str, Any]:
    """Read a run's config. Raises RecordError if it is unreadable."""
    try:
        config = read_yaml(run.config)
        if not isinstance(config, dict):
            raise ValueError(f"expected settings, got {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise RecordError(f"{run.config} cannot be read: {error}", "ablate retry runs/STUDY ARM") from None
    return config


def tracker_of(config: Mapping[str, Any]) -> TrackerConfig:
    """Return the tracker in a run's config; the default if it has none, as a run of an external loop."""
    tracker = config.get("tracker")
    known = TrackerConfig.__dataclass_fields__
    if not isinstance(tracker, dict):
        return TrackerConfig()
    return TrackerConfig(**{key: value for key, value in tracker.items() if key in known})


def redacted(value: Any) -> Any:
    """Return a value with `***` for every secret of the environment, keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def has_no_secret(path: Path) -> bool:
    """Return whether a file contains no secret of the environment."""
    text = path.read_bytes().decode(errors="replace")
    return redact(text) == text


def _varied(run: RunDir, config: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Return every key that an arm of the study changes, so that all arms have the same keys."""
    keys = list(manifest.overrides)
    plan = StudyDir(run.path.parent.parent).plan
    if plan.exists():
        with suppress(OSError, ValueError, KeyError, TypeError):  # a malformed plan is reported elsewhere
            keys = [key for arm in read_json(plan)["arms"] for key in arm["changes"]]
    values = {key: leaf_or_absent(config, key) for key in dict.fromkeys(keys)}
    values = {key: manifest.overrides.get(key) if value == ABSENT else value for key, value in values.items()}
    return {"arm": manifest.arm, "seed": manifest.seed, **values}


def describe_study(folder: Path, tracker: TrackerConfig, mode: Mode) -> StudyInfo:
    """Describe a study by its analysis.json. Raises RecordError if it cannot be read."""
    folder = folder.resolve()
    study = StudyDir(folder)
    paths = [folder / name for name in _STUDY_FILES]
    files = tuple(path for path in paths if path.is_file() and not path.is_symlink() and has_no_secret(path))
    try:
        analysis = redacted(read_json(study.analysis))
        contrasts = [dict(contrast) for contrast in analysis["contrasts"]]
        primary = [contrast for contrast in contrasts if contrast["primary"]]
        numbers = {f"{name}/{one['arm']}": one[name] for one in primary for name in ("effect", "low", "high")}
        return StudyInfo(
            folder=folder, study=analysis["study"], id=study_id(folder), question=analysis["question"],
            rows=tuple(tuple(_cell(contrast.get(name)) for name in COLUMNS) for contrast in contrasts),
            conclusions=tuple(analysis["conclusions"]),
            numbers={name: float(value) for name, value in numbers.items() if isinstance(value, int | float)},
            words={f"verdict/{contrast['arm']}": contrast["verdict"] for contrast in primary},
            page=next((file for file in files if file.name == "report.html"), None), files=files, tracker=tracker, mode=mode,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{study.analysis} cannot be read: {error!r}", f"ablate report {folder}") from None


def study_id(folder: Path) -> str:
    """Return the id of the run that represents a study at a tracker."""
    plan = StudyDir(folder).plan
    digest = str(read_json(plan)["digest"]) if plan.exists() else ""
    return digest_of([folder.name, "study", digest])[:_ID_LENGTH]


def markdown(info: StudyInfo) -> str:
    """Return conclusions and contrasts as text with a table."""
    head = ("arm", "metric", "effect", "low", "high", "seeds", "verdict", "labels")
    lines = [f"- {sentence}" for sentence in info.conclusions]
    lines += ["", f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in info.rows:
        named = dict(zip(COLUMNS, row, strict=True))
        lines.append(f"| {' | '.join(_text(named[name]) for name in head)} |")
    return "\n".join(lines)


def _cell(value: Any) -> Any:
    """Return a value that a table of any tracker can hold."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return None if value in ("nan", "inf", "-inf") else value


def _text(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")

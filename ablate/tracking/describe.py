"""What a tracker is sent of a study as a whole, read from its analysis.json and the page beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from ablate.config.schema import TrackerConfig
from ablate.errors import RecordError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.redact import redact
from ablate.serialization import read_json, read_text

# How a run and a study are described to a tracker: names, tags, settings and a deterministic id. No secret is
# in it.

Mode = Literal["online", "offline"]

_LONGEST_TAG = 64
_ID_LENGTH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One run.

    id: the same for the same study, arm, seed and digest, wherever and whenever it is sent. tags: axis and level.
    config: of the run. hparams: what the study moves, and what it is in this run. started: seconds since 1970.
    tracker: where it is to go. pid: of the run's process, 0 when it is over.
    """

    run: RunDir
    study: str
    arm: str
    axis: str
    level: str
    seed: int
    id: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    hparams: dict[str, Any]
    started: float
    tracker: TrackerConfig
    mode: Mode
    pid: int = 0

    @property
    def name(self) -> str:
        return f"{self.arm}/seed={self.seed}"

    @property
    def study_folder(self) -> Path:
        return self.run.path.parent.parent


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How a run ended. status: of its outcome; `killed` where it has none. numbers: its throughput, what an app returned."""

    status: str
    message: str
    numbers: dict[str, float] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def tell_run(run: RunDir, mode: Mode, *, tracker: TrackerConfig | None = None, pid: int = 0) -> Told:
    """From what the run has written so far. tracker: instead of the one in its config.

    Raises RecordError where the config cannot be read.
    """
    run = RunDir(run.path.resolve())
    config = read_config(run)
    manifest = read_manifest(run) if run.manifest.exists() else Manifest(arm=run.path.parent.name, seed=0)
    arm, seed = str(config.get("arm") or manifest.arm), int(config.get("seed") or manifest.seed)
    axis, _, level = arm.partition("=")
    study = run.path.parent.parent.name
    tags = [tag[:_LONGEST_TAG] for tag in ((axis, arm) if level else (axis,))]
    started = datetime.fromisoformat(manifest.started).timestamp() if manifest.started else run.config.stat().st_mtime
    return Told(
        run=run,
        study=redact(study),
        arm=redact(arm),
        axis=redact(axis),
        level=redact(level),
        seed=seed,
        id=digest_of([study, arm, seed, manifest.digest or manifest.started])[:_ID_LENGTH],
        tags=tuple(dict.fromkeys(redact(tag) for tag in tags)),
        config=hidden(config),
        hparams=hidden(_moved(run, config, manifest)),
        started=started,
        tracker=tracker or tracker_of(config),
        mode=mode,
        pid=pid,
    )


def read_config(run: RunDir) -> dict[str, Any]:
    """Raises RecordError where it is none."""
    try:
        config = yaml.safe_load(read_text(run.config))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecordError(f"{run.config} cannot be read: {error}", "ablate retry runs/STUDY ARM") from None
    if not isinstance(config, dict):
        raise RecordError(f"{run.config} holds no settings", "ablate retry runs/STUDY ARM")
    return config


def tracker_of(config: Mapping[str, Any]) -> TrackerConfig:
    """The tracker that a run was asked for; the default where its config knows none, as of a loop of somebody else."""
    asked = config.get("tracker")
    known = TrackerConfig.__dataclass_fields__
    return (
        TrackerConfig(**{k: v for k, v in asked.items() if k in known}) if isinstance(asked, dict) else TrackerConfig()
    )


def hidden(value: Any) -> Any:
    """The value with `***` for every secret of the environment, keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hidden(item) for item in value]
    return value


def is_clean(path: Path) -> bool:
    """Whether a file holds no secret of the environment."""
    text = path.read_bytes().decode(errors="replace")
    return redact(text) == text


def _moved(run: RunDir, config: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """Every key that an arm of the study moves, with the value it has here: so each arm has all of them. Seed and arm too."""
    keys = list(manifest.overrides)
    plan = StudyDir(run.path.parent.parent).plan
    if plan.exists():
        with suppress(OSError, ValueError, KeyError, TypeError):  # not ours to judge: the run's own changes will do
            keys = [key for arm in read_json(plan)["arms"] for key in arm["changes"]]
    found = {key: _leaf(config, key, manifest.overrides.get(key)) for key in dict.fromkeys(keys)}
    return {"arm": manifest.arm, "seed": manifest.seed, **found}


def _leaf(config: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    here: Any = config
    for part in key.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return otherwise
        here = here[part]
    return here


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted key: leaf} of nested settings."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in flat(item, f"{prefix}.{name}".lstrip(".")).items()
    }


def with_asked(tracker: TrackerConfig, **asked: str | None) -> TrackerConfig:
    """The tracker with what was typed in place of what the study was run with."""
    return replace(tracker, **{key: value for key, value in asked.items() if value is not None})


COLUMNS = (
    "arm", "axis", "baseline_level", "level", "metric", "unit", "primary", "verdict", "effect", "low", "high", "p_value",
    "baseline_mean", "arm_mean", "seeds", "labels", "sentence",
)  # fmt: skip
_FILES = ("report.html", "analysis.json", "report.md", "table.tex", "plan.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTold:
    """One study. rows: its contrasts under `COLUMNS`. numbers, words: of the primary metric, by arm. page: None without one."""

    folder: Path
    study: str
    id: str
    question: str
    rows: tuple[tuple[Any, ...], ...]
    conclusions: tuple[str, ...]
    numbers: dict[str, float]
    words: dict[str, str]
    page: Path | None
    files: tuple[Path, ...]
    tracker: TrackerConfig
    mode: Mode


def tell_study(folder: Path, tracker: TrackerConfig, mode: Mode) -> StudyTold:
    """Raises RecordError where there is no analysis that can be read."""
    folder = folder.resolve()
    path = StudyDir(folder).analysis
    try:
        analysis = hidden(read_json(path))
        contrasts = [dict(contrast) for contrast in analysis["contrasts"]]
        primary = [contrast for contrast in contrasts if contrast["primary"]]
        plan = StudyDir(folder).plan
        digest = read_json(plan)["digest"] if plan.exists() else ""
        told = StudyTold(
            folder=folder,
            study=analysis["study"],
            id=study_id(folder, digest),
            question=analysis["question"],
            rows=tuple(tuple(_cell(contrast.get(name)) for name in COLUMNS) for contrast in contrasts),
            conclusions=tuple(analysis["conclusions"]),
            numbers=_numbers(primary),
            words={f"verdict/{contrast['arm']}": contrast["verdict"] for contrast in primary},
            page=next((file for file in _clean(folder) if file.name == "report.html"), None),
            files=tuple(_clean(folder)),
            tracker=tracker,
            mode=mode,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path} cannot be read: {error!r}", f"ablate report {folder}") from None
    return told


def study_id(folder: Path, digest: str) -> str:
    """Of the run that stands for the study."""
    return digest_of([folder.name, "study", digest])[:16]


def markdown(told: StudyTold) -> str:
    """Conclusions and contrasts as a table, for trackers that show text."""
    head = ("arm", "metric", "effect", "low", "high", "seeds", "verdict", "labels")
    lines = [f"- {sentence}" for sentence in told.conclusions]
    lines += ["", f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in told.rows:
        named = dict(zip(COLUMNS, row, strict=True))
        lines.append(f"| {' | '.join(_text(named[name]) for name in head)} |")
    return "\n".join(lines)


def _clean(folder: Path) -> list[Path]:
    """What can be sent: a file with a secret in it stays here."""
    found = [folder / name for name in _FILES]
    return [file for file in found if file.is_file() and not file.is_symlink() and is_clean(file)]


def _numbers(contrasts: list[dict[str, Any]]) -> dict[str, float]:
    found = {f"{name}/{one['arm']}": one[name] for one in contrasts for name in ("effect", "low", "high")}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _cell(value: Any) -> Any:
    """As a table of any tracker holds it. "nan" of a JSON file is no number there."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return None if value in ("nan", "inf", "-inf") else value


def _text(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")

"""How a run and a study are described to a tracker: names, tags, settings and a deterministic id. No secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from ablate.config import TrackerConfig
from ablate.errors import RecordError
from ablate.record.digest import digest_of
from ablate.record.redact import redact
from ablate.record.rundir import RunDir, StudyDir, read_json, read_text
from ablate.record.values import Manifest, read_manifest

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
    sentence: str
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

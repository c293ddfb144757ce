"""What a tracker is sent of a study as a whole, read from its analysis.json and the page beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.config import TrackerConfig
from ablate.errors import RecordError
from ablate.record.digest import digest_of
from ablate.record.rundir import StudyDir, read_json
from ablate.study.track.told import Mode, hidden, is_clean

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

"""Paths in a study folder and in a run folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ablate.errors import RecordError


class _Entry:
    """Path of a file or folder in the folder of its owner."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: RunDir | StudyDir, kind: type | None = None) -> Path:
        return owner.path / self.name


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of one run, `<study>/<arm>/seed=<n>`."""

    path: Path

    def leads_out(self) -> bool:
        """Return True where the folder, or a file in it, is a link to a file outside of its study."""
        study = self.path.parents[1].resolve()
        with os.scandir(self.path) as entries:
            links = [self.path, *(Path(entry) for entry in entries if entry.is_symlink())]
        return not all(path.resolve().is_relative_to(study) for path in links)

    def check_own(self) -> None:
        """Raise RecordError where writing into the folder, or removing it, would reach files outside of its study."""
        inside = self.path.exists() and self.leads_out()
        if inside or self.path.is_symlink() or self.path.parent.is_symlink():
            raise RecordError(
                f"expected a run folder of its own, got a link that leads out: {self.path} or a file in it",
                "remove the link; nothing was written",
            )

    config = _Entry("config.yaml")
    manifest = _Entry("manifest.json")
    fingerprint = _Entry("fingerprint.json")
    trace = _Entry("trace.arrow")
    evals = _Entry("evals.arrow")
    predictions = _Entry("predictions.arrow")
    """Results of the final evaluation by example, where they were saved."""
    progress = _Entry("progress.json")
    checkpoint = _Entry("checkpoint")
    status = _Entry("status.json")
    returned = _Entry("returned.json")
    """Values that the main function of an external app returned."""
    log = _Entry("log.txt")


@dataclass(frozen=True, slots=True)
class StudyDir:
    """Paths of a study, `runs/<study>`: plan, runs, analysis and report."""

    path: Path

    plan = _Entry("plan.json")
    analysis = _Entry("analysis.json")

    def interim(self, seeds: int) -> Path:
        """Result of the interim analysis at so many seeds, in a sequential study."""
        return self.path / f"interim-{seeds}.json"

    def run(self, arm: str, seed: int) -> RunDir:
        return RunDir(self.path / safe_name(arm) / f"seed={seed}")

    def runs(self) -> Iterator[RunDir]:
        """Yield every run folder that holds a manifest, in name order."""
        for manifest in sorted(self.path.glob("*/seed=*/manifest.json")):
            yield RunDir(manifest.parent)


def check_own_folder(path: Path) -> None:
    """Raise RecordError for a folder of ours that is a link: files would be made and removed where it leads."""
    if path.is_symlink():
        raise RecordError(f"expected a folder, got a link: {path}", "remove the link; nothing was written")


_RESERVED = (
    "plan.json", "analysis.json", "report.html", "report.md", "table.tex", "table.csv", "methods.tex", "references.bib",
    "figures", "contrasts",
)  # fmt: skip
"""Names in a study folder that are not arms."""


_PLAIN = re.compile(r"[\w -]{0,128}")


def is_plain(text: str) -> bool:
    """Return whether a digest or a token of unknown origin may become part of the name of a file."""
    return _PLAIN.fullmatch(text) is not None


def is_inside(name: str) -> bool:
    """Return whether a file's name of unknown origin stays in the folder that it is looked up in."""
    path = PurePosixPath(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def safe_name(text: str, *, max_length: int = 80) -> str:
    """Return a folder name for any text: no separators, no leading dot, bounded in length.

    Distinct texts get distinct names, unless one is the name of the other; a safe name is its own name.
    """
    name = re.sub(r"[^A-Za-z0-9=,+._-]+", "_", text).lstrip(".") or "_"
    if name == text and len(name) <= max_length and name not in _RESERVED:
        return name
    return f"{name[: max_length - 13]}-{sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"

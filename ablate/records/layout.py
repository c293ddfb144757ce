"""Paths in a study folder and in a run folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of one run, `<study>/<arm>/seed=<n>`."""

    path: Path

    def leads_out(self) -> bool:
        """Return True where the folder, or a file in it, is a link to a file outside of its study."""
        study = self.path.parents[1].resolve()
        return not all(path.resolve().is_relative_to(study) for path in (self.path, *self.path.iterdir()))

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def fingerprint(self) -> Path:
        return self.path / "fingerprint.json"

    @property
    def trace(self) -> Path:
        return self.path / "trace.arrow"

    @property
    def evals(self) -> Path:
        return self.path / "evals.arrow"

    @property
    def predictions(self) -> Path:
        """Results of the final evaluation by example, where they were saved."""
        return self.path / "predictions.arrow"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def returned(self) -> Path:
        """Values that the main function of an external app returned."""
        return self.path / "returned.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"


@dataclass(frozen=True, slots=True)
class StudyDir:
    """Paths of a study, `runs/<study>`: plan, runs, analysis and report."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis.json"

    def interim(self, seeds: int) -> Path:
        """Result of the interim analysis at so many seeds, in a sequential study."""
        return self.path / f"interim-{seeds}.json"

    def run(self, arm: str, seed: int) -> RunDir:
        return RunDir(self.path / safe_name(arm) / f"seed={seed}")

    def runs(self) -> Iterator[RunDir]:
        """Yield every run folder that holds a manifest, in name order."""
        for manifest in sorted(self.path.glob("*/seed=*/manifest.json")):
            yield RunDir(manifest.parent)


_RESERVED = (
    "plan.json", "analysis.json", "report.html", "report.md", "table.tex", "table.csv", "methods.tex", "references.bib",
    "figures", "contrasts",
)  # fmt: skip
"""Names in a study folder that are not arms."""


def safe_name(text: str, *, max_length: int = 80) -> str:
    """Return a folder name for any text: no separators, no leading dot, bounded in length.

    Distinct texts get distinct names, unless one is the name of the other; a safe name is its own name.
    """
    name = re.sub(r"[^A-Za-z0-9=,+._-]+", "_", text).lstrip(".") or "_"
    if name == text and len(name) <= max_length and name not in _RESERVED:
        return name
    return f"{name[: max_length - 13]}-{sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"

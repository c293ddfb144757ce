"""Where things lie in a study folder and in a run folder, and how files in them are replaced: whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDir:
    """`<study>/<arm>/seed=<n>`: one run on disk."""

    path: Path

    def leads_out(self) -> bool:
        """Whether the folder, or what lies in it, is a link to somewhere else than its study: it may be anybody's file."""
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
        """What the final evaluation gave of each example, where that was kept."""
        return self.path / "predictions.arrow"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def lent(self) -> Path:
        """Checkpoints that siblings may begin from."""
        return self.path / "lent"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def returned(self) -> Path:
        """Of an app that is not ours: what its main returned."""
        return self.path / "returned.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"


@dataclass(frozen=True, slots=True)
class StudyDir:
    """`runs/<study>`: plan, runs, analysis and report."""

    path: Path

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def analysis(self) -> Path:
        return self.path / "analysis.json"

    def look(self, seeds: int) -> Path:
        """What was found at a look at so many seeds, of a study that has looks."""
        return self.path / f"look-{seeds}.json"

    def run(self, arm: str, seed: int) -> RunDir:
        return RunDir(self.path / safe_name(arm) / f"seed={seed}")

    def runs(self) -> Iterator[RunDir]:
        """Every run folder that holds a manifest, in name order."""
        for manifest in sorted(self.path.glob("*/seed=*/manifest.json")):
            yield RunDir(manifest.parent)


_OURS = (
    "plan.json", "analysis.json", "report.html", "report.md", "table.tex", "table.csv", "methods.tex", "references.bib",
    "figures", "contrasts",
)  # fmt: skip
"""What lies beside the arms in a study folder."""


def safe_name(typed: str, *, longest: int = 80) -> str:
    """A folder name for any text: no separators, no leading dot, bounded in length. Distinct texts stay distinct, unless one is
    the name that was made of another; a name that was made is its own."""
    kept = re.sub(r"[^A-Za-z0-9=,+._-]+", "_", typed).lstrip(".") or "_"
    if kept == typed and len(kept) <= longest and kept not in _OURS:
        return kept
    return f"{kept[: longest - 13]}-{sha256(typed.encode(errors='surrogatepass')).hexdigest()[:12]}"

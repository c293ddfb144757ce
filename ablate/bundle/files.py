"""Which files of a study are its evidence, and what an archive may hold at most."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablate.errors import StudyError
from ablate.record.rundir import RunDir, StudyDir

CONTENTS, LOCK = "bundle.json", "lock.txt"
"""What only an archive has: the list of its files, and the versions that its report was made with."""

OF_A_RUN = (
    "config.yaml", "manifest.json", "fingerprint.json", "trace.arrow", "evals.arrow", "predictions.arrow", "outcome.json",
    "returned.json", "log.txt",
)  # fmt: skip
"""Not the checkpoints, which weigh thousands of times as much, nor what a tracker left, nor who waits for what."""

MOST_FILES, MOST_BYTES = 100_000, 16 * 2**30
MOST_TEXT, MOST_TABLE = 256 * 2**20, 4 * 2**30
"""Of an archive: its files and their bytes; of one file that is read whole, and of a table."""

_PART = re.compile(r"[A-Za-z0-9=,+_-][A-Za-z0-9=,+._-]{0,99}")
_LOOK = re.compile(r"look-\d+\.json")
_RUN = re.compile(r"[^/]+/seed=\d+/([a-z.]+)")


def is_record(name: str) -> bool:
    """Whether a file, named from the study folder, is what runs or looks have left; the rest of an archive is made of it."""
    found = _RUN.fullmatch(name)
    return name == "plan.json" or bool(_LOOK.fullmatch(name)) or (found is not None and found[1] in OF_A_RUN)


def is_safe(name: str) -> bool:
    """Whether a path leads to a file in the folder where it is laid, on any system, and is no hidden one."""
    parts = name.split("/")
    return 2 <= len(parts) <= 4 and all(_PART.fullmatch(part) for part in parts)


def most_of(name: str) -> int:
    """The largest that a file of this name may be."""
    return MOST_TABLE if name.endswith(".arrow") else MOST_TEXT


def record_files(folder: Path, runs: Sequence[RunDir]) -> Iterator[str]:
    """The evidence in a study folder, named from there, in name order. Raises StudyError for what is a link or no file."""
    study = StudyDir(folder)
    found = [study.plan, *folder.glob("look-*.json"), *(run.path / name for run in runs for name in OF_A_RUN)]
    for path in sorted(path for path in found if path.exists() or path.is_symlink()):
        name = path.relative_to(folder).as_posix()
        outside = not path.resolve().is_relative_to(folder.resolve())
        if path.is_symlink() or outside or not path.is_file():
            raise StudyError(f"{path} is a link or no file: what it shows is not the study's own", "copy it there")
        if is_record(name):
            yield name


def left_out(runs: Sequence[RunDir]) -> tuple[int, int]:
    """Number and bytes of the checkpoints that stay where they are."""
    places = [place for run in runs for place in (run.checkpoint, run.lent) if place.is_dir()]
    files = [file for place in places for file in place.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(any(place.iterdir()) for place in places), sum(file.stat().st_size for file in files)

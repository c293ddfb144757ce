"""Rebuild the analysis, tables and page of a study from its record."""

from __future__ import annotations

from pathlib import Path

from ablate.analysis.infer_plan import Asked
from ablate.analysis.results import Analysis
from ablate.archive.manifest import is_record
from ablate.report import build_report


def derive(folder: Path, asked: Asked) -> tuple[Analysis, dict[str, Path]]:
    """Make analysis, tables and page in the folder, and say which files these are.

    A sentence on a broken run names its folder by where it lies; here it lies in a temporary one, which is left out of it.
    """
    analysis = build_report(folder, asked)
    made = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    made = {name: path for name, path in made.items() if not is_record(name)}
    here = f"{folder.parent}/".encode()
    for path in made.values():
        whole = path.read_bytes()
        if here in whole:
            path.write_bytes(whole.replace(here, b""))
    return analysis, made

"""Rebuild the report and the interim analyses of a study from its records, and compare them with those in an archive."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ablate.analysis.analyse import analyse_interim
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.results import Analysis
from ablate.archive.manifest import is_record
from ablate.design.plan import Plan
from ablate.records.layout import StudyDir
from ablate.report import build_report
from ablate.serialization import CHECKSUM, write_json

_CONTEXT = 40


def rebuild_report(folder: Path, options: PlanOptions) -> tuple[Analysis, dict[str, Path]]:
    """Build analysis, tables and page in a copy of a study. Return the analysis and {name: path} of the files."""
    analysis = build_report(folder, options)
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    report = {name: path for name, path in paths.items() if not is_record(name)}
    # Sentences about a broken run name its path, which here is a temporary one.
    parent = f"{folder.parent}/".encode()
    for path in report.values():
        content = path.read_bytes()
        if parent in content:
            path.write_bytes(content.replace(parent, b""))
    return analysis, report


def interim_problems(folder: Path, plan: Plan) -> Iterator[str]:
    """Rebuild each interim analysis from the runs before it, and yield those that differ. folder: a copy of the study."""
    study, archived = StudyDir(folder), folder.parent / "interim"
    archived.mkdir()
    files = [study.interim(seeds) for seeds in plan.interim_seeds if study.interim(seeds).exists()]
    for file in files:
        file.rename(archived / file.name)
    for file in files:
        received, rebuilt = archived / file.name, archived / "rebuilt.json"
        try:
            there = json.loads(received.read_bytes())
            value = {**analyse_interim(folder), "made": there["made"]}  # a time of day does not follow from the records
            write_json(rebuilt, value, hide=True, checksum=CHECKSUM in there)
            if difference := first_difference(received, rebuilt):
                yield f"{file.name} differs {difference}"
        except Exception as error:  # the archive may hold anything
            yield f"{file.name} cannot be rebuilt: {type(error).__name__}: {error}"[:300]
        received.rename(file)


def first_difference(archived: Path, rebuilt: Path) -> str:
    """Return the first difference in words; '' for equal bytes."""
    left, right = archived.read_bytes(), rebuilt.read_bytes()
    if left == right:
        return ""
    if archived.suffix == ".json":
        try:
            return _first_leaf(dict(_leaves(json.loads(left))), dict(_leaves(json.loads(right))))
        except (ValueError, RecursionError):
            pass
    return _first_line(left, right)


def _first_leaf(left: dict[str, Any], right: dict[str, Any]) -> str:
    paths = [path for path in {**right, **left} if repr(left.get(path, "absent")) != repr(right.get(path, "absent"))]
    if not paths:
        return "in formatting only"
    pairs = [(left.get(path, "absent"), right.get(path, "absent")) for path in paths]
    more = f"; {len(paths)} values in all" if len(paths) > 1 else ""
    errors = [_relative_error(*pair) for pair in pairs]
    known = [error for error in errors if error is not None]
    size = f"; relative error at most {max(known):.1g}" if len(known) == len(paths) else ""
    return f"at {paths[0]}: expected {_short(pairs[0][1])}, got {_short(pairs[0][0])}{more}{size}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def _relative_error(left: Any, right: Any) -> float | None:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (left, right)):
        return None
    size = max(abs(left), abs(right))
    return abs(left - right) / size if size and math.isfinite(size) else None


def _first_line(left: bytes, right: bytes) -> str:
    lines = zip_longest(left.splitlines(keepends=True), right.splitlines(keepends=True), fillvalue=b"")
    number, pair = next((number, pair) for number, pair in enumerate(lines, 1) if pair[0] != pair[1])
    column = next((at for at, (one, other) in enumerate(zip(*pair, strict=False)) if one != other), min(map(len, pair)))
    start = max(column - _CONTEXT // 2, 0)
    got, expected = (_short(line[start : start + _CONTEXT].decode(errors="replace")) for line in pair)
    return f"in line {number}: expected {expected}, got {got}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Results of the interim analyses of a sequential study: one file each, written once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from ablate.errors import RecordError
from ablate.records.layout import StudyDir
from ablate.serialization import read_json, write_json

InterimResult = Mapping[str, Any]
"""Result of an interim analysis. seeds, level: of this one. plan: digest of the plan. stops: {variant: verdict} of those that
it decided. contrasts: on the primary metric."""


def read_interims(folder: Path, interim_seeds: Sequence[int], plan_digest: str) -> list[InterimResult]:
    """Return the results of the interim analyses so far, in order. Raises RecordError for an invalid file, or another plan."""
    results: list[InterimResult] = []
    for seeds in interim_seeds:
        path = StudyDir(folder).interim(seeds)
        if not path.exists():
            break
        try:
            value = _read(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RecordError(
                f"{path} cannot be read: {error!r}", "the study's command makes it again from its runs"
            ) from None
        if not (value["plan"] == plan_digest and value["seeds"] == seeds):
            raise RecordError(
                f"{path} is an interim analysis of another plan than plan.json",
                f"study.name=<another>, or remove {path} if you removed the study's runs",
            )
        results.append(value)
    return results


def remove_damaged(folder: Path, interim_seeds: Sequence[int]) -> list[str]:
    """Remove the files that cannot be read, which follow from the runs before them; return their names."""
    removed = []
    for seeds in interim_seeds:
        path = StudyDir(folder).interim(seeds)
        try:
            if path.exists():
                _read(path)
        except (OSError, ValueError, TypeError, KeyError):
            path.unlink()
            removed.append(path.name)
    return removed


def _read(path: Path) -> InterimResult:
    value: InterimResult = read_json(path)
    if not isinstance(value["stops"], dict) or not 0 < float(value["level"]) < 1 or not {"plan", "seeds"} <= set(value):
        raise ValueError("it is not the result of an interim analysis")
    return value


def write_interim(folder: Path, result: InterimResult) -> bool:
    """Write the result of an interim analysis unless there is one already. Returns True where this one was written."""
    path = StudyDir(folder).interim(result["seeds"])
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    write_json(part, dict(result), hide=True, checksum=True)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links; the caller holds the lock
        if path.exists():
            return False
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return True

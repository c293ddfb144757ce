"""plan.json: the frozen plan in a study directory."""

from __future__ import annotations

from pathlib import Path

from ablate.design.plan import Plan
from ablate.errors import StudyError
from ablate.records.layout import StudyDir
from ablate.redact import redact
from ablate.serialization import read_json, write_json


def read_plan(folder: Path, *, rename: str = "study.name=<another>") -> Plan:
    """Return the plan that is frozen in a study directory.

    rename: setting that gives a new study another directory, for the fix of the error.
    Raises StudyError where plan.json does not exist or cannot be read.
    """
    path = StudyDir(folder).plan
    try:
        return Plan.from_json(read_json(path))
    except FileNotFoundError:
        raise StudyError(
            f"{folder} is not a study directory: it has no {path.name}", "ablate -m axis=... makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read as a plan: {error}", f"remove {folder}, or {rename}") from None


def write_plan(plan: Plan, folder: Path) -> None:
    """Freeze a plan in its study directory, with its digest and without secrets."""
    write_json(StudyDir(folder).plan, plan.to_json() | {"command": redact(plan.command), "digest": plan.digest})


def free_name(folder: Path) -> str:
    """Return the first of `<name>_2`, `<name>_3` ... that no directory next to this one has."""
    number = 2
    while folder.with_name(f"{folder.name}_{number}").exists():
        number += 1
    return f"{folder.name}_{number}"

"""What the looks of a study have found: a file each, written once and never again."""

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

Look = Mapping[str, Any]
"""seeds, level: of this look. plan: the digest that it belongs to. stops: {variant: verdict} of those that it decided.
contrasts: the figures on the primary metric that decided."""


def read_looks(folder: Path, looks: Sequence[int], plan_digest: str) -> list[Look]:
    """The looks that have been made, in order. Raises RecordError for a file that is none, or another plan's."""
    found: list[Look] = []
    for seeds in looks:
        path = StudyDir(folder).look(seeds)
        if not path.exists():
            break
        try:
            value = read_json(path)
            ours = value["plan"] == plan_digest and value["seeds"] == seeds
            whole = isinstance(value["stops"], dict) and 0 < float(value["level"]) < 1
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RecordError(
                f"{path} cannot be read: {error!r}", f"study.name=<another>, or remove {folder}"
            ) from None
        if not (ours and whole):
            raise RecordError(
                f"{path} is a look of another plan than the one that lies beside it",
                f"study.name=<another>, or remove {path} if you removed the study's runs",
            )
        found.append(value)
    return found


def write_look(folder: Path, look: Look) -> bool:
    """Write it whole, unless one lies there: a look is made once. Returns whether this one was written."""
    path = StudyDir(folder).look(look["seeds"])
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    write_json(part, dict(look), hide=True)
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links; whoever asks holds the claim to look
        if path.exists():
            return False
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return True

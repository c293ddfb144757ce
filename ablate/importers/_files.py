"""Finding and reading files of a folder that may come from anywhere: nothing outside it, nothing that is no file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ablate.errors import RecordError

_DEEPEST = 4
_MOST = 10_000
"""Files that are looked at before a folder is taken for something else than a run."""


def below(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder whose path in it is `pattern`, in name order; links that lead out of it are refused.

    Raises RecordError for such a link.
    """
    found = sorted(islice(folder.glob(pattern), _MOST))
    return [inside(folder, path) for path in found if path.is_file()]


def below_any_depth(folder: Path, pattern: str) -> Iterator[Path]:
    """The same in the folder and four levels down."""
    for depth in range(_DEEPEST + 1):
        yield from below(folder, "/".join(["*"] * depth + [pattern]))


def inside(folder: Path, path: Path) -> Path:
    """The path itself. Raises RecordError where it is a link to somewhere else: it may be anybody's file."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordError(f"{path} is a link that leads out of {folder}, and is not followed", "name the file itself")
    return path


def text_of(path: Path) -> str:
    """What stands in a text file. Raises RecordError for what is none."""
    try:
        if not path.is_file():
            raise OSError("it is no file")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read as text: {error}") from None

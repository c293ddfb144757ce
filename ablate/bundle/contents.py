"""`bundle.json`: what an archive holds, and what it was made by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ablate.analysis.adopt import Asked
from ablate.record.digest import digest_of
from ablate.record.rundir import read_json
from ablate.typed import built

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """folder: the one that all of it lies in. study, plan: name and digest; '' of a folder without a plan. asked: as in
    `Asked`, of such a folder.

    complete: whether every run of the plan had come to an end. files: {name: {"bytes", "sha256"}} of all but this one.
    ablate: version that made the report. code: {file: sha256} of its whole package.
    """

    format: int
    folder: str
    study: str
    plan: str
    complete: bool
    asked: dict[str, Any]
    files: dict[str, dict[str, Any]]
    ablate: str
    code: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """As it is written: the same contents give the same bytes, and it holds the hash of its own values."""
        value = asdict(self)
        return json.dumps({**value, "digest": digest_of(value)}, indent=1, sort_keys=True) + "\n"


def read_contents(path: Path) -> Contents:
    """Raises OSError or ValueError for what no `ablate bundle` has written, one wrong byte included."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError("it is no list of files")
    found: Contents = built(Contents, {key: item for key, item in value.items() if key != "digest"})
    if found.format != FORMAT:
        raise ValueError(f"it has format {found.format}, and this version reads {FORMAT}")
    for name, one in found.files.items():
        if set(one) != {"bytes", "sha256"} or type(one["bytes"]) is not int or not isinstance(one["sha256"], str):
            raise ValueError(f"{name!r} has no size and hash")
    if path.read_text(encoding="utf-8") != found.text():
        raise ValueError("its own hash is another")
    asked_of(found)
    return found


def asked_of(contents: Contents) -> Asked:
    """What was asked of a folder without a plan."""
    asked: Asked = built(Asked, contents.asked)
    return asked


def listed(places: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """{name: {"bytes", "sha256"}} of files."""
    return {name: {"bytes": path.stat().st_size, "sha256": hash_of(path)} for name, path in sorted(places.items())}


def hash_of(path: Path) -> str:
    """sha256 of a file, which need not fit into memory."""
    found = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()


def own_version() -> str:
    """Of this package; '' where it is not installed."""
    try:
        return version("torch-ablate")
    except PackageNotFoundError:
        return ""


@cache
def own_code() -> dict[str, str]:
    """{file: sha256} of the whole package as it lies here: what reads a record, and how it is shown, is in it."""
    package = Path(__file__).resolve().parents[1]
    files = [file for end in ("py", "css", "js", "html") for file in package.rglob(f"*.{end}")]
    return {f"ablate/{file.relative_to(package).as_posix()}": hash_of(file) for file in sorted(files)}

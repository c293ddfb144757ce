"""`bundle.json`: what an archive holds, and what it was made by."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from ablate.analysis.infer_plan import Asked
from ablate.hashing import digest_of
from ablate.serialization import built, read_json

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


# `lock.txt`: the versions of all that a report is made with here, in the form that `pip install -r` reads.

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_READS = ("numpy", "scipy", "pyarrow", "plotly", "matplotlib", "pyyaml")
"""What a report is computed and drawn with: another version of it may change a digit or the page."""


@cache
def lock() -> str:
    """`torch-ablate` and all that it requires, at any depth, as far as it is installed; extras are left out."""
    waiting, found = ["torch-ablate"], dict[str, str]()
    seen = set[str]()
    while waiting:
        name = _plain(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = there.version
        for text in there.requires or ():
            needed, _, condition = text.partition(";")
            if "extra" not in condition and (match := _NAME.match(needed)):
                waiting.append(match[0])
    head = f"# The report in this archive was made with Python {sys.version.split()[0]} and these.\n"
    return head + "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def others(locked: str) -> list[str]:
    """What a report is made with and has another version here: `numpy 2.4.6 there, 2.3.0 here`."""
    there, here = _read(locked), _read(lock())
    return [
        f"{name} {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in ("Python", *_READS)
        if there.get(name) != here.get(name)
    ]


def _read(text: str) -> dict[str, str]:
    found = dict(line.split("==", 1) for line in text.splitlines() if "==" in line and not line.startswith("#"))
    python = re.search(r"Python ([\d.]+\w*)", text.partition("\n")[0])
    return found | ({"Python": python[1]} if python else {})


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def is_record(name: str) -> bool:
    """Whether a file, named from the study folder, is what runs or looks have left; the rest of an archive is made of it."""
    found = _RUN.fullmatch(name)
    return name == "plan.json" or bool(_LOOK.fullmatch(name)) or (found is not None and found[1] in OF_A_RUN)


OF_A_RUN = (
    "config.yaml", "manifest.json", "fingerprint.json", "trace.arrow", "evals.arrow", "predictions.arrow", "status.json",
    "returned.json", "log.txt",
)  # fmt: skip
"""Not the checkpoints, which weigh thousands of times as much, nor what a tracker left, nor who waits for what."""


_LOOK = re.compile(r"look-\d+\.json")


_RUN = re.compile(r"[^/]+/seed=\d+/([a-z.]+)")

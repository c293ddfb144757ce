"""`bundle.json`, the manifest of an archive, and `lock.txt`, the package versions that made its report."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from ablate.analysis.infer_plan import PlanOptions
from ablate.archive.files import hash_of
from ablate.hashing import digest_of
from ablate.serialization import built, read_json

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleManifest:
    """Contents of an archive."""

    format: int
    folder: str
    """Name of the one directory in the archive."""
    study: str
    plan: str
    """Digest of the plan; '' for a study without a plan."""
    complete: bool
    """Whether every planned run has ended."""
    options: dict[str, Any]
    """Report options of a study without a plan: metric, smallest effect, accepted differences."""
    files: dict[str, dict[str, Any]]
    """{name: {"bytes", "sha256"}} of every file except the manifest."""
    ablate: str
    """Version that made the report."""
    code: dict[str, str] = field(default_factory=dict)
    """{file: sha256} of that version's source files."""

    @property
    def report_options(self) -> PlanOptions:
        options: PlanOptions = built(PlanOptions, self.options)
        return options

    def text(self) -> str:
        """Return the file's text, which includes a digest of its own values."""
        value = asdict(self)
        return json.dumps({**value, "digest": digest_of(value)}, indent=1, sort_keys=True) + "\n"


def read_bundle_manifest(path: Path) -> BundleManifest:
    """Read a manifest. Raises OSError or ValueError unless every byte is as `ablate bundle` writes it."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    manifest: BundleManifest = built(BundleManifest, {key: item for key, item in value.items() if key != "digest"})
    if manifest.format != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {manifest.format}")
    for name, entry in manifest.files.items():
        if set(entry) != {"bytes", "sha256"} or type(entry["bytes"]) is not int or not isinstance(entry["sha256"], str):
            raise ValueError(f"expected size and SHA-256 of {name!r}, got {entry}"[:200])
    if path.read_text(encoding="utf-8") != manifest.text():
        raise ValueError("its digest does not match its contents")
    _ = manifest.report_options  # raises ValueError if malformed
    return manifest


def file_hashes(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return {name: {"bytes", "sha256"}} of {name: path}."""
    return {name: {"bytes": path.stat().st_size, "sha256": hash_of(path)} for name, path in sorted(files.items())}


def own_version() -> str:
    """Return the version of this package; '' if it is not installed."""
    try:
        return version("torch-ablate")
    except PackageNotFoundError:
        return ""


@cache
def own_code() -> dict[str, str]:
    """Return {file: sha256} of every source file of this package, templates and styles included."""
    package = Path(__file__).resolve().parents[1]
    files = [file for end in ("py", "css", "js", "html") for file in package.rglob(f"*.{end}")]
    return {f"ablate/{file.relative_to(package).as_posix()}": hash_of(file) for file in sorted(files)}


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REPORT_PACKAGES = ("numpy", "scipy", "pyarrow", "plotly", "matplotlib", "pyyaml")
"""Packages whose version can change a digit or the page of a report."""


@cache
def lock() -> str:
    """Return `name==version` lines of `torch-ablate` and its installed requirements, recursively and without extras."""
    pending, versions, visited = ["torch-ablate"], dict[str, str](), set[str]()
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        if name in visited:
            continue
        visited.add(name)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        versions[name] = installed.version
        for text in installed.requires or ():
            requirement, _, condition = text.partition(";")
            if "extra" not in condition and (match := _NAME.match(requirement)):
                pending.append(match[0])
    head = f"# The report in this archive was made with Python {sys.version.split()[0]} and these packages.\n"
    return head + "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))


def version_differences(locked: str) -> list[str]:
    """Return the report packages that have another version here: `numpy 2.4.6 there, 2.3.0 here`."""
    there, here = _versions(locked), _versions(lock())
    return [
        f"{name} {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in ("Python", *_REPORT_PACKAGES)
        if there.get(name) != here.get(name)
    ]


def _versions(text: str) -> dict[str, str]:
    versions = dict(line.split("==", 1) for line in text.splitlines() if "==" in line and not line.startswith("#"))
    python = re.search(r"Python ([\d.]+\w*)", text.partition("\n")[0])
    return versions | ({"Python": python[1]} if python else {})

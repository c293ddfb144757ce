"""Contents of an archive: its files and their limits, the tar, `bundle.json` with every hash, and `lock.txt`.

`bundle.json` is the manifest; `lock.txt` lists the package versions that made the report.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import IO, Any

from ablate.analysis.infer_plan import PlanOptions
from ablate.errors import StudyError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.serialization import built, read_json

FORMAT = 1
MANIFEST, LOCK = "bundle.json", "lock.txt"
"""Files that only an archive has: its manifest, and the package versions that made its report."""

RUN_FILES = (
    "config.yaml", "manifest.json", "fingerprint.json", "trace.arrow", "evals.arrow", "predictions.arrow", "status.json",
    "returned.json", "log.txt",
)  # fmt: skip
"""Records of a run. Checkpoints (a thousand times as large), tracker files and locks stay outside the archive."""

MAX_FILES, MAX_BYTES = 100_000, 16 * 2**30
"""Limits of a whole archive."""

MAX_TEXT_BYTES, MAX_TABLE_BYTES = 256 * 2**20, 4 * 2**30
"""Limits of one file: a text file is read whole, a table is not."""

_RUN_FILE = re.compile(r"[^/]+/seed=\d+/([a-z.]+)")
_INTERIM_FILE = re.compile(r"interim-\d+\.json")
_PART = re.compile(r"[A-Za-z0-9=,+_-][A-Za-z0-9=,+._-]{0,99}")


def is_record(name: str) -> bool:
    """Return whether a file, named relative to the study directory, was recorded; all other files are derived from records."""
    match = _RUN_FILE.fullmatch(name)
    return name == "plan.json" or bool(_INTERIM_FILE.fullmatch(name)) or (match is not None and match[1] in RUN_FILES)


def record_files(folder: Path, runs: Sequence[RunDir]) -> Iterator[str]:
    """Yield the records of a study, named relative to its directory, in name order.

    Raises StudyError for a symbolic link or anything else than a regular file.
    """
    study = StudyDir(folder)
    paths = [study.plan, *folder.glob("interim-*.json"), *(run.path / name for run in runs for name in RUN_FILES)]
    for path in sorted(path for path in paths if path.exists() or path.is_symlink()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise StudyError(f"expected a regular file inside the study, got a link or special file: {path}",
                             "replace it by a copy of the file")  # fmt: skip
        if is_record(name):
            yield name


def is_safe_name(name: str) -> bool:
    """Return whether a tar member is a visible file inside one top directory, on every operating system."""
    parts = name.split("/")
    return 2 <= len(parts) <= 4 and all(_PART.fullmatch(part) for part in parts)


def max_bytes(name: str) -> int:
    """Return the size limit of a file with this name."""
    return MAX_TABLE_BYTES if name.endswith(".arrow") else MAX_TEXT_BYTES


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def write_tar(file: IO[bytes], top: str, files: Mapping[str, Path]) -> None:
    """Write {name: path} as `top/name`, the manifest first and the rest in name order.

    The bytes depend on names and contents alone: no clock, no owner, no compression.
    """
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files, key=lambda name: (name != MANIFEST, name)):
            with files[name].open("rb") as content:
                tar.addfile(header(f"{top}/{name}", files[name].stat().st_size), content)


def header(name: str, size: int) -> tarfile.TarInfo:
    """Return a tar header without owner and time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info


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

"""Files of an archive: their names, their limits, and the tar that holds them."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

from ablate.errors import StudyError
from ablate.records.layout import RunDir, StudyDir

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
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


class HashingWriter:
    """File object that hashes and counts what is written, and passes it on to `file` if there is one."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file, self._hash, self.bytes = file, sha256(), 0

    def write(self, block: bytes) -> int:
        self._hash.update(block)
        self.bytes += len(block)
        if self._file is not None:
            self._file.write(block)
        return len(block)

    def tell(self) -> int:
        return self.bytes

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_tar(out: HashingWriter, top: str, files: Mapping[str, Path]) -> None:
    """Write {name: path} as `top/name`, the manifest first and the rest in name order.

    The bytes depend on names and contents alone: no clock, no owner, no compression.
    """
    with tarfile.open(fileobj=cast("Any", out), mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files, key=lambda name: (name != MANIFEST, name)):
            with files[name].open("rb") as file:
                tar.addfile(header(f"{top}/{name}", files[name].stat().st_size), file)


def header(name: str, size: int) -> tarfile.TarInfo:
    """Return a tar header without owner and time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info

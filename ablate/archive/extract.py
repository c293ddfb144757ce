"""Extract an archive from an untrusted source: every name, type and size is checked before the first byte is written."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryFile

import pyarrow as pa

from ablate.archive.manifest import MANIFEST, MAX_BYTES, MAX_FILES, hash_of, is_safe_name, max_bytes, write_tar
from ablate.errors import RecordError
from ablate.records.reader import next_message, open_table
from ablate.records.run_files import SmallHeader

_FIX = "ask for the file that `ablate bundle` wrote; it is an uncompressed .tar"
_COMPRESSED = {b"\x1f\x8b": "gunzip", b"\xfd7": "unxz", b"BZ": "bunzip2", b"\x28\xb5": "unzstd"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractedArchive:
    """Archive that was extracted."""

    top: str
    """Name of its one directory."""
    sha256: str
    bytes: int
    files: dict[str, Path]
    """{name: path of the extracted file}"""
    hashes: dict[str, str]
    """{name: sha256}"""

    def is_as_written(self) -> bool:
        """Return whether `ablate bundle` writes exactly this archive for these files: order, headers and padding too."""
        with TemporaryFile() as file:
            write_tar(file, self.top, self.files)
            file.seek(0)
            return file_digest(file, "sha256").hexdigest() == self.sha256


def extract(path: Path, folder: Path) -> ExtractedArchive:
    """Extract an archive into a directory. Raises RecordError for anything that `ablate bundle` does not write."""
    _check_file(path)
    try:
        with tarfile.open(path, "r:", tarinfo=SmallHeader) as tar:
            members = list(_checked_members(path, tar))
            tar.extractall(folder, members=members, filter="data")
    except (tarfile.TarError, EOFError, ValueError, FileExistsError, NotADirectoryError) as error:
        raise RecordError(f"cannot read {path} as a tar archive: {error}", _FIX) from None
    top = members[0].name.split("/")[0]
    files = {member.name.removeprefix(f"{top}/"): folder / member.name for member in members}
    hashes = {name: hash_of(file) for name, file in files.items()}
    return ExtractedArchive(top=top, sha256=hash_of(path), bytes=path.stat().st_size, files=files, hashes=hashes)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise RecordError(f"expected an archive, got the directory {path}", f"ablate bundle {path}")
    if not path.is_file():
        raise RecordError(f"{path} is not a regular file" if path.exists() else f"{path} does not exist", _FIX)
    with path.open("rb") as file:
        head = file.read(512)
    for magic, tool in _COMPRESSED.items():
        if head.startswith(magic):
            raise RecordError(f"expected an uncompressed archive, got a compressed one: {path}", f"{tool} {path}")
    if head[257:262] != b"ustar":
        raise RecordError(f"expected a tar archive, got another file: {path}", _FIX)
    if path.stat().st_size > MAX_BYTES + 1024 * MAX_FILES:
        raise RecordError(f"{path} exceeds the limit of {MAX_BYTES:,} bytes", _FIX)


def _checked_members(path: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield every member; only headers are read."""
    names, total, top = set[str](), 0, ""
    for number, member in enumerate(tar):
        name, shown = member.name, repr(member.name[:80])
        top = top or name.split("/")[0]
        total += member.size
        is_plain = not member.pax_headers and member.offset_data == member.offset + tarfile.BLOCKSIZE
        problem = ""
        if member.type != tarfile.REGTYPE or not is_plain:
            problem = f"expected a regular file, got a link, device, directory or extended header: {shown}"
        elif not is_safe_name(name) or name.split("/")[0] != top:
            problem = f"expected a plain name in the directory {top[:80]!r}, got {shown}"
        elif name in names:
            problem = f"expected each file once, got {shown} twice"
        elif member.size > max_bytes(name) or total > MAX_BYTES or number >= MAX_FILES:
            limits = f"{max_bytes(name):,} bytes in this file, {MAX_BYTES:,} in all, {MAX_FILES:,} files"
            problem = f"{shown} exceeds the limits: {limits}"
        if problem:
            raise RecordError(f"{path} was rejected before anything was extracted: {problem}", _FIX)
        names.add(name)
        yield member
    if f"{top}/{MANIFEST}" not in names:
        raise RecordError(f"expected an archive with {MANIFEST}, got a tar without it: {path}", _FIX)


def table_problem(path: Path) -> str:
    """Return why a table must not be read; '' if it is safe. A truncated last block, of a killed run, is safe."""
    try:
        with open_table(path) as file:
            while next_message(file) is not None:
                pass
    except (OSError, ValueError, pa.ArrowException) as error:
        return str(error)
    return ""

"""Tables that may come from anybody: blocks are looked at before Arrow reads them, as a compressed one may grow without end."""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from ablate.archive.bundle import CONTENTS, MOST_BYTES, MOST_FILES, Hashed, is_safe, most_of, write_archive
from ablate.archive.manifest import hash_of
from ablate.errors import RecordError

_SCHEMA, _BLOCK = 1, 3
"""Kinds of message that a run writes; Arrow's own numbers."""


def problem_of(path: Path) -> str:
    """What keeps a table from being read; '' where nothing does. A torn tail, of a run that was killed, is no problem."""
    try:
        with pa.OSFile(str(path)) as file:
            messages = pa.ipc.MessageReader.open_stream(file)
            while True:
                try:
                    message = messages.read_next_message()
                except (StopIteration, pa.ArrowException, OSError):
                    return ""
                found = _problem(message.metadata.to_pybytes())
                if found:
                    return found
    except (OSError, ValueError, struct.error, pa.ArrowException) as error:
        return f"it is no table: {error}"


def _problem(metadata: bytes) -> str:
    """Of one message, whose metadata is a flatbuffer: {version, kind, {length, nodes, buffers, compression}, body length}."""
    message = _at(metadata, 0)
    kind = metadata[place] if (place := _field(metadata, message, 1)) else 0
    if kind == _SCHEMA:
        return ""
    if kind != _BLOCK:
        return f"it holds a message of kind {kind}, which no run writes"
    block = _field(metadata, message, 2)
    if block and _field(metadata, _at(metadata, block), 3):
        return "its blocks are compressed, which no run writes: they may grow without end"
    return ""


def _at(data: bytes, place: int) -> int:
    """Where an offset leads."""
    return place + int(struct.unpack_from("<I", data, place)[0])


def _field(data: bytes, table: int, number: int) -> int:
    """Where a field of a table lies; 0 where it has none."""
    names = table - int(struct.unpack_from("<i", data, table)[0])
    if names < 0:
        raise ValueError("an offset leads out of it")
    size = struct.unpack_from("<H", data, names)[0]
    place = 4 + 2 * number
    offset = int(struct.unpack_from("<H", data, names + place)[0]) if place + 2 <= size else 0
    return table + offset if offset else 0


# Reading an archive that may come from anybody: names, sizes and kinds are checked before one byte is laid
# down.

_MAKE = "ask for the file that `ablate bundle` made; it is a plain .tar"
_MAGIC = {b"\x1f\x8b": "gunzip", b"\xfd7": "unxz", b"BZ": "bunzip2", b"\x28\xb5": "unzstd"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Unpacked:
    """An archive in a folder. top: the one folder that it holds. places: {name: where it lies now}. hashes: {name: sha256}."""

    top: str
    sha256: str
    bytes: int
    places: dict[str, Path]
    hashes: dict[str, str]

    def as_written(self) -> bool:
        """Whether these files alone make this very archive: order, headers and what lies between them are as they should be."""
        into = Hashed()
        write_archive(into, self.top, self.places)
        return into.sha256 == self.sha256


def unpack(path: Path, into: Path) -> Unpacked:
    """Lay the files of an archive down in a folder. Raises RecordError for what is no archive of ours."""
    _check_kind(path)
    try:
        with tarfile.open(path, "r:") as tar:
            members = list(_checked(path, tar))
            top = members[0].name.split("/")[0]
            places, hashes = dict[str, Path](), dict[str, str]()
            for member in members:
                name = member.name.removeprefix(f"{top}/")
                place = into / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                places[name], hashes[name] = place, _laid(tar, member, place)
    except (tarfile.TarError, EOFError, UnicodeError, FileExistsError, NotADirectoryError) as error:
        raise RecordError(f"{path} cannot be read as an archive: {error}", _MAKE) from None
    return Unpacked(top=top, sha256=hash_of(path), bytes=path.stat().st_size, places=places, hashes=hashes)


def _check_kind(path: Path) -> None:
    if not path.is_file():
        if path.is_dir():
            raise RecordError(f"{path} is a folder, and not an archive", f"ablate bundle {path}")
        raise RecordError(f"{path} is no file" if path.exists() else f"there is no file {path}", _MAKE)
    with path.open("rb") as file:
        begin = file.read(512)
    for magic, tool in _MAGIC.items():
        if begin.startswith(magic):
            raise RecordError(f"{path} is compressed, and a compressed file may grow without end", f"{tool} {path}")
    if begin[257:262] != b"ustar":
        raise RecordError(f"{path} is not a tar archive", _MAKE)
    if path.stat().st_size > MOST_BYTES + 1024 * MOST_FILES:
        raise RecordError(f"{path} is larger than the {MOST_BYTES:,} bytes that are read", _MAKE)


def _checked(path: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Every member, in the order of the archive; headers alone have been read."""
    seen, total, top = set[str](), 0, ""
    for number, member in enumerate(tar):
        name, shown = member.name, repr(member.name[:80])
        top = top or name.split("/")[0]
        problem = ""
        if (
            member.type != tarfile.REGTYPE
            or member.pax_headers
            or member.offset_data != member.offset + tarfile.BLOCKSIZE
        ):
            problem = f"{shown} is a link, a device, a folder or a special file"
        elif not is_safe(name) or name.split("/")[0] != top:
            problem = f"{shown} would not lie in the archive's one folder {top[:80]!r}"
        elif name in seen:
            problem = f"{shown} is there twice"
        elif member.size > most_of(name) or (total := total + member.size) > MOST_BYTES or number >= MOST_FILES:
            problem = f"{shown} goes beyond what is read: {most_of(name):,} bytes, {MOST_BYTES:,} in all, {MOST_FILES:,} files"
        if problem:
            raise RecordError(f"{path} is refused, and nothing of it was unpacked: {problem}", _MAKE)
        seen.add(name)
        yield member
    if f"{top}/{CONTENTS}" not in seen:
        raise RecordError(f"{path} is no bundle: it has no {CONTENTS}", _MAKE)


def _laid(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> str:
    found, left = sha256(), member.size
    source = tar.extractfile(member)
    assert source is not None  # it is a regular file
    with place.open("xb") as file:
        while left:
            block = source.read(min(left, 2**20))
            if not block:
                raise EOFError(f"{member.name} ends too early")
            found.update(block)
            file.write(block)
            left -= len(block)
    return found.hexdigest()

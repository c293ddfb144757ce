"""An archive as a dict of its files, to be changed and packed again, with a list of hashes that agrees or does not."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ablate.archive.manifest import header
from ablate.hashing import digest_of

Files = dict[str, bytes]


def files_of(archive: Path) -> Files:
    """{name under the top folder: bytes}."""
    with tarfile.open(archive, "r:") as tar:
        found = {member.name.partition("/")[2]: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in found.items() if file is not None}


def pack(files: Mapping[str, bytes], path: Path, *, top: str = "study") -> Path:
    """As `ablate bundle` orders them."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files, key=lambda name: (name != "bundle.json", name)):
            tar.addfile(header(f"{top}/{name}", len(files[name])), io.BytesIO(files[name]))
    return path


def relisted(files: Files) -> Files:
    """With the hash of every file as it is now, as somebody would do who knows how an archive is made."""
    value = json.loads(files["bundle.json"])
    del value["digest"]
    value["files"] = {
        name: {"bytes": len(content), "sha256": sha256(content).hexdigest()}
        for name, content in sorted(files.items())
        if name != "bundle.json"
    }
    text = json.dumps({**value, "digest": digest_of(value)}, indent=1, sort_keys=True) + "\n"
    return {**files, "bundle.json": text.encode()}


def flipped(content: bytes, place: int | None = None) -> bytes:
    """One bit is another."""
    at = len(content) // 2 if place is None else place
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def edited(content: bytes, **changes: Any) -> bytes:
    """A JSON file in which some keys hold other values, written as the record writes it."""
    return (json.dumps({**json.loads(content), **changes}, indent=2, sort_keys=True) + "\n").encode()

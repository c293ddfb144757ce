"""Files as a tar whose bytes say nothing but what is in them: no clock, no owner, sorted, not compressed."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, cast

from ablate.bundle.files import CONTENTS


class Hashed:
    """Where an archive goes: counts and hashes what is written, and passes it on where there is a file."""

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


def write_archive(into: Hashed, top: str, places: Mapping[str, Path]) -> None:
    """places: {name: where it lies}; the list of files comes first, the others in name order, all of them under `top`."""
    order = sorted(places, key=lambda name: (name != CONTENTS, name))
    with tarfile.open(fileobj=cast("Any", into), mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in order:
            with places[name].open("rb") as file:
                tar.addfile(header(f"{top}/{name}", places[name].stat().st_size), file)


def header(name: str, size: int) -> tarfile.TarInfo:
    """A file of nobody's, from no time."""
    found = tarfile.TarInfo(name)
    found.size, found.mode, found.mtime = size, 0o644, 0
    return found

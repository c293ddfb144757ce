"""Four ways in which a file of a run is damaged: cut, emptied, missing, one bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def flipped(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10]),
    "emptied": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "one bit": flipped,
}

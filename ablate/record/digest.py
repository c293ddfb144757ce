"""Hashes of values: equal digests mean equal content."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any


def digest_of(value: Any) -> str:
    """sha256 of the value as canonical JSON; 1, 1.0 and True are different values."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()).hexdigest()


@cache
def code_digest() -> str:
    """sha256 over the source files that can change what a run computes or records."""
    package = Path(__file__).resolve().parents[1]
    parts = ("loop", "tasks", "record")
    files = sorted(file for part in parts for file in (package / part).rglob("*.py"))
    return digest_of({file.relative_to(package).as_posix(): sha256(file.read_bytes()).hexdigest() for file in files})

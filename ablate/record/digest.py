"""Hashes of values: equal digests mean equal content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a run's digest was made of when its study was planned, so that its process can tell what has changed since.

    request: the digest less the code. data: digest of the pool. code: {file: sha256}. An empty part is not checked.
    """

    request: str = ""
    data: str = ""
    code: Mapping[str, str] = field(default_factory=dict)


def digest_of(value: Any) -> str:
    """sha256 of the value as canonical JSON; 1, 1.0 and True are different values."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()).hexdigest()

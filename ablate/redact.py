"""What must not be written down: the values of environment variables whose names look like a secret's."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator

HIDDEN = "***"

_SHORTEST = 8
"""Minimum length of a secret: shorter values occur in ordinary words."""

_NAME = re.compile(r"KEYS?(_|$)|TOKEN(?!IZER)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(PWD|PASS|AUTH)$", re.IGNORECASE)
_PLACE = re.compile(r"_(PATH|FILE|DIR|SOCK)$|^(OLD)?PWD$", re.IGNORECASE)
"""Names of files in which secrets lie, and of the current folder."""


def secrets() -> list[str]:
    """The values as they are, the longest first: one may contain another."""
    named = (value.strip() for name, value in os.environ.items() if _NAME.search(name) and not _PLACE.search(name))
    return sorted({value for value in named if len(value) >= _SHORTEST}, key=len, reverse=True)


def redact(text: str) -> str:
    """The text with `***` in place of every secret, also as JSON, a page or a quoted string would spell it."""
    for secret in secrets():
        for spelt in _spellings(secret):
            text = text.replace(spelt, HIDDEN)
    return text


def _spellings(secret: str) -> Iterator[str]:
    yield secret
    for other in dict.fromkeys((json.dumps(secret)[1:-1], html.escape(secret), repr(secret)[1:-1])):
        if other != secret:
            yield other

"""Two versions of one file: whether they are the same bytes, and where they part."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AROUND = 40


def where(name: str, there: Path, here: Path) -> str:
    """'' for the same bytes; else in words where they part first. there: the archive's. here: made anew."""
    left, right = there.read_bytes(), here.read_bytes()
    if left == right:
        return ""
    if name.endswith(".json"):
        try:
            return _leaves(json.loads(left), json.loads(right)) or "the same values, written otherwise"
        except (ValueError, RecursionError):
            pass
    return _text(left, right)


def _leaves(left: Any, right: Any) -> str:
    apart = list(_apart(left, right, ""))
    if not apart:
        return ""
    path, one, other = apart[0]
    more = f"; {len(apart)} values in all" if len(apart) > 1 else ""
    numbers = [_relative(one, other) for _, one, other in apart]
    known = [number for number in numbers if number is not None]
    far = f", numbers by at most {max(known):.1g} of their size" if len(known) == len(apart) else ""
    return f"at {path}: {_short(one)} there, {_short(other)} made anew{more}{far}"


def _apart(left: Any, right: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _apart(left.get(key, "absent"), right.get(key, "absent"), f"{path}.{key}".lstrip("."))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from _apart(*pair, f"{path}[{number}]")
    elif type(left) is not type(right) or left != right:
        yield path, left, right


def _relative(one: Any, other: Any) -> float | None:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)):
        return None
    size = max(abs(one), abs(other))
    return abs(one - other) / size if size and math.isfinite(size) else None


def _text(left: bytes, right: bytes) -> str:
    shorter = min(len(left), len(right))
    place = (
        next((at for at in range(shorter) if left[at] != right[at]), shorter)
        if left[:shorter] != right[:shorter]
        else shorter
    )
    line = left[:place].count(b"\n") + 1
    start = max(left.rfind(b"\n", 0, place) + 1, place - _AROUND // 2)
    one, other = (_short(text[start : start + _AROUND].decode(errors="replace")) for text in (left, right))
    return f"in line {line}, byte {place}: {one} there, {other} made anew"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

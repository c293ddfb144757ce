"""Whether a value that was read has the type that a field of ours declares: what lies on disk may come from anywhere."""

from __future__ import annotations

import types
from collections.abc import Hashable
from dataclasses import fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

NOT_FINITE = ("nan", "inf", "-inf")
"""How a number that JSON has no word for is written."""


def built(kind: type[Any], value: Any) -> Any:
    """The dataclass `kind` of a mapping. Raises ValueError where that has other keys, or a value of another type."""
    if not isinstance(value, dict):
        raise ValueError(f"{_short(value)} stands where {kind.__name__} should")
    hints = _hints(kind)  # type: ignore[arg-type]
    for key, item in value.items():
        if key not in hints:
            raise ValueError(f"there is no field {_short(key)} in {kind.__name__}")
        if not fits(item, hints[key]):
            raise ValueError(f"{key} of {kind.__name__} cannot be {_short(item)}")
    try:
        return kind(**{key: _as(item, hints[key]) for key, item in value.items()})
    except TypeError as error:
        raise ValueError(str(error)) from None


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is one of that type. A float may be a whole number, or one of `NOT_FINITE` as text."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in inner)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items())
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(fits(item, inner[0]) for item in value)
    if hint is float:
        return type(value) is float or fits(value, int) or (isinstance(value, str) and value in NOT_FINITE)
    if hint is int:
        return type(value) is int and abs(value) <= _LARGEST
    if origin is not None:  # a Mapping
        return isinstance(value, dict) and all(fits(v, inner[-1]) for v in value.values())
    return value is None if hint is type(None) else isinstance(value, hint)


def _as(value: Any, hint: Any) -> Any:
    """Numbers as numbers, and lists as tuples where tuples are declared."""
    if get_origin(hint) is dict and get_args(hint)[1] is float:
        return {key: _as(item, float) for key, item in value.items()}
    if get_origin(hint) is tuple:
        return tuple(value)
    return float(value) if hint is float and isinstance(value, str) else value


_LARGEST = 2**63 - 1
"""Beyond it an int is no number of anything, and no array holds it."""


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    assert isinstance(kind, type)
    known = get_type_hints(kind)
    return {field.name: known[field.name] for field in fields(kind)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

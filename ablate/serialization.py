"""Read YAML and JSON that may come from anywhere, build dataclasses from it, and write files atomically."""

from __future__ import annotations

import json
import os
import re
import stat
import types
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from yaml.events import AliasEvent

from ablate.redact import redact

MAX_BYTES, MAX_CONFIG_BYTES = 64 * 2**20, 256 * 2**10
"""Limits of one text file, and of one YAML file, which takes a second for a megabyte."""

_MAX_VALUES = 1_000_000
"""Limit of the values in one JSON file: each takes up to 250 bytes of memory."""

_MAX_DEPTH = 200
"""Limit of the nesting of YAML: the C parser has none, and dies of 30,000 brackets."""

_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ALIAS = re.compile(r"(^|[\s,\[{:-])\*\S")
_INDENT = re.compile(r"[-? ]*")


def read_yaml(path: Path) -> Any:
    """The value that a YAML file holds; no tag becomes an object of Python. Raises OSError or ValueError."""
    text = read_text(path, MAX_CONFIG_BYTES)
    try:
        if _nests_deeper_than(text, _MAX_DEPTH):
            raise yaml.YAMLError(f"it nests deeper than {_MAX_DEPTH} levels")
        if _ALIAS.search(text) and any(isinstance(event, AliasEvent) for event in yaml.parse(text, Loader=_SafeLoader)):
            # A few lines of them stand for billions of values.
            raise yaml.YAMLError("it holds an alias (*name), which no config of a run does")
        return yaml.load(text, Loader=_SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _nests_deeper_than(text: str, limit: int) -> bool:
    """Return whether the text may do so, by its brackets and its indentation. Brackets in quotes count as well."""
    indent = max((len(match[0]) for line in text.splitlines() if (match := _INDENT.match(line))), default=0)
    if indent // 2 > limit or text.count("[") + text.count("{") <= limit:
        return indent // 2 > limit
    depth = deepest = 0
    for mark in re.findall(r"[\[{\]}]", text):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest > limit


NOT_FINITE = ("nan", "inf", "-inf")
"""How a number that JSON has no word for is written."""


def built(kind: type[Any], value: Any) -> Any:
    """The dataclass `kind` of a mapping, with the dataclasses inside; of a union of dataclasses, the field `kind` chooses one.

    Raises ValueError for unknown or missing keys, and for a value of another type.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected {kind.__name__}, got {_short(value)}")
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
    if is_dataclass(hint):
        return isinstance(value, dict)  # `built` reads it, and names the field that is wrong
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
    """Numbers as numbers, lists as tuples where tuples are declared, and mappings as the declared dataclasses."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and isinstance(value, dict) and any(map(is_dataclass, inner)):
        kinds: list[Any] = [one for one in inner if is_dataclass(one)]
        found = [one for one in kinds if fits(value.get("kind"), _hints(one)["kind"])]
        if not found:
            raise ValueError(f"unknown kind {_short(value.get('kind'))}")
        return built(found[0], value)
    if isinstance(hint, type) and is_dataclass(hint):
        return built(hint, value)
    if origin is dict:
        return {key: _as(item, inner[1]) for key, item in value.items()}
    if origin is tuple:
        return tuple(_as(item, inner[0]) for item in value)
    return float(value) if hint is float and isinstance(value, str) else value


_LARGEST = 2**63 - 1
"""Largest int that an array holds."""


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    assert isinstance(kind, type)
    known = get_type_hints(kind)
    return {field.name: known[field.name] for field in fields(kind)}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends: a reader, a kill or a full disk leaves the old or the new one.

    durable: wait until it is on disk, so that a power cut leaves one of the two as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.part")  # two machines may use one pid
    try:
        with part.open("xb") as file:  # never through an existing link
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, durable: bool = True, hide: bool = False) -> None:
    """Replace a file as `replacing` does. hide: write `***` for the secrets of the environment."""
    with replacing(path, durable=durable) as file:
        file.write((redact(text) if hide else text).encode())


CHECKSUM = "_sha256"
"""Key of the hash of all other keys of a file, in the JSON of a value that must not be damaged silently."""


def write_json(path: Path, value: Any, *, durable: bool = True, hide: bool = False, checksum: bool = False) -> None:
    """`write_text` of sorted, indented JSON. Non-finite numbers are written as the strings "nan", "inf" and "-inf".

    checksum: of a mapping; `read_json` then notices a damaged file.
    """
    if checksum:
        hidden = json.loads(redact(json.dumps(_finite(value)))) if hide else _finite(value)
        value = {**hidden, CHECKSUM: _checksum(hidden)}
    text = json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False) + "\n"
    write_text(path, text, durable=durable, hide=hide)


def read_json(path: Path) -> Any:
    """The value that a JSON file holds, without its checksum.

    Raises OSError or ValueError, also for one of more than a million values, and where the checksum does not match.
    """
    text = read_text(path)
    if sum(map(text.count, ",[{")) > _MAX_VALUES:
        raise ValueError(f"expected at most {_MAX_VALUES:,} values in it, got more")
    try:
        value = json.loads(text)
        if isinstance(value, dict) and CHECKSUM in value:
            expected = value.pop(CHECKSUM)
            if expected != _checksum(value):
                raise ValueError("it was damaged or edited: its checksum does not match")
    except RecursionError:
        raise ValueError("it nests too deep") from None
    return value


def _checksum(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return the text of a regular file. limit: in bytes. Raises OSError or ValueError.

    A pipe or a device would be waited for, or read for ever; opening it may already have an effect.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not a file")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # replaced meanwhile
            raise OSError(f"{path} is not a file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"expected at most {limit:,} bytes, got more")
    return data.decode()


def open_own(path: Path, flags: int) -> int:
    """Open a file of ours for writing, or make it. flags: more than `O_WRONLY | O_CREAT`. Returns its descriptor.

    Raises OSError for a link, which would lead the bytes into another file, and for a pipe or a device.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o644)
    except OSError as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OSError(
                error.errno, f"expected a regular file to write, got a link, pipe or device: {path}"
            ) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"expected a regular file to write, got a link, pipe or device: {path}")
    return handle


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

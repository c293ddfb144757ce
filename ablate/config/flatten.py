"""A config as its leaves: dotted keys and plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ablate.hashing import digest_of

_PLAIN = (str, int, bool, type(None))

ABSENT = "absent"
"""Stands in a difference for a leaf that one side does not have."""


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value}; a list is one leaf, and so is an empty group."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def targets_of(config: Any) -> set[str]:
    """The dotted names that a Hydra config gives as `_target_`, in lists of groups too."""
    if isinstance(config, Mapping):
        own = {str(value) for key, value in config.items() if key == "_target_" and "." in str(value)}
        return own | targets_of(list(config.values()))
    return {name for item in config for name in targets_of(item)} if isinstance(config, list | tuple) else set()


def leaf(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key. Raises KeyError where there is none."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping):
            raise KeyError(key)
        node = node[part]
    return node


def leaf_or_absent(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; ABSENT where there is none, as for an option of a task that only one arm gives."""
    try:
        return leaf(config, key)
    except KeyError:
        return ABSENT


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{dotted key: (before, after)} of the leaves that differ in type or in value: 1, 1.0 and True are three values."""
    left, right = leaves(before), leaves(after)
    for one, other in ((left, right), (right, left)):
        for key in [key for key in one if one[key] == {} and any(leaf.startswith(f"{key}.") for leaf in other)]:
            del one[key]  # an empty group against a filled one: its leaves are what differs
    return {
        key: (left.get(key, ABSENT), right.get(key, ABSENT))
        for key in sorted(left.keys() | right.keys())
        if key not in left or key not in right or not same(left[key], right[key])
    }


def same(left: Any, right: Any) -> bool:
    """Return whether two leaves are equal in type and in value; a list by its digest, which tells 1 from true inside it too."""
    if isinstance(left, _PLAIN) and type(left) is type(right):
        return bool(left == right)
    return digest_of(left) == digest_of(right)


def covered(key: str, moves: Iterable[str]) -> bool:
    """Return whether a leaf is one of the declared keys or under one of them."""
    return any(key == move or key.startswith(f"{move}.") for move in moves)

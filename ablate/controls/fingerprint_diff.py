"""Where two values of a fingerprint differ, leaf by leaf."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablate.design.axis_files import FINGERPRINT

ABSENT = "absent"

_CLOSE = {"first_step": 1e-4}
"""Relative tolerance of an item's numbers. A GPU adds a gradient's terms in an order of its own, and bf16 has 3 digits; what
another draw, batch or weight does to the first step is larger by far. All other items are compared bit for bit."""

WITHIN_A_RUN = ("rates",)
"""Kept to be compared with the run's own trace: arms of another number of steps have their rates at other steps."""


@dataclass(frozen=True, slots=True)
class Difference:
    """path: dotted, the item first, as in `init.encoder.layer.0`. baseline, arm: the two values, `absent` for none."""

    path: str
    baseline: Any
    arm: Any

    @property
    def item(self) -> str:
        return self.path.partition(".")[0]

    def within(self, pattern: str) -> bool:
        """Whether `optimizer` or `optimizer.lr` covers this leaf.

        A pattern's first word is the item; its others must occur in the path, so that `optimizer.lr` covers
        `optimizer.groups.0.lr` too.
        """
        first, *rest = pattern.split(".")
        _, *words = self.path.split(".")
        return first == self.item and all(word in words for word in rest)

    def __str__(self) -> str:
        before, after = short(self.baseline), short(self.arm)
        if before == after:  # numbers that differ in a later digit, or in their type
            before, after = repr(self.baseline), repr(self.arm)
        return f"{self.path} ({before} -> {after})"


def differences(baseline: Mapping[str, Any], arm: Mapping[str, Any]) -> list[Difference]:
    """Every leaf in which two fingerprints' items differ, causes before what follows from them, in path order.

    `order` hashes the first 8, 16, ... sample ids; arms of unequal batch size or length hash different counts, so
    only the counts that both hold are compared.
    """
    found = []
    for item in sorted((baseline.keys() | arm.keys()) - set(WITHIN_A_RUN), key=_causes_first):
        left, right = baseline.get(item, ABSENT), arm.get(item, ABSENT)
        if item == "order":
            left, right = _common(left, right)
        leaves = _leaves(item, left, right)
        found += [leaf for leaf in leaves if not _close(leaf, _CLOSE.get(item))]
    return found


def _causes_first(item: str) -> tuple[int, str]:
    return (FINGERPRINT.index(item) if item in FINGERPRINT else len(FINGERPRINT), item)


def _close(leaf: Difference, tolerance: float | None) -> bool:
    numbers = all(isinstance(value, int | float) for value in (leaf.baseline, leaf.arm))
    return tolerance is not None and numbers and math.isclose(leaf.baseline, leaf.arm, rel_tol=tolerance)


def _common(left: Any, right: Any) -> tuple[Any, Any]:
    if not (isinstance(left, Mapping) and isinstance(right, Mapping)):
        return {}, {}
    counts = left.keys() & right.keys()
    return {count: left[count] for count in counts}, {count: right[count] for count in counts}


def _leaves(path: str, left: Any, right: Any) -> list[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        keys = sorted(left.keys() | right.keys(), key=_number_first)
        pairs = [(key, left.get(key, ABSENT), right.get(key, ABSENT)) for key in keys]
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = [(str(place), *both) for place, both in enumerate(zip(left, right, strict=True))]
    else:
        same = left == right and isinstance(left, bool) == isinstance(right, bool)
        return [] if same else [Difference(path, left, right)]
    return [difference for key, *both in pairs for difference in _leaves(f"{path}.{key}", *both)]


def _number_first(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdigit() else (-1, key)


def short(value: Any) -> str:
    """A value in a sentence: a number in 6 digits, a hash by its first 12 letters."""
    text = f"{value:.6g}" if isinstance(value, float) and not value.is_integer() else str(value)
    is_hash = len(text) >= 32 and all(letter in "0123456789abcdef" for letter in text)
    return text[:12] if is_hash else text

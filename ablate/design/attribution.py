"""Two configs that differ in several keys: the corners between them, each an arm that has some of the second one's values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ablate.config.schema import BASELINE
from ablate.design.axis import Axis
from ablate.design.axis_files import bundle_axis


@dataclass(frozen=True, kw_only=True, slots=True)
class Corners:
    """A corner is a number: bit i says whether key i has the second config's value.

    names: of the keys, as arms and tables call them. moves: per name {dotted key: the second config's value}; several keys
    that move as one share a name.
    paths: orders in which the keys move, each followed by its reverse; empty where all corners are run.
    first, second: what the two configs were called when they were typed.
    """

    names: tuple[str, ...]
    moves: tuple[dict[str, Any], ...]
    paths: tuple[tuple[int, ...], ...] = ()
    first: str = ""
    second: str = ""
    kind: Literal["attribution"] = "attribution"

    def check(self) -> None:
        """Raise ValueError for what is not the corners between two configs."""
        keys = list(range(len(self.names)))
        fits = 1 < len(keys) == len(self.moves) and all(sorted(path) == keys for path in self.paths)
        if not fits or (not self.paths and len(keys) > MOST_KEYS):
            raise ValueError("its corners are not those of two configs")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return tuple(map(self.arm, self.numbers))

    def joint_label(self, arm: str) -> str:
        """Words for an arm that changes several keys."""
        return f"bundle: {arm.replace('+', ' + ')}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """Those that are run, ascending: all, or those on the paths and what each key does by itself."""
        count = len(self.names)
        if not self.paths:
            return tuple(range(2**count))
        return tuple(sorted({*path_corners(self.paths), *(1 << key for key in range(count))}))

    def arm(self, corner: int) -> str:
        return "+".join(self.names[key] for key in self._keys(corner)) or BASELINE

    def changes(self, corner: int) -> dict[str, Any]:
        return {key: value for name in self._keys(corner) for key, value in self.moves[name].items()}

    def axes(self) -> tuple[Axis, ...]:
        """One per corner but the first: its keys are one declared change, and what each key brings along may come with it."""
        return tuple(bundle_axis(self.arm(corner), self.changes(corner)) for corner in self.numbers if corner)

    def _keys(self, corner: int) -> Iterator[int]:
        return (key for key in range(len(self.names)) if corner >> key & 1)


MOST_KEYS = 12
"""Of which all corners are ever run: 4,096."""


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """{dotted key: its last part}; the whole key where two end alike."""
    keys = list(keys)
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def draw_paths(keys: int, pairs: int, rng: np.random.Generator) -> tuple[tuple[int, ...], ...]:
    """Orders in which to move the keys, 2 * pairs of them: each random order comes with its reverse.

    A key that moves early in one moves late in the other, which takes most of the interactions' noise out.
    """
    forward = [tuple(rng.permutation(keys).tolist()) for _ in range(pairs)]
    return tuple(path for one in forward for path in (one, one[::-1]))


def path_corners(paths: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The corners that these paths go through, ascending: the runs that are needed."""
    found = {0}
    for path in paths:
        corner = 0
        for key in path:
            corner |= 1 << key
            found.add(corner)
    return tuple(sorted(found))

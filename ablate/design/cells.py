"""Several axes at once: the cells of a crossed design, each an arm that has some axes at other levels than the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import numpy as np

from ablate.design import fraction
from ablate.design.axis import Axis, Kind
from ablate.design.leaves import covered, leaf_or_absent
from ablate.typed import built

FIRST = "baseline"
"""Arm of the cell in which every axis is at the baseline's own level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cells:
    """kind: `factorial`, `fractional` or `pairs`. names: what is crossed: axes; of `pairs`, the arms that have one axis moved.

    levels: per name the words of its levels, the baseline's own first. parts: per name what an arm with one of its other levels
    is called, `batch_size=64`.
    places: per cell the number of each name's level, the baseline's first, all 0. arms: per cell the arm that it is.
    generators: of a fractional design, `design.fraction`.
    """

    kind: str
    names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[str, ...], ...]
    places: tuple[tuple[int, ...], ...]
    arms: tuple[str, ...]
    generators: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cells:
        """Raises ValueError for what describes no crossed design."""
        found: Cells = built(cls, dict(value))
        rows = (*found.places, *found.levels, *found.parts, *found.generators.values())
        if not all(isinstance(row, list | tuple) for row in rows) or not all(
            type(number) is int for place in found.places for number in place
        ):
            raise ValueError("its cells are not those of a crossed design")
        found = cls(
            kind=found.kind,
            names=found.names,
            levels=tuple(tuple(map(str, words)) for words in found.levels),
            parts=tuple(tuple(map(str, words)) for words in found.parts),
            places=tuple(tuple(place) for place in found.places),
            arms=found.arms,
            generators={name: tuple(map(str, parents)) for name, parents in found.generators.items()},
        )
        if not found._fits():
            raise ValueError("its cells are not those of a crossed design")
        return found

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def full(self) -> int:
        """Arms of every combination."""
        return prod(len(words) for words in self.levels)

    @property
    def resolution(self) -> int | None:
        return fraction.resolution(self.generators)

    @property
    def grid(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The places as an array [cells, names]."""
        return np.asarray(self.places, dtype=np.int64).reshape(len(self.places), len(self.names))

    def moved(self, arm: str) -> tuple[str, ...]:
        """The parts of an arm's name: of what has another level than the baseline's; none for an arm beside the cells."""
        if arm not in self.arms:
            return ()
        place = self.places[self.arms.index(arm)]
        return tuple(self.parts[name][number - 1] for name, number in enumerate(place) if number)

    def change(self, name: int, number: int = 1) -> str:
        """`batch_size 8 -> 64`; of a part of `pairs` its name."""
        if self.kind == "pairs":
            return self.names[name]
        return f"{self.names[name]} {self.levels[name][0]} -> {self.levels[name][number]}"

    def _fits(self) -> bool:
        sizes = [len(words) for words in self.levels]
        whole = (
            len(self.names) == len(self.levels) == len(self.parts) == len(set(self.names)) > 1
            and len(self.arms) == len(self.places) == len(set(self.places)) == len(set(self.arms)) > 1
            and all(len(parts) + 1 == size > 1 for parts, size in zip(self.parts, sizes, strict=True))
            and all(len(place) == len(sizes) for place in self.places)
            and all(0 <= number < size for place in self.places for number, size in zip(place, sizes, strict=True))
        )
        if not whole or any(self.places[0]) or self.arms[0] != FIRST:
            return False
        return {"factorial": self._is_full, "fractional": self._is_fraction, "pairs": self._is_pairs}.get(
            self.kind, lambda: False
        )()

    def _is_full(self) -> bool:
        return not self.generators and len(self.places) == self.full

    def _is_fraction(self) -> bool:
        count = len(self.names) - len(self.generators)
        if any(len(words) != 2 for words in self.levels) or count < 1 or len(self.places) != 2**count:
            return False
        expected = fraction.cells(self.names, self.generators)  # ValueError for generators that are none
        least = self.resolution
        return least is not None and least > 2 and {*map(tuple, expected.tolist())} == {*self.places}

    def _is_pairs(self) -> bool:
        moved = [sum(place) for place in self.places]
        alone = moved.count(1) == len(self.names)
        return not self.generators and all(len(words) == 2 for words in self.levels) and alone and max(moved) == 2


class ClashError(ValueError):
    """Two changes that no config can have at once. Its text says why."""


def merged(one: Mapping[str, Any], other: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What both changes set. A key that both set is a list of what is taken out, or done: the two lists become one.

    base: the baseline's config, whose own items both lists must hold. Raises ClashError.
    """
    found = dict(one)
    for key, value in other.items():
        inside = next((mine for mine in one if mine != key and (covered(mine, [key]) or covered(key, [mine]))), None)
        if inside is not None:
            raise ClashError(f"{inside} and {key} are set in the same place")
        found[key] = value if key not in one else _both(key, one[key], value, leaf_or_absent(base, key))
    return found


def _both(key: str, one: Any, other: Any, own: Any) -> list[Any]:
    if not isinstance(one, list | tuple) or not isinstance(other, list | tuple) or not isinstance(own, list | tuple):
        raise ClashError(f"both set {key}, which has one value")
    if any(item not in level for item in own for level in (one, other)):
        raise ClashError(f"{key} of one of them takes back what the baseline has")
    items = [*one, *(item for item in other if item not in one)]
    if len(items) in (len(one), len(other)):
        raise ClashError(f"{key} of one of them holds the other's")
    return items


def joint_axis(name: str, parts: Sequence[Axis], changes: Mapping[str, Any]) -> Axis:
    """Several axes moved at once, as one declared change: what each brings along may come, what all promise to hold is held."""
    accepts = tuple(dict.fromkeys(word for axis in parts for word in axis.accepts))
    promised = dict.fromkeys(word for axis in parts for word in axis.holds)
    kinds: set[Kind] = {axis.kind for axis in parts}
    return Axis(
        name=name,
        question="",
        kind=kinds.pop() if len(kinds) == 1 else "training",
        moves=tuple(changes),
        levels=(dict(changes),),
        accepts=accepts,
        holds=tuple(
            word for word in promised if not covered(word, accepts) and not any(_in(one, word) for one in accepts)
        ),
        seeds=min((axis.seeds for axis in parts if axis.seeds is not None), default=None),
    )


def _in(word: str, other: str) -> bool:
    return covered(word, [other])

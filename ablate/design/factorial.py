"""Factorial designs: every cell is an arm that has some axes at other levels than the baseline.

A fractional design of two-level factors runs some of the cells; its generators say which effects it confounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ablate.config.flatten import covered, leaf_or_absent
from ablate.config.schema import BASELINE
from ablate.design.axis import Axis, Kind
from ablate.design.designs import StudyDesign


@dataclass(frozen=True, kw_only=True, slots=True)
class Factorial(StudyDesign):
    """kind: `factorial`, `fractional` or `pairs`. names: what is crossed: axes; of `pairs`, the arms that have one axis moved.

    levels: per name the words of its levels, the baseline's own first. parts: per name what an arm with one of its other levels
    is called, `batch_size=64`.
    indices: per cell the number of each name's level, the baseline's first, all 0. arms: per cell the arm that it is.
    generators: of a fractional design, `design.fraction`.
    """

    kind: Literal["factorial", "fractional", "pairwise"]
    names: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    parts: tuple[tuple[str, ...], ...]
    indices: tuple[tuple[int, ...], ...]
    arms: tuple[str, ...]
    generators: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self) -> None:
        if not self._fits():
            raise ValueError("its cells are not those of a factorial design")

    @property
    def arm_names(self) -> tuple[str, ...]:
        return self.arms

    def joint_label(self, arm: str) -> str:
        """`batch_size=64 + lr=0.001` for an arm that moves several axes; '' for any other."""
        parts = self.moved(arm)
        return " + ".join(parts) if len(parts) > 1 else ""

    @property
    def full(self) -> int:
        """Arms of every combination."""
        return prod(len(words) for words in self.levels)

    @property
    def resolution(self) -> int | None:
        return resolution(self.generators)

    @property
    def grid(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The indices as an array [cells, names]."""
        return np.asarray(self.indices, dtype=np.int64).reshape(len(self.indices), len(self.names))

    def moved(self, arm: str) -> tuple[str, ...]:
        """The parts of an arm's name: of what has another level than the baseline's; none for an arm outside of the cells."""
        if arm not in self.arms:
            return ()
        place = self.indices[self.arms.index(arm)]
        return tuple(self.parts[name][number - 1] for name, number in enumerate(place) if number)

    def change(self, name: int, number: int = 1) -> str:
        """`batch_size 8 -> 64`; of a part of `pairs` its name."""
        if self.kind == "pairwise":
            return self.names[name]
        return f"{self.names[name]} {self.levels[name][0]} -> {self.levels[name][number]}"

    def _fits(self) -> bool:
        sizes = [len(words) for words in self.levels]
        whole = (
            len(self.names) == len(self.levels) == len(self.parts) == len(set(self.names)) > 1
            and len(self.arms) == len(self.indices) == len(set(self.indices)) == len(set(self.arms)) > 1
            and all(len(parts) + 1 == size > 1 for parts, size in zip(self.parts, sizes, strict=True))
            and all(len(place) == len(sizes) for place in self.indices)
            and all(0 <= number < size for place in self.indices for number, size in zip(place, sizes, strict=True))
        )
        if not whole or any(self.indices[0]) or self.arms[0] != BASELINE:
            return False
        return {"factorial": self._is_full, "fractional": self._is_fraction, "pairwise": self._is_pairs}[self.kind]()

    def _is_full(self) -> bool:
        return not self.generators and len(self.indices) == self.full

    def _is_fraction(self) -> bool:
        count = len(self.names) - len(self.generators)
        if any(len(words) != 2 for words in self.levels) or count < 1 or len(self.indices) != 2**count:
            return False
        expected = fraction_cells(self.names, self.generators)  # ValueError for generators that are none
        least = self.resolution
        return least is not None and least > 2 and {*map(tuple, expected.tolist())} == {*self.indices}

    def _is_pairs(self) -> bool:
        moved = [sum(place) for place in self.indices]
        alone = moved.count(1) == len(self.names)
        return not self.generators and all(len(words) == 2 for words in self.levels) and alone and max(moved) == 2


class ClashError(ValueError):
    """Two changes that no config can have together. Its text says why."""


def merged(one: Mapping[str, Any], other: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What both changes set. A key that both set is a list of what is taken out, or done: the two lists become one.

    base: the baseline's config, whose own items both lists must hold. Raises ClashError.
    """
    found = dict(one)
    for key, value in other.items():
        inside = next((mine for mine in one if mine != key and (covered(mine, [key]) or covered(key, [mine]))), None)
        if inside is not None:
            raise ClashError(f"{inside} and {key} set the same key")
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
    """Return one axis for several that change together: what each may change may change, what any promises to hold is held."""
    accepts = tuple(dict.fromkeys(word for axis in parts for word in axis.may_change))
    promised = dict.fromkeys(word for axis in parts for word in axis.must_match)
    kinds: set[Kind] = {axis.kind for axis in parts}
    return Axis(
        name=name,
        question="",
        kind=kinds.pop() if len(kinds) == 1 else "training",
        keys=tuple(changes),
        values=(dict(changes),),
        may_change=accepts,
        must_match=tuple(
            word for word in promised if not covered(word, accepts) and not any(covered(one, [word]) for one in accepts)
        ),
        seeds=min((axis.seeds for axis in parts if axis.seeds is not None), default=None),
    )


Word = frozenset[str]

MOST_FACTORS = 12
"""For which generators are looked for."""

MOST_DESIGNS = 20_000
"""That are compared in the search for generators."""


def fraction_cells(factors: Sequence[str], generators: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
    """The cells of the design as levels 0 and 1, shape [2^(factors - generators), factors], the baseline's corner first.

    generators: {factor: the factors whose product sets it}: {"d": ("a", "b", "c")} runs half of the 16 corners. The signs
    are taken so that the first cell has every factor at its first level: the baseline is always among the runs.

    Raises ValueError for a generator that names an unknown factor, itself or another generated factor.
    """
    basic = [factor for factor in factors if factor not in generators]
    for factor, parents in generators.items():
        strange = [parent for parent in parents if parent not in basic]
        if factor not in factors or strange or not parents:
            raise ValueError(f"generator {factor} = {' x '.join(parents)}: it must name factors out of {basic}")
    corners = np.asarray(list(np.ndindex(*[2] * len(basic))), dtype=np.int64).reshape(-1, len(basic))
    signs = {factor: 2 * corners[:, number] - 1 for number, factor in enumerate(basic)}
    for factor, parents in generators.items():
        product = np.prod([signs[parent] for parent in parents], axis=0)
        signs[factor] = -product * product[0]
    return np.column_stack([(signs[factor] + 1) // 2 for factor in factors])


def generators_for(factors: Sequence[str], least: int) -> dict[str, tuple[str, ...]] | None:
    """Generators of the smallest design of at least that resolution, the last factors set by the first ones; None where only
    all corners have it.

    Of the designs of one size that of minimum aberration: the fewest short defining words (Fries and Hunter 1980). Up to 32
    runs all designs are compared, beyond that the first `MOST_DESIGNS`, with the long products first.
    """
    count = len(factors)
    for basic in range(1, count):
        wide = [mask for mask in range(2**basic) if mask.bit_count() >= least - 1]
        ordered = sorted(wide, key=lambda mask: (-mask.bit_count(), mask))
        designs = islice(_picked(ordered, basic, count, least, []), MOST_DESIGNS)
        found = min(designs, key=lambda design: _word_lengths(design[1], count), default=None)
        if found is not None:
            products = [tuple(factors[i] for i in range(basic) if mask >> i & 1) for mask in found[0]]
            return dict(zip(factors[basic:], products, strict=True))
    return None


def _word_lengths(words: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the word-length pattern: the number of words of each length, the shortest first."""
    lengths = [word.bit_count() for word in words]
    return tuple(lengths.count(length) for length in range(1, count + 1))


def _picked(
    masks: Sequence[int], basic: int, factor: int, least: int, words: list[int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield products for the factors from `factor` - 1 down to the first generated one, and the defining words of the design.

    No word is shorter than `least`.
    """
    if factor == basic:
        yield [], words
        return
    for place, mask in enumerate(masks):
        own = mask | 1 << (factor - 1)
        more = [own, *(own ^ word for word in words)]
        if all(word.bit_count() >= least for word in more):
            for rest, found in _picked(masks[place + 1 :], basic, factor - 1, least, [*words, *more]):
                yield [*rest, mask], found


def defining_words(generators: Mapping[str, Sequence[str]]) -> tuple[Word, ...]:
    """Return all products of factors that are constant over the design's cells: they are confounded with the mean."""
    single = [frozenset(parents) ^ {factor} for factor, parents in generators.items()]
    words = set()
    for size in range(1, len(single) + 1):
        for chosen in combinations(single, size):
            word: Word = frozenset()
            for one in chosen:
                word ^= one
            words.add(word)
    return tuple(sorted(words, key=lambda word: (len(word), sorted(word))))


def resolution(generators: Mapping[str, Sequence[str]]) -> int | None:
    """III: main effects are mixed up with interactions of two; IV: those with each other; V: neither. None: nothing is."""
    words = defining_words(generators)
    return min(len(word) for word in words) if words else None


def alias_sets(
    factors: Sequence[str], generators: Mapping[str, Sequence[str]], order: int = 2
) -> tuple[tuple[Word, ...], ...]:
    """Return the effects of up to `order` factors in groups: those of one group are estimated as one sum."""
    words = defining_words(generators)
    effects = [frozenset(term) for size in range(1, order + 1) for term in combinations(factors, size)]
    place = {factor: number for number, factor in enumerate(factors)}
    groups, done = [], set()
    for effect in effects:
        if effect not in done:
            group = [effect, *[other for other in effects if other != effect and other ^ effect in words]]
            done.update(group)
            groups.append(tuple(sorted(group, key=lambda one: (len(one), sorted(place[factor] for factor in one)))))
    return tuple(groups)


def mixed_with(
    factors: Sequence[str], generators: Mapping[str, Sequence[str]], effect: Sequence[str]
) -> tuple[tuple[tuple[str, ...], int], ...]:
    """The effects that are estimated together with this one, each with its sign: of two axes at most, or else the smallest.

    The sign is 1 where what is estimated is the sum of both, -1 where it is the difference: the baseline's corner is among the
    cells, so a defining word of an odd number of axes is constant at -1.
    """
    place = {factor: number for number, factor in enumerate(factors)}
    words = defining_words(generators)
    every = [(frozenset(effect) ^ word, 1 if len(word) % 2 == 0 else -1) for word in words]
    every.sort(key=lambda one: (len(one[0]), sorted(place[factor] for factor in one[0])))
    most = max(2, len(every[0][0])) if every else 0
    return tuple((tuple(sorted(one, key=place.__getitem__)), sign) for one, sign in every if 0 < len(one) <= most)


def aliases(factors: Sequence[str], generators: Mapping[str, Sequence[str]], order: int = 2) -> tuple[str, ...]:
    """The alias structure in words, a sentence for each effect of up to `order` axes that is estimated; none for a full design.

    `the effect called batch_size is that of batch_size plus that of lr and dropout together`.
    """
    sentences = []
    for group in alias_sets(factors, generators, order) if generators else ():
        effect = [factor for factor in factors if factor in group[0]]
        mixed = mixed_with(factors, generators, effect)
        others = "".join(f" {'plus' if sign > 0 else 'less'} that of {together(other)}" for other, sign in mixed)
        sentences.append(f"the effect called {' x '.join(effect)} is that of {together(effect)}{others}")
    return tuple(sentences)


def together(effect: Sequence[str]) -> str:
    """`lr`; `lr and dropout together`; `lr, dropout and warmup together`."""
    if len(effect) == 1:
        return effect[0]
    return f"{', '.join(effect[:-1])} and {effect[-1]} together"

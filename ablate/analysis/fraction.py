"""Two-level fractional designs: fewer runs than all corners, and which effects can then not be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Word = frozenset[str]


def cells(factors: Sequence[str], generators: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
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


def defining_words(generators: Mapping[str, Sequence[str]]) -> tuple[Word, ...]:
    """All products of factors that are constant over the design's cells: what cannot be told from the mean."""
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
    """Effects up to `order` factors, grouped: those of one group are estimated as one sum and cannot be told apart."""
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


def aliases(factors: Sequence[str], generators: Mapping[str, Sequence[str]], order: int = 2) -> tuple[str, ...]:
    """The alias structure in words, one sentence per group of effects that cannot be told apart; empty for a full design."""
    place = {factor: number for number, factor in enumerate(factors)}

    def named(effect: Word) -> str:
        return " x ".join(sorted(effect, key=place.__getitem__))

    said = []
    for first, *others in alias_sets(factors, generators, order):
        if others:
            kind = "effect" if len(first) == 1 else "interaction"
            rest = " or of ".join(named(other) for other in others)
            said.append(f"what shows as the {kind} of {named(first)} may be that of {rest}")
    return tuple(said)

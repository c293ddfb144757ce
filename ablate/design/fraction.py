"""Two-level fractional designs: fewer runs than all corners, and which effects can then not be told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Word = frozenset[str]

MOST_FACTORS = 12
"""For which generators are looked for."""


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


def generators_for(factors: Sequence[str], least: int) -> dict[str, tuple[str, ...]] | None:
    """Generators of the smallest design of at least that resolution, the last factors set by the first ones; None where only
    all corners have it.

    Of the designs of one size the first that is found: long products are tried first, because they mix up less.
    """
    count = len(factors)
    for basic in range(1, count):
        wide = [mask for mask in range(2**basic) if mask.bit_count() >= least - 1]
        found = next(_picked(sorted(wide, key=lambda mask: (-mask.bit_count(), mask)), basic, count, least, []), None)
        if found is not None:
            products = [tuple(factors[i] for i in range(basic) if mask >> i & 1) for mask in found]
            return dict(zip(factors[basic:], products, strict=True))
    return None


def _picked(masks: Sequence[int], basic: int, factor: int, least: int, words: list[int]) -> Iterator[list[int]]:
    """Products for the factors from `factor` - 1 down to the first generated one, such that no defining word is too short."""
    if factor == basic:
        yield []
        return
    for place, mask in enumerate(masks):
        own = mask | 1 << (factor - 1)
        more = [own, *(own ^ word for word in words)]
        if all(word.bit_count() >= least for word in more):
            for rest in _picked(masks[place + 1 :], basic, factor - 1, least, [*words, *more]):
                yield [*rest, mask]


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
    if not generators:
        return ()
    firsts = [group[0] for group in alias_sets(factors, generators, order)]
    return tuple(alias_sentence(factors, generators, [one for one in factors if one in first]) for first in firsts)


def alias_sentence(factors: Sequence[str], generators: Mapping[str, Sequence[str]], effect: Sequence[str]) -> str:
    """What the effect of that name is the effect of."""
    said = "".join(
        f" {'plus' if sign > 0 else 'less'} that of {together(other)}"
        for other, sign in mixed_with(factors, generators, effect)
    )
    return f"the effect called {' x '.join(effect)} is that of {together(effect)}{said}"


def together(effect: Sequence[str]) -> str:
    """`lr`; `lr and dropout together`; `lr, dropout and warmup together`."""
    if len(effect) == 1:
        return effect[0]
    return f"{', '.join(effect[:-1])} and {effect[-1]} together"

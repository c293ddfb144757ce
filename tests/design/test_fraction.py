"""Fractional designs: which runs, and what they cannot tell apart, in words."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ablate.analysis.factorial import factorial
from ablate.analysis.fraction import alias_sets, aliases, cells, resolution

DESIGNS = [
    ("abc", {"c": "ab"}, 3),
    ("abcd", {"d": "abc"}, 4),
    ("abcde", {"d": "ab", "e": "ac"}, 3),
    ("abcde", {"e": "abcd"}, 5),
    ("abcdefg", {"d": "ab", "e": "ac", "f": "bc", "g": "abc"}, 3),
    ("abcdef", {"e": "abc", "f": "bcd"}, 4),
]


@pytest.mark.parametrize(("factors", "generators", "expected"), DESIGNS)
def test_resolution_is_what_the_textbook_says(factors: str, generators: dict[str, str], expected: int) -> None:
    assert resolution(generators) == expected


@pytest.mark.parametrize(("factors", "generators", "expected"), DESIGNS)
def test_the_cells_hold_the_baseline_and_balance_every_factor(
    factors: str, generators: dict[str, str], expected: int
) -> None:
    found = cells(factors, generators)
    assert found.shape == (2 ** (len(factors) - len(generators)), len(factors))
    assert not np.any(found[0])
    assert np.all(found.mean(axis=0) == 0.5)
    assert len(np.unique(found, axis=0)) == len(found)


@pytest.mark.parametrize(("factors", "generators", "expected"), DESIGNS)
def test_effects_said_to_be_one_are_the_same_column_of_the_design(
    factors: str, generators: dict[str, str], expected: int
) -> None:
    signs = 2 * cells(factors, generators) - 1
    column = {
        frozenset(term): np.prod(signs[:, [factors.index(one) for one in term]], axis=1)
        for size in (1, 2)
        for term in combinations(factors, size)
    }
    for group in alias_sets(factors, generators):
        for effect, values in column.items():
            same = abs(int(column[group[0]] @ values)) == len(values)
            assert same == (effect in group)


def test_the_words_name_the_axes() -> None:
    factors = ["lr", "batch_size", "clip_norm", "dropout"]
    generators = {"dropout": ["lr", "batch_size", "clip_norm"]}
    assert aliases(factors, generators) == (
        "what shows as the interaction of lr x batch_size may be that of clip_norm x dropout",
        "what shows as the interaction of lr x clip_norm may be that of batch_size x dropout",
        "what shows as the interaction of lr x dropout may be that of batch_size x clip_norm",
    )
    assert aliases(["lr", "batch_size", "clip_norm"], {"clip_norm": ["lr", "batch_size"]})[0] == (
        "what shows as the effect of lr may be that of batch_size x clip_norm"
    )
    assert aliases(factors, {}) == ()
    assert resolution({}) is None


def test_one_effect_of_each_group_can_be_estimated() -> None:
    factors, generators = "abcd", {"d": "abc"}
    terms = [tuple(sorted(group[0])) for group in alias_sets(factors, generators)]
    values = np.random.default_rng(0).normal(size=(8, 3))
    found = factorial(values, cells(factors, generators), factors, terms=terms)
    assert found is not None
    assert len(found.effects) == 7


@pytest.mark.parametrize("generators", [{"d": "ax"}, {"x": "ab"}, {"d": "ad"}, {"c": "ab", "d": "ac"}, {"d": ""}])
def test_a_generator_names_factors_that_are_free(generators: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="it must name factors out of"):
        cells("abcd", generators)

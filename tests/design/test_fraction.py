"""Fractional designs: which runs, and what they cannot tell apart, in words."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ablate.design.factorial import (
    alias_sets,
    aliases,
    defining_words,
    fraction_cells,
    generators_for,
    mixed_with,
    resolution,
)
from ablate.stats.contrasts import estimate
from ablate.stats.factorial import effect_weights

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
    found = fraction_cells(factors, generators)
    assert found.shape == (2 ** (len(factors) - len(generators)), len(factors))
    assert not np.any(found[0])
    assert np.all(found.mean(axis=0) == 0.5)
    assert len(np.unique(found, axis=0)) == len(found)


@pytest.mark.parametrize(("factors", "generators", "expected"), DESIGNS)
def test_effects_said_to_be_one_are_the_same_column_of_the_design(
    factors: str, generators: dict[str, str], expected: int
) -> None:
    signs = 2 * fraction_cells(factors, generators) - 1
    column = {
        frozenset(term): np.prod(signs[:, [factors.index(one) for one in term]], axis=1)
        for size in (1, 2)
        for term in combinations(factors, size)
    }
    for group in alias_sets(factors, generators):
        for effect, values in column.items():
            same = abs(int(column[group[0]] @ values)) == len(values)
            assert same == (effect in group)


@pytest.mark.parametrize(("factors", "generators", "expected"), DESIGNS)
def test_what_is_said_to_be_mixed_in_is_with_its_sign(factors: str, generators: dict[str, str], expected: int) -> None:
    """A column of the design is the sum or the difference that the words say, over the very cells that are run."""
    signs = 2 * fraction_cells(factors, generators) - 1

    def column(effect: tuple[str, ...]) -> np.ndarray:
        # Coded as in `stats.factorial`: each factor -1/2 or 1/2, times 2 per further factor.
        return np.prod([signs[:, factors.index(one)] / 2 for one in effect], axis=0) * 2 ** (len(effect) - 1)

    for group in alias_sets(factors, generators):
        first = tuple(one for one in factors if one in group[0])
        for other, sign in mixed_with(factors, generators, first):
            assert np.array_equal(column(first), sign * column(other))
        said = {frozenset(other) for other, _ in mixed_with(factors, generators, first)}
        assert said >= set(group[1:])


def test_the_words_name_the_axes() -> None:
    factors = ["lr", "batch_size", "max_grad_norm", "dropout"]
    generators = {"dropout": ["lr", "batch_size", "max_grad_norm"]}
    said = aliases(factors, generators)
    assert said[0] == "the effect called lr is that of lr plus that of batch_size, max_grad_norm and dropout together"
    assert said[4:] == (
        "the effect called lr x batch_size is that of lr and batch_size together plus "
        "that of max_grad_norm and dropout together",
        "the effect called lr x max_grad_norm is that of lr and max_grad_norm together plus "
        "that of batch_size and dropout together",
        "the effect called lr x dropout is that of lr and dropout together plus that of batch_size and max_grad_norm together",
    )
    assert aliases(["lr", "batch_size", "max_grad_norm"], {"max_grad_norm": ["lr", "batch_size"]})[0] == (
        "the effect called lr is that of lr less that of batch_size and max_grad_norm together"
    )
    assert aliases(factors, {}) == ()
    assert resolution({}) is None


SMALLEST = [
    (3, 3, 4), (4, 3, 8), (4, 4, 8), (5, 3, 8), (5, 5, 16), (6, 4, 16), (6, 5, 32), (7, 3, 8), (8, 4, 16), (8, 5, 64),
    (9, 4, 32), (11, 3, 16),
]  # fmt: skip
"""Axes, resolution, runs: the table of Box, Hunter and Hunter."""


@pytest.mark.parametrize(("count", "least", "runs"), SMALLEST)
def test_the_smallest_design_of_a_resolution_is_found(count: int, least: int, runs: int) -> None:
    factors = [f"x{number}" for number in range(count)]
    found = generators_for(factors, least)
    assert found is not None
    assert len(fraction_cells(factors, found)) == runs
    reached = resolution(found)
    assert reached is not None
    assert reached >= least
    assert len(defining_words(found)) == 2 ** len(found) - 1


CATALOGUE = {
    (5, 3): {3: 2, 4: 1}, (6, 3): {3: 4, 4: 3}, (7, 3): {3: 7, 4: 7}, (9, 3): {3: 4, 4: 14}, (10, 3): {3: 8, 4: 18},
    (11, 3): {3: 12, 4: 26}, (12, 3): {3: 16, 4: 39}, (6, 4): {4: 3}, (7, 4): {4: 7}, (8, 4): {4: 14},
    (9, 4): {4: 6}, (10, 4): {4: 10}, (11, 4): {4: 25}, (12, 4): {4: 38}, (8, 5): {5: 2, 6: 1},
}  # fmt: skip
"""{(axes, resolution): number of defining words by length} of minimum-aberration designs with 8, 16, 32 and 64 runs.

16 runs and more: the catalogue of Chen, Sun and Wu 1993 (International Statistical Review 61, 131-145), as the package csw93
0.6.0 gives it (`get_wlp(32, "9-4.1")`). 8 runs: the weights of the Hamming code for 7 axes, and of its shortenings.
"""


@pytest.mark.parametrize(("count", "least"), CATALOGUE)
def test_of_equal_sizes_the_design_of_minimum_aberration_is_chosen(count: int, least: int) -> None:
    factors = [f"x{number}" for number in range(count)]
    found = generators_for(factors, least)
    assert found is not None
    lengths = [len(word) for word in defining_words(found)]
    assert {length: lengths.count(length) for length in CATALOGUE[count, least]} == CATALOGUE[count, least]
    assert min(lengths) == min(CATALOGUE[count, least])


@pytest.mark.parametrize(("count", "least"), [(2, 3), (3, 4), (4, 5)])
def test_a_resolution_that_only_all_corners_have(count: int, least: int) -> None:
    assert generators_for("abcd"[:count], least) is None


def test_one_effect_of_each_group_can_be_estimated() -> None:
    factors, generators = "abcd", {"d": "abc"}
    terms = [tuple(sorted(group[0])) for group in alias_sets(factors, generators)]
    values = np.random.default_rng(0).normal(size=(8, 3))
    effects = effect_weights(fraction_cells(factors, generators), factors, terms)
    assert np.all(np.isfinite(estimate(values, effects.weights).effects))
    assert len(effects.owners) == 7


@pytest.mark.parametrize("generators", [{"d": "ax"}, {"x": "ab"}, {"d": "ad"}, {"c": "ab", "d": "ac"}, {"d": ""}])
def test_a_generator_names_factors_that_are_free(generators: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="it must name factors out of"):
        fraction_cells("abcd", generators)

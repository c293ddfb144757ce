"""Contrasts of cells decided together: the same as least squares, and with the error rates that they state."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from ablate.stats.contrasts import Decisions, decide
from ablate.stats.dunnett import critical_value, simultaneous_p
from ablate.stats.factorial import effect_weights
from tests.stats.least_squares import factorial

Values = NDArray[np.float64]
GRID = np.asarray(list(np.ndindex(2, 2, 2)))
NAMES = ("a", "b", "c")
TERMS = [term for size in (1, 2, 3) for term in combinations(NAMES, size)]


def weights(grid: NDArray[np.int64], terms: list[tuple[str, ...]] = TERMS) -> Values:
    return effect_weights(grid, NAMES, terms).weights


def decide_cells(
    values: Values, weights: Values, margin: float | None = None, equivalences: int | None = None
) -> Decisions:
    return decide(values, margin, weights=weights, equivalences=equivalences or len(weights))


def test_effects_errors_and_intervals_are_those_of_the_factorial_model() -> None:
    values = np.random.default_rng(0).normal(size=(8, 4))
    values[3, 2] = np.nan
    expected = factorial(values, GRID, NAMES, order=3)
    found = decide_cells(values, weights(GRID))
    assert found.pool.df == expected.df
    for i, one in enumerate(expected.effects):
        assert found.effects[i] == pytest.approx(one.effect)
        assert found.pool.errors[i] == pytest.approx(one.error)
        half = critical_value(0.95, expected.df, found.correlation) * one.error
        assert (one.effect - half, one.effect + half) == pytest.approx((one.low, one.high), abs=1e-6)
        p_value = simultaneous_p(one.effect / one.error, expected.df, found.correlation)
        assert p_value == pytest.approx(one.p_value, abs=1e-6)


def test_with_three_levels_too() -> None:
    levels = np.asarray(list(np.ndindex(3, 2)))
    values = np.random.default_rng(1).normal(size=(6, 5))
    expected = factorial(values, levels, ["a", "b"])
    found = decide_cells(values, weights(levels, [("a",), ("b",), ("a", "b")]))
    assert found.effects == pytest.approx([one.effect for one in expected.effects])
    assert found.pool.errors == pytest.approx([one.error for one in expected.effects], abs=1e-6)


def test_a_cell_without_a_value_takes_its_claims_along_and_no_others() -> None:
    values = np.random.default_rng(2).normal(size=(4, 5))
    values[3] = np.nan
    alone = np.asarray([[-1.0, 1, 0, 0], [-1, 0, 1, 0], [0, -1, 0, 1]])
    found = decide_cells(values, alone, margin=0.1)
    assert np.isfinite(found.effects).tolist() == [True, True, False]
    assert np.isfinite(found.low).tolist() == [True, True, False]
    assert not found.differs[2]
    assert found.own.pairs.tolist() == [5, 5, 0]


@pytest.mark.parametrize(
    "values", [np.ones((4, 5)), np.arange(4.0)[:, None] * np.ones((1, 1))], ids=["flat", "one seed"]
)
def test_without_spread_or_repeats_nothing_is_claimed(values: Values) -> None:
    found = decide_cells(values, np.asarray([[-1.0, 1, 0, 0]]), margin=10.0)
    assert not found.differs.any()
    assert not found.within.any()


def test_weights_that_are_no_difference_are_refused() -> None:
    with pytest.raises(ValueError, match="each row adding up to 0"):
        decide_cells(np.ones((4, 5)), np.asarray([[1.0, 1, 0, 0]]))
    with pytest.raises(ValueError, match="one column per cell of 4"):
        decide_cells(np.ones((4, 5)), np.asarray([[1.0, -1, 0]]))


def pair_weights(count: int) -> Values:
    """Alone and beside, of `count` parts: cells are the baseline, each part, each pair."""
    pairs = list(combinations(range(count), 2))
    rows = []
    for k in range(count):
        row = np.zeros(1 + count + len(pairs))
        row[0], row[1 + k] = -1, 1
        rows.append(row)
    for number, (i, k) in enumerate(pairs):
        for other in (i, k):
            row = np.zeros(1 + count + len(pairs))
            row[1 + count + number], row[1 + other] = 1, -1
            rows.append(row)
    return np.asarray(rows)


DRAWS = 300


@pytest.mark.parametrize(
    ("sums", "cells"),
    [(weights(GRID), 8), (weights(GRID[[0, 3, 5, 6]], [("a",), ("b",), ("c",)]), 4), (pair_weights(4), 11)],
    ids=["factorial", "half of it", "pairwise"],
)
@pytest.mark.parametrize("seeds", [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_intervals_of_the_whole_family_miss_in_about_5_percent(sums: Values, cells: int, seeds: int) -> None:
    """Of 300 studies 15 are expected, plus or minus 3.8; an interval misses its effect where that of the noise misses 0."""
    rng = np.random.default_rng([7, cells, seeds])
    missed = claimed = 0
    for _ in range(DRAWS):
        noise = rng.normal(size=(1, seeds)) + rng.normal(size=(cells, seeds))
        found = decide_cells(noise, sums)
        missed += bool(np.any((found.low > 0) | (found.high < 0)))
        claimed += bool(np.any(found.differs))
    assert (0.02 if seeds > 3 else 0.003) < missed / DRAWS < 0.085
    assert claimed / DRAWS < 0.085


@pytest.mark.parametrize("seeds", [5, pytest.param(8, marks=pytest.mark.slow)])
def test_a_cell_that_varies_three_times_as_much_makes_few_false_claims(seeds: int) -> None:
    """Its contrasts are widened by their own seeds; the pooled interval alone would err in twice as many."""
    rng, sums = np.random.default_rng([8, seeds]), pair_weights(4)
    ours = pooled = 0
    for _ in range(DRAWS):
        values = rng.normal(size=(1, seeds)) + rng.normal(size=(11, seeds))
        values[3] *= 3
        found = decide_cells(values, sums)
        limit = critical_value(0.95, float(found.pool.df), found.correlation)
        ours += bool(found.differs.any())
        pooled += bool(np.any(np.abs(found.effects) > limit * found.pool.errors))
    assert ours < pooled / 1.5
    assert ours / DRAWS < 0.11


@pytest.mark.slow
def test_a_false_no_effect_anywhere_is_as_rare_as_said() -> None:
    """Every part's effect alone lies exactly at the margin."""
    rng, sums, count, margin = np.random.default_rng(9), pair_weights(4), 4, 1.5
    wrong = 0
    for _ in range(DRAWS // 2):
        values = rng.normal(size=(1, 8)) + rng.normal(size=(11, 8))
        values[1 : 1 + count] += margin * np.asarray([[1], [-1], [1], [-1]])
        wrong += bool(decide_cells(values, sums, margin, equivalences=count).within[:count].any())
    assert wrong / (DRAWS // 2) < 0.085

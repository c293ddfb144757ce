"""Main effects and interactions: laws, a broken layout, and error rates. Reference values: test_reference.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from ablate.stats.contrasts import Decisions, decide
from ablate.stats.factorial import EffectWeights, Term, effect_weights, term_tests

TWO = np.asarray(list(np.ndindex(2, 2, 2)))
NAMES = ("lr", "batch_size", "max_grad_norm")


def terms_of(names: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return [term for size in range(1, order + 1) for term in combinations(names, size)]


def analysed(
    values: np.ndarray, grid: np.ndarray, names: Sequence[str]
) -> tuple[EffectWeights, Decisions, dict[tuple[str, ...], Term]]:
    """All effects of a design, their decisions and the F test of each term."""
    terms = terms_of(names, len(names))
    effects = effect_weights(grid, names, terms)
    found = decide(values, weights=effects.weights)
    return effects, found, {term.factors: term for term in term_tests(found, effects, terms)}


def test_effects_are_half_the_runs_against_the_other_half() -> None:
    values = np.random.default_rng(0).normal(size=(8, 3))
    effects, found, _ = analysed(values, TWO, NAMES)
    signs = 2 * TWO - 1
    for owner, effect in zip(effects.owners, found.effects, strict=True):
        term = terms_of(NAMES, 3)[owner]
        product = np.prod(signs[:, [NAMES.index(factor) for factor in term]], axis=1)
        assert effect == pytest.approx(values[product > 0].mean() - values[product < 0].mean())
    assert found.pool.df == 7 * 2


def test_an_interaction_alone_is_found_and_no_main_effect_is_claimed() -> None:
    values = 0.1 * np.random.default_rng(1).normal(size=(8, 5)) + np.where(TWO[:, 0] == TWO[:, 1], 1.0, -1.0)[:, None]
    _, found, tests = analysed(values, TWO, NAMES)
    moved = {term for term, differs in zip(terms_of(NAMES, 3), found.differs, strict=True) if differs}
    assert moved == {("lr", "batch_size")}
    assert {term for term, test in tests.items() if test.p_value < 0.001} == moved


def test_intervals_hold_together_over_the_whole_table() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        _, found, _ = analysed(rng.normal(size=(8, 3)) + rng.normal(size=(1, 3)), TWO, NAMES)
        wrong += bool(np.any((found.low > 0) | (found.high < 0)))
    assert 0.02 < wrong / 400 < 0.085


def test_a_lost_run_is_analysed_and_what_a_seed_adds_is_taken_out() -> None:
    rng = np.random.default_rng(3)
    truth = 2.0 * TWO[:, 0] - 1.0 * TWO[:, 2]
    values = truth[:, None] + 5 * rng.normal(size=(1, 4)) + 0.01 * rng.normal(size=(8, 4))
    values[7, 0] = values[2, 3] = np.nan
    _, found, _ = analysed(values, TWO, NAMES)
    effects = dict(zip(terms_of(NAMES, 3), found.effects, strict=True))
    assert effects["lr",] == pytest.approx(2.0, abs=0.05)
    assert effects["max_grad_norm",] == pytest.approx(-1.0, abs=0.05)
    assert effects["lr", "batch_size"] == pytest.approx(0.0, abs=0.05)
    assert found.pool.df == 30 - 4 - 7


def test_a_factor_of_three_levels_is_compared_with_its_first() -> None:
    levels = np.asarray(list(np.ndindex(3, 2)))
    values = np.asarray([0.0, 0.0, 1.0, 1.0, 3.0, 4.0])[:, None] + 1e-3 * np.random.default_rng(4).normal(size=(6, 4))
    effects, found, tests = analysed(values, levels, ["width", "depth"])
    factors = [terms_of(["width", "depth"], 2)[owner] for owner in effects.owners]
    assert list(zip(factors, effects.levels, strict=True)) == [
        (("width",), (1,)),
        (("width",), (2,)),
        (("depth",), (1,)),
        (("width", "depth"), (1, 1)),
        (("width", "depth"), (2, 1)),
    ]
    assert found.effects == pytest.approx([1.0, 3.5, 1 / 3, 0.0, 1.0], abs=5e-3)
    assert [test.df for test in tests.values()] == [2, 1, 2]


def test_effects_that_the_cells_cannot_separate_are_refused_by_name() -> None:
    half = TWO[np.prod(2 * TWO - 1, axis=1) < 0]
    with pytest.raises(
        ValueError, match="4 cells do not separate these effects: lr, batch_size, max_grad_norm, lr x batch"
    ):
        effect_weights(half, NAMES, terms_of(NAMES, 2))
    assert effect_weights(half, NAMES, terms_of(NAMES, 1)).weights.shape == (3, 4)


def test_without_spread_or_repeats_there_is_no_error_and_no_test() -> None:
    for values in (
        np.ones((8, 3)),
        np.arange(8.0)[:, None],
        np.where(np.arange(8) == 3, np.nan, np.arange(8.0))[:, None],
    ):
        _, found, tests = analysed(values, TWO, NAMES)
        assert not np.any(np.isfinite(found.errors))
        assert not tests

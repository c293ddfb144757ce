"""Main effects and interactions: laws, a broken layout, and error rates. Reference values: test_reference.py."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.factorial import factorial

TWO = np.asarray(list(np.ndindex(2, 2, 2)))
NAMES = ("lr", "batch_size", "max_grad_norm")


def test_effects_are_half_the_runs_against_the_other_half() -> None:
    values = np.random.default_rng(0).normal(size=(8, 3))
    found = factorial(values, TWO, NAMES, order=3)
    assert found is not None
    signs = 2 * TWO - 1
    for effect in found.effects:
        product = np.prod(signs[:, [NAMES.index(factor) for factor in effect.factors]], axis=1)
        assert effect.effect == pytest.approx(values[product > 0].mean() - values[product < 0].mean())
    assert found.df == 7 * 2


def test_an_interaction_alone_is_found_and_no_main_effect_is_claimed() -> None:
    values = 0.1 * np.random.default_rng(1).normal(size=(8, 5)) + np.where(TWO[:, 0] == TWO[:, 1], 1.0, -1.0)[:, None]
    found = factorial(values, TWO, NAMES)
    assert found is not None
    moved = {effect.factors for effect in found.effects if effect.low > 0 or effect.high < 0}
    assert moved == {("lr", "batch_size")}
    assert {term.factors for term in found.terms if term.p_value < 0.001} == moved


def test_intervals_hold_together_over_the_whole_table() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(400):
        found = factorial(rng.normal(size=(8, 3)) + rng.normal(size=(1, 3)), TWO, NAMES)
        assert found is not None
        wrong += any(effect.low > 0 or effect.high < 0 for effect in found.effects)
    assert 0.02 < wrong / 400 < 0.085


def test_a_lost_run_is_analysed_and_what_a_seed_adds_is_taken_out() -> None:
    rng = np.random.default_rng(3)
    truth = 2.0 * TWO[:, 0] - 1.0 * TWO[:, 2]
    values = truth[:, None] + 5 * rng.normal(size=(1, 4)) + 0.01 * rng.normal(size=(8, 4))
    values[7, 0] = values[2, 3] = np.nan
    found = factorial(values, TWO, NAMES)
    assert found is not None
    effects = {effect.factors: effect.effect for effect in found.effects}
    assert effects["lr",] == pytest.approx(2.0, abs=0.05)
    assert effects["max_grad_norm",] == pytest.approx(-1.0, abs=0.05)
    assert effects["lr", "batch_size"] == pytest.approx(0.0, abs=0.05)
    assert found.df == 30 - 4 - 6


def test_a_factor_of_three_levels_is_compared_with_its_first() -> None:
    levels = np.asarray(list(np.ndindex(3, 2)))
    values = np.asarray([0.0, 0.0, 1.0, 1.0, 3.0, 4.0])[:, None] + 1e-3 * np.random.default_rng(4).normal(size=(6, 4))
    found = factorial(values, levels, ["width", "depth"])
    assert found is not None
    assert [(one.factors, one.levels) for one in found.effects] == [
        (("width",), (1,)),
        (("width",), (2,)),
        (("depth",), (1,)),
        (("width", "depth"), (1, 1)),
        (("width", "depth"), (2, 1)),
    ]
    assert [one.effect for one in found.effects] == pytest.approx([1.0, 3.5, 1 / 3, 0.0, 1.0], abs=5e-3)
    assert [term.df for term in found.terms] == [2, 1, 2]


def test_effects_that_the_cells_cannot_tell_apart_are_refused_by_name() -> None:
    half = TWO[np.prod(2 * TWO - 1, axis=1) < 0]
    values = np.random.default_rng(5).normal(size=(4, 3))
    with pytest.raises(
        ValueError, match="4 cells do not tell these effects apart: lr, batch_size, max_grad_norm, lr x batch_size"
    ):
        factorial(values, half, NAMES)
    assert factorial(values, half, NAMES, terms=[("lr",), ("batch_size",), ("max_grad_norm",)]) is not None


def test_without_spread_or_repeats_there_is_no_error_and_no_table() -> None:
    assert factorial(np.ones((8, 3)), TWO, NAMES) is None
    assert factorial(np.arange(8.0)[:, None], TWO, NAMES, order=3) is None
    with pytest.raises(ValueError, match="one row per cell"):
        factorial(np.ones((7, 3)), TWO, NAMES)

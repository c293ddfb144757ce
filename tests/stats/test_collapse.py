"""Rare collapses: found where planted, hardly ever in ordinary noise, and bounded where none was seen."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.rates import collapsed, highest_rate


def test_a_planted_collapse_is_found_on_its_worse_side_only() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    values[1, 2] += 15
    for lower_is_better, expected in ((True, 1), (False, 0), (None, 0)):
        found = collapsed(values, lower_is_better)
        assert int(found.sum()) == expected
        assert not expected or found[1, 2]
    assert collapsed(-values, False)[1, 2]


@pytest.mark.parametrize("shape", [(2, 5), (5, 5), (4, 10)])
def test_ordinary_noise_collapses_hardly_ever(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    found = [bool(collapsed(rng.normal(size=shape), True).any()) for _ in range(500)]
    assert np.mean(found) < 0.05


def test_missing_runs_an_effect_and_equal_values_are_no_collapse() -> None:
    values = np.random.default_rng(2).normal(size=(3, 5))
    values[2] += 100
    values[0, 1] = np.nan
    assert not collapsed(values, True).any()
    assert not collapsed(np.ones((2, 5)), True).any()
    assert not collapsed(np.full((2, 5), np.nan), True).any()


def test_none_in_ten_runs_leaves_26_percent_possible() -> None:
    assert highest_rate(0, 10) == pytest.approx(1 - 0.05**0.1)
    assert highest_rate(3, 3) == 1.0

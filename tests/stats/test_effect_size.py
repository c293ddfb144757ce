"""Hedges g without bias, and how often the variant wins. Reference values: test_reference.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.stats.paired import beats, hedges_g, small_sample

values = st.lists(st.integers(-100, 100).map(float), min_size=2, max_size=8)


@pytest.mark.parametrize("df", [4, 8, 40])
def test_the_correction_is_near_its_well_known_approximation(df: int) -> None:
    assert small_sample(df) == pytest.approx(1 - 3 / (4 * df - 1), abs=3e-3)
    assert small_sample(4) < small_sample(40) < 1


def test_g_is_right_on_average_where_d_is_too_large() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(20_000, 2, 4)) + np.asarray([0.0, 1.0])[None, :, None]
    assert np.mean([hedges_g(*pair) for pair in draws]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([hedges_g(*pair) for pair in draws]) / small_sample(6) > 1.1


@given(values)
def test_exchanging_the_arms_turns_the_sign(left: list[float]) -> None:
    baseline = np.asarray(left)
    variant = baseline[::-1] * 0.5 + 3
    there, back = hedges_g(baseline, variant), hedges_g(variant, baseline)
    assert there == pytest.approx(-back, nan_ok=True)
    assert beats(baseline, variant, True) == pytest.approx(1 - beats(variant, baseline, True))
    assert beats(baseline, variant, True) == pytest.approx(1 - beats(baseline, variant, False))


@given(values, st.sampled_from([np.exp, np.tanh, np.cbrt]))
def test_who_wins_survives_any_rising_transform(left: list[float], rising: np.ufunc) -> None:
    baseline = np.asarray(left) / 50
    variant = np.roll(baseline, 1) + 0.25
    assert beats(rising(baseline), rising(variant), True) == beats(baseline, variant, True)


def test_ties_count_half() -> None:
    assert beats(np.asarray([1.0, 1.0, 1.0, 1.0]), np.asarray([0.5, 1.0, 1.0, 2.0]), True) == 0.5
    assert beats(np.asarray([1.0, 1.0]), np.asarray([0.5, 1.0]), True) == 0.75


def test_without_spread_or_runs_there_is_no_size() -> None:
    assert math.isnan(hedges_g(np.asarray([1.0]), np.asarray([2.0])))
    assert math.isnan(hedges_g(np.ones(3), np.full(3, 2.0)))
    assert math.isnan(beats(np.asarray([]), np.asarray([]), True))

"""Paired inference against scipy's own tests, and against draws with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ablate.analysis.intervals import correlation, paired


@pytest.mark.parametrize("n", [2, 3, 5, 17])
def test_the_interval_and_p_value_are_those_of_ttest_rel(n: int) -> None:
    rng = np.random.default_rng(n)
    left, right = rng.normal(size=(2, n))
    ours = paired(right - left)
    theirs = stats.ttest_rel(right, left)
    outer, inner = theirs.confidence_interval(0.95), theirs.confidence_interval(0.90)
    assert ours is not None
    assert ours.p_value == pytest.approx(float(theirs.pvalue))
    assert (ours.low, ours.high) == pytest.approx((float(outer.low), float(outer.high)))
    assert (ours.inner_low, ours.inner_high) == pytest.approx((float(inner.low), float(inner.high)))


def test_equivalence_is_both_one_sided_tests_at_five_percent() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(300):
        differences = rng.normal(scale=0.7, size=6)
        above = stats.ttest_1samp(differences, -1.0, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, 1.0, alternative="less").pvalue
        ours = paired(differences)
        assert ours is not None
        assert ours.within(1.0) == (max(above, below) < 0.05)
        seen.add(ours.within(1.0))
    assert seen == {True, False}


@pytest.mark.parametrize("differences", [[], [0.3], [0.25, 0.25], [0.0, 0.0, 0.0], [0.1 + 0.2, 0.3, 0.3]])
def test_no_spread_is_no_interval(differences: list[float]) -> None:
    assert paired(np.asarray(differences, dtype=np.float64)) is None


@given(
    st.lists(st.integers(-(10**6), 10**6).map(lambda k: k / 1000), min_size=2, max_size=12),
    st.floats(0.01, 100),
)
def test_the_interval_moves_with_the_unit(values: list[float], factor: float) -> None:
    plain, scaled = paired(np.asarray(values)), paired(np.asarray(values) * factor)
    assert (plain is None) == (scaled is None)
    if plain is not None and scaled is not None:
        assert scaled.low == pytest.approx(plain.low * factor, rel=1e-6, abs=1e-9)
        assert plain.low <= plain.mean <= plain.high
        assert plain.low <= plain.inner_low <= plain.inner_high <= plain.high


def test_correlation_needs_three_pairs_with_spread() -> None:
    assert correlation(np.asarray([1.0, 2.0]), np.asarray([1.0, 2.0])) is None
    assert correlation(np.asarray([1.0, 1.0, 1.0]), np.asarray([1.0, 2.0, 3.0])) is None
    rho = correlation(np.asarray([1.0, 2.0, 4.0]), np.asarray([3.0, 1.0, 2.0]))
    assert rho == pytest.approx(float(stats.pearsonr([1.0, 2.0, 4.0], [3.0, 1.0, 2.0]).statistic))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_truth_95_times_in_100(n: int) -> None:
    rng = np.random.default_rng(95 + n)
    draws, truth = 4000, 0.4
    inferences = [paired(row) for row in rng.normal(loc=truth, size=(draws, n))]
    covered = np.mean([one is not None and one.low <= truth <= one.high for one in inferences])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / draws)


@pytest.mark.parametrize("n", [3, 5, 10, 30])
def test_a_difference_that_just_matters_is_called_no_effect_at_most_5_times_in_100(n: int) -> None:
    rng = np.random.default_rng(5 + n)
    inferences = [paired(row) for row in rng.normal(loc=1.0, size=(4000, n))]
    assert np.mean([one is not None and one.within(1.0) for one in inferences]) <= 0.055

"""Dunnett's distribution: against scipy's, by another road, and its laws. Reference values: test_reference.py."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ablate.stats import dunnett
from ablate.stats.dunnett import complete, critical_value, equivalence_value, simultaneous_p


@pytest.mark.parametrize("df", [1, 4, 30])
def test_one_comparison_is_students_t(df: int) -> None:
    assert critical_value(0.95, df, complete(1)) == pytest.approx(stats.t.ppf(0.975, df))
    assert equivalence_value(0.95, df, complete(1)) == pytest.approx(stats.t.ppf(0.95, df))
    assert simultaneous_p(2.0, df, complete(1)) == pytest.approx(2 * stats.t.sf(2.0, df))


def test_scipys_multivariate_t_says_the_same_within_its_own_error() -> None:
    drawn = stats.multivariate_t(shape=complete(4), df=12)
    inside = drawn.cdf([2.5] * 4, lower_limit=[-2.5] * 4, random_state=1, maxpts=200_000)
    assert simultaneous_p(2.5, 12, complete(4)) == pytest.approx(1 - float(inside), abs=1e-5)


def test_an_uneven_correlation_agrees_with_scipys_draw() -> None:
    correlation = np.asarray([[1, 0.55, 0.3], [0.55, 1, 0.45], [0.3, 0.45, 1.0]])
    correlation[0, 1] = correlation[1, 0] = -0.2
    inside = stats.multivariate_t(shape=correlation, df=9).cdf(
        [2.2] * 3, lower_limit=[-2.2] * 3, random_state=1, maxpts=200_000
    )
    assert simultaneous_p(2.2, 9, correlation) == pytest.approx(1 - float(inside), abs=3e-4)


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("variants", [2, 3, 6])
def test_both_roads_lead_to_the_same_value(variants: int, sides: int) -> None:
    rows = complete(variants)
    layout = dunnett._Layout(variants, None, tuple(map(tuple, rows.tolist())))
    factors = dunnett._factors(rows)
    assert factors is not None
    for statistic in (1.5, 2.5, 4.0):
        signed = factors if sides == 2 else dunnett._opposed(factors)
        exact = dunnett._by_quadrature(statistic, 15, signed, sides)
        assert dunnett._by_directions(statistic, 15, layout, sides) == pytest.approx(exact, rel=0.02)


def test_independent_contrasts_with_a_known_sd_are_sidaks() -> None:
    p = simultaneous_p(2.0, 1e7, np.eye(5))
    assert p == pytest.approx(1 - (1 - 2 * stats.norm.sf(2.0)) ** 5, rel=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 8.0), st.integers(1, 9), st.integers(2, 60))
def test_more_comparisons_never_make_a_claim_easier(statistic: float, variants: int, df: int) -> None:
    fewer, more = (simultaneous_p(statistic, df, complete(k)) for k in (variants, variants + 1))
    assert more >= fewer - 1e-9
    bonferroni = min(1.0, variants * 2 * float(stats.t.sf(statistic, df)))
    assert 2 * float(stats.t.sf(statistic, df)) - 1e-9 <= fewer <= bonferroni + 1e-9


def test_critical_values_rise_with_the_family_and_fall_with_the_runs() -> None:
    by_family = [critical_value(0.95, 20, complete(k)) for k in range(1, 9)]
    by_df = [critical_value(0.95, df, complete(5)) for df in (2, 5, 10, 50)]
    assert by_family == sorted(by_family)
    assert by_df == sorted(by_df, reverse=True)


def test_the_p_at_the_critical_value_is_the_level() -> None:
    for correlation in (complete(4), np.asarray([[1, 0.2, 0.4], [0.2, 1, 0.1], [0.4, 0.1, 1.0]])):
        limit = critical_value(0.9, 8, correlation)
        assert simultaneous_p(limit, 8, correlation) == pytest.approx(0.1, abs=1e-7)


def test_equivalence_is_safe_whatever_the_signs_of_the_effects() -> None:
    """Four variants at their margins: every pattern of sides errs in 5% at most, the evenly split one in just that."""
    limit = equivalence_value(0.95, 20, complete(4))
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal(np.zeros(4), complete(4), size=200_000) / np.sqrt(
        rng.chisquare(20, size=(200_000, 1)) / 20
    )
    errs = {signs: np.mean(np.any(draws * signs > limit, axis=1)) for signs in product((1, -1), repeat=4)}
    assert max(errs.values()) <= 0.0515
    assert errs[1, 1, -1, -1] == pytest.approx(0.05, abs=0.0015)
    assert errs[1, 1, 1, 1] < 0.049


def test_tails_are_small_numbers_and_not_zero() -> None:
    assert simultaneous_p(30.0, 12, complete(5)) == pytest.approx(5 * 2 * stats.t.sf(30.0, 12), rel=0.05)


def test_what_is_not_a_number_stays_so_and_a_level_is_a_probability() -> None:
    assert np.isnan(simultaneous_p(float("nan"), 10, complete(3)))
    assert np.isnan(critical_value(0.95, 0, complete(3)))
    for level in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match=f"level {level}: a number between 0 and 1"):
            critical_value(level, 10, complete(3))

"""How many seeds are needed: against simulation and against published figures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablate.analysis.power import CHANCE, detection_power, equivalence_power, seeds_needed, smallest_detectable


@pytest.mark.parametrize(("n", "effect"), [(3, 2.0), (5, 1.0), (10, 1.0), (20, 0.5)])
def test_detection_power_is_that_of_the_noncentral_t(n: int, effect: float) -> None:
    limit, shift = stats.t.ppf(0.975, n - 1), effect * np.sqrt(n)
    exact = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    assert detection_power(n, effect, 1.0) == pytest.approx(float(exact), abs=1e-3)


@pytest.mark.parametrize(("n", "margin"), [(3, 3.0), (6, 1.5), (11, 1.0)])
def test_equivalence_power_is_what_a_simulation_finds(n: int, margin: float) -> None:
    draws = np.random.default_rng(n).normal(size=(20_000, n))
    half = stats.t.ppf(0.95, n - 1) * draws.std(axis=1, ddof=1) / np.sqrt(n)
    inside = np.mean((np.abs(draws.mean(axis=1)) + half) < margin)
    assert equivalence_power(n, margin, 1.0) == pytest.approx(float(inside), abs=0.012)


def test_equivalence_within_one_sd_takes_eleven_seeds() -> None:
    """Differences with sd 1 against a margin of 1: 11 seeds for four chances in five."""
    assert seeds_needed(1.0, 1.0) == 11


@pytest.mark.parametrize("sd", [0.05, 0.3, 1.0, 2.5])
def test_the_number_is_the_smallest_that_gives_four_chances_in_five(sd: float) -> None:
    n = seeds_needed(sd, 1.0)
    assert n is not None
    assert min(detection_power(n, 1.0, sd), equivalence_power(n, 1.0, sd)) >= CHANCE
    assert n == 2 or min(detection_power(n - 1, 1.0, sd), equivalence_power(n - 1, 1.0, sd)) < CHANCE


def test_hopeless_is_none_and_not_a_large_number() -> None:
    assert seeds_needed(100.0, 1.0) is None


@pytest.mark.parametrize(("n", "effect"), [(3, 3.26), (5, 1.68), (8, 1.16)])
def test_the_smallest_detectable_effect_is_that_of_the_noncentral_t(n: int, effect: float) -> None:
    found = smallest_detectable(n)
    assert found == pytest.approx(effect, abs=0.02)
    limit, shift = stats.t.ppf(0.975, n - 1), found * np.sqrt(n)
    assert stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift) == pytest.approx(0.8, abs=0.005)


def test_the_smallest_detectable_effect_scales_with_the_spread_and_needs_two_pairs() -> None:
    assert smallest_detectable(5, 0.01) == pytest.approx(0.01 * smallest_detectable(5))
    assert smallest_detectable(1) == np.inf

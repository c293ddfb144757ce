"""Seeds crossed with examples: coverage by source, and why a bootstrap of few seeds is not the default."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.crossed import crossed, crossed_bootstrap


def draw(rng: np.random.Generator, seeds: int, seed_sd: float, example_sd: float, rest_sd: float = 1.0) -> np.ndarray:
    seed, example = seed_sd * rng.normal(size=(seeds, 1)), example_sd * rng.normal(size=(1, 60))
    return np.asarray(seed + example + rest_sd * rng.normal(size=(seeds, 60)))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("seed_sd", "example_sd"), [(1.0, 1.0), (1.0, 0.1), (0.1, 1.0), (0.0, 0.0)])
def test_the_interval_covers_whichever_source_is_the_larger(seeds: int, seed_sd: float, example_sd: float) -> None:
    rng = np.random.default_rng(seeds)
    found = [crossed(draw(rng, seeds, seed_sd, example_sd)) for _ in range(800)]
    covered = np.mean([one is not None and one.low <= 0 <= one.high for one in found])
    assert 0.915 <= covered <= 0.99


def test_an_interval_over_seeds_alone_does_not_speak_for_other_examples() -> None:
    rng = np.random.default_rng(1)
    alone, both = [], []
    for _ in range(400):
        differences = draw(rng, 5, 0.05, 1.0)
        means = differences.mean(axis=1)
        alone.append(abs(means.mean()) < 2.776 * means.std(ddof=1) / np.sqrt(5))
        one = crossed(differences)
        both.append(one is not None and one.low <= 0 <= one.high)
    assert np.mean(alone) < 0.8
    assert np.mean(both) > 0.92


def test_it_says_which_source_would_narrow_it() -> None:
    rng = np.random.default_rng(2)
    by_example, by_seed = crossed(draw(rng, 8, 0.02, 2.0)), crossed(draw(rng, 8, 2.0, 0.02))
    assert by_example is not None
    assert by_seed is not None
    assert by_example.example_share > 0.7
    assert by_seed.example_share < 0.1


def test_the_bootstrap_draws_from_its_generator_alone_and_is_too_narrow_at_three_seeds() -> None:
    rng = np.random.default_rng(3)
    baseline = draw(rng, 3, 1.0, 0.5)
    variant = baseline + draw(rng, 3, 1.0, 0.1)

    def mean_gap(left: np.ndarray, right: np.ndarray) -> float:
        return float(np.mean(right - left))

    first, second = (
        crossed_bootstrap(mean_gap, baseline, variant, np.random.default_rng(7), draws=400) for _ in range(2)
    )
    assert first == second
    plain = crossed(variant - baseline)
    assert plain is not None
    assert first[1] - first[0] < plain.high - plain.low


@pytest.mark.parametrize("differences", [np.zeros((1, 5)), np.zeros((5, 1)), np.zeros((3, 4)), np.full((3, 4), np.nan)])
def test_one_seed_one_example_and_no_spread_have_no_interval(differences: np.ndarray) -> None:
    assert crossed(differences) is None

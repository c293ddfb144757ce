"""Seeds and examples as two sources of variance: coverage by source. More of it in tests/calibration/test_widened.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablate.stats.example_variance import Widened, widened
from ablate.stats.paired import paired_t


def draw(rng: np.random.Generator, seeds: int, seed_sd: float, example_sd: float, rest_sd: float = 1.0) -> np.ndarray:
    seed, example = seed_sd * rng.normal(size=(seeds, 1)), example_sd * rng.normal(size=(1, 60))
    return np.asarray(seed + example + rest_sd * rng.normal(size=(seeds, 60)))


def over_both(differences: np.ndarray) -> tuple[Widened, float]:
    """The widened error, and the half width of its 95% interval."""
    own = paired_t(differences.mean(axis=1))
    found = widened(differences, float(own.errors), int(own.df))
    over_seeds = float(stats.t.isf(0.025, own.df) * own.errors)
    return found, found.half_width(over_seeds, float(own.errors), int(own.df))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(("seed_sd", "example_sd"), [(1.0, 1.0), (1.0, 0.1), (0.1, 1.0), (0.0, 0.0)])
def test_the_interval_covers_whichever_source_is_the_larger(seeds: int, seed_sd: float, example_sd: float) -> None:
    rng = np.random.default_rng(seeds)
    drawn = [draw(rng, seeds, seed_sd, example_sd) for _ in range(800)]
    covered = np.mean([abs(one.mean()) <= over_both(one)[1] for one in drawn])
    assert 0.915 <= covered <= (0.99 if seed_sd or example_sd else 1.0), "never narrower than over seeds alone"


def test_an_interval_over_seeds_alone_does_not_speak_for_other_examples() -> None:
    rng = np.random.default_rng(1)
    alone, both = [], []
    for _ in range(400):
        differences = draw(rng, 5, 0.05, 1.0)
        means = differences.mean(axis=1)
        alone.append(abs(means.mean()) < 2.776 * means.std(ddof=1) / np.sqrt(5))
        both.append(abs(means.mean()) <= over_both(differences)[1])
    assert np.mean(alone) < 0.8
    assert np.mean(both) > 0.92


def test_it_says_which_source_would_narrow_it() -> None:
    rng = np.random.default_rng(2)
    by_example, by_seed = over_both(draw(rng, 8, 0.02, 2.0))[0], over_both(draw(rng, 8, 2.0, 0.02))[0]
    assert by_example.example_share > 0.7
    assert by_seed.example_share < 0.1


@pytest.mark.parametrize("differences", [np.zeros((1, 5)), np.zeros((5, 1))])
def test_one_seed_and_one_example_are_refused(differences: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least two seeds and two examples"):
        widened(differences, 1.0, 1)


def test_an_interval_for_new_examples_is_never_narrower_and_its_freedom_has_no_step() -> None:
    """At three seeds more degrees of freedom could have made the wider population's interval the narrower one."""
    rng = np.random.default_rng(0)
    for draw in range(300):
        sds = rng.choice([0.0, 0.05, 1.0], size=2)
        values = sds[0] * rng.normal(size=(3, 1)) + sds[1] * rng.normal(size=(1, 60)) + rng.normal(size=(3, 60))
        means = values.mean(axis=1)
        error = float(means.std(ddof=1) / 3**0.5)
        over_seeds = 4.3 * error
        assert widened(values, error, 2).half_width(over_seeds, error, 2) >= over_seeds, draw

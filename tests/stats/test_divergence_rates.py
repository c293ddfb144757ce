"""Diverged runs as an outcome of their own."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.rates import divergence, rate_interval, sign_flips


def arms(*counts: int, runs: int = 5) -> np.ndarray:
    return np.asarray([[seed < count for seed in range(runs)] for count in counts])


def test_five_of_five_against_none_is_found_where_the_paired_test_cannot() -> None:
    found = divergence(arms(0, 5))[0]
    assert found.p_value == pytest.approx(0.00794, abs=1e-5)
    assert sign_flips(np.ones(5, dtype=np.int64)) == pytest.approx(0.0625), "exact McNemar on the same five seeds"
    assert (found.baseline_count, found.variant_count, found.runs, found.rate) == (0, 5, 5, 1.0)


def test_several_variants_are_corrected_in_their_order() -> None:
    found = divergence(arms(0, 1, 5, 2))
    assert found[1].adjusted_p == pytest.approx(3 * found[1].p_value)
    assert found[0].adjusted_p == 1.0
    assert [one.variant_count for one in found] == [1, 5, 2]


def test_runs_that_did_not_end_are_left_out_of_their_pair() -> None:
    ended = np.ones((2, 5), dtype=bool)
    ended[0, 0] = ended[1, 4] = False
    found = divergence(arms(1, 5), ended)[0]
    assert (found.baseline_count, found.variant_count, found.runs) == (0, 3, 3)
    nothing = divergence(arms(1, 5), np.zeros((2, 5), dtype=bool))[0]
    assert np.isnan(nothing.p_value)
    assert np.isnan(nothing.rate)


def test_no_divergence_promises_little() -> None:
    assert rate_interval(0, 5) == (0.0, pytest.approx(0.5218, abs=1e-4))
    assert rate_interval(5, 5)[1] == 1.0
    assert np.isnan(rate_interval(0, 0)[0])


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_ignoring_the_pairing_is_safe(shared: float) -> None:
    """A share of the seeds decides by itself, for both arms, whether a run diverges."""
    rng = np.random.default_rng(int(10 * shared))
    claims = []
    for _ in range(1500):
        seed, own = rng.random((1, 8)) < 0.4, rng.random((2, 8)) < 0.4
        claims.append(divergence(np.where(rng.random((1, 8)) < shared, seed, own))[0].p_value < 0.05)
    assert np.mean(claims) <= 0.05

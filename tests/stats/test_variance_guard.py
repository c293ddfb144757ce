"""The variance guard: whom it sets aside, and how seldom it does so for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.contrasts import estimate


def test_false_alarms_are_as_rare_as_they_are_meant_to_be() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 5, 6))
    found = estimate(values).alone
    assert np.mean(np.all(found, axis=1)) == pytest.approx(0.02, abs=0.006), "the baseline's alarm"
    alone = found & ~np.all(found, axis=1, keepdims=True)
    assert np.mean(alone) == pytest.approx(0.01, abs=0.005), "each variant's"


def test_two_noisy_arms_do_not_hide_each_other() -> None:
    values = np.random.default_rng(1).normal(size=(500, 6, 8))
    values[:, 2:4] *= 8
    found = estimate(values).alone & ~np.all(estimate(values).alone, axis=1, keepdims=True)
    assert np.mean(found[:, 1] & found[:, 2]) > 0.85


def test_a_noisy_baseline_sets_everybody_aside() -> None:
    values = np.random.default_rng(2).normal(size=(500, 4, 8))
    values[:, 0] *= 6
    assert np.mean(np.all(estimate(values).alone, axis=1)) > 0.95


@pytest.mark.parametrize("shape", [(2, 5), (3, 1), (3, 2)])
def test_where_nothing_can_be_compared_nobody_is_set_aside(shape: tuple[int, int]) -> None:
    assert not np.any(estimate(np.arange(np.prod(shape), dtype=np.float64).reshape(shape)).alone)


def test_lost_runs_do_not_look_like_noise() -> None:
    values = np.random.default_rng(3).normal(size=(2000, 5, 6))
    values[:, 2, 1:3] = np.nan
    alone = estimate(values).alone & ~np.all(estimate(values).alone, axis=1, keepdims=True)
    assert np.mean(alone[:, 1]) < 0.02

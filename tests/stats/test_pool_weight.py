"""The weight of the pooled error: near 1 where arms vary alike, a third where they do not, 0 for a noisy one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ablate.stats.contrasts import ALARM, estimate, satterthwaite
from ablate.stats.linear_model import many_to_one


def test_weights_of_equal_arms_are_spread_as_planned() -> None:
    """Bartlett's p is about uniform, although the own errors share the baseline."""
    weights = estimate(np.random.default_rng(0).normal(size=(6000, 6, 6))).pool_weight[:, 0]
    assert np.mean(weights == 0) == pytest.approx(ALARM * (1 + 1 / 5), abs=0.012)
    assert np.mean(weights[weights > 0]) == pytest.approx((1 + 2 * 3 / 4) / 3, abs=0.04), "of a uniform p"


def test_one_noisy_arm_alone_has_its_own_error() -> None:
    values = np.random.default_rng(6).normal(size=(500, 9, 8))
    values[:, 3] *= 6
    weights = estimate(values).pool_weight
    assert np.mean(weights[:, 2] == 0) > 0.95
    assert np.mean(weights[:, [0, 1, 3]] > 0) > 0.95


def test_several_noisy_arms_do_not_hide_each_other() -> None:
    values = np.random.default_rng(1).normal(size=(500, 6, 8))
    values[:, 2:4] *= 8
    found = estimate(values)
    assert np.mean(found.pool_weight <= 0.5) > 0.95
    calm, noisy = np.mean(found.errors[:, [0, 3, 4]]), np.mean(found.errors[:, 1:3])
    assert noisy > 1.3 * calm


def test_behind_a_noisy_baseline_nothing_is_pooled() -> None:
    values = np.random.default_rng(2).normal(size=(500, 4, 8))
    values[:, 0] *= 6
    found = estimate(values)
    assert np.mean(found.pool_weight == 0) > 0.95
    alone = found.pool_weight[:, 0] == 0
    assert found.errors[alone] == pytest.approx(found.own.errors[alone])
    assert np.all(found.df[alone] == 7)


@pytest.mark.parametrize("shape", [(2, 5), (3, 1), (3, 2)])
def test_one_variant_or_one_seed_has_nothing_to_weigh(shape: tuple[int, int]) -> None:
    found = estimate(np.random.default_rng(3).normal(size=shape))
    assert np.all((found.pool_weight >= 0) & (found.pool_weight <= 1))
    if shape[0] == 2:
        assert found.errors == pytest.approx(found.own.errors)
        assert found.df == pytest.approx(found.own.df)


def test_lost_runs_do_not_look_like_noise() -> None:
    values = np.random.default_rng(3).normal(size=(3000, 5, 6))
    whole = np.mean(estimate(values).pool_weight)
    values[:, 2, 1:3] = np.nan
    assert np.mean(estimate(values).pool_weight) == pytest.approx(whole, abs=0.03)


def test_the_p_of_equal_variances_is_scipys_where_contrasts_share_no_cell() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        values = rng.normal(size=(6, 7)) * np.repeat([1.0, 1.0, 2.0], 2)[:, None]
        weights = np.zeros((3, 6))
        weights[[0, 1, 2], [0, 2, 4]], weights[[0, 1, 2], [1, 3, 5]] = -1, 1
        expected = float(stats.bartlett(*(values[1::2] - values[::2])).pvalue)
        weights_found = estimate(values, weights).pool_weight
        assert float(np.max(weights_found)) == pytest.approx((1 + 2 * expected ** (1 / 3)) / 3, abs=0.051)


def test_degrees_of_freedom_are_between_the_own_and_the_pooled() -> None:
    assert float(satterthwaite(1.0, 20, 4)) == 20
    assert float(satterthwaite(0.0, 20, 4)) == 4
    assert float(satterthwaite(0.5, 20, 4)) == pytest.approx(1 / (0.25 / 20 + 0.25 / 4 + 0.5 / 20), abs=1e-3)
    weights = np.linspace(0, 1, 11)
    assert np.all(np.diff(satterthwaite(weights, 20, 4)) > 0)
    assert float(satterthwaite(0.5, 20, 0)) == 0


def test_the_stated_variance_of_the_error_is_that_of_simulation() -> None:
    """error^2 at a fixed weight varies like chi-square with Satterthwaite's degrees of freedom."""
    found = estimate(np.random.default_rng(5).normal(size=(20_000, 5, 6)), many_to_one(5))
    squares = 0.5 * found.pool.errors[:, 0] ** 2 + 0.5 * found.own.errors[:, 0] ** 2
    assert 2 * np.mean(squares) ** 2 / np.var(squares) == pytest.approx(float(satterthwaite(0.5, 20, 5)), rel=0.06)


def test_a_discrete_metric_has_the_variance_of_its_rounding() -> None:
    """Equal differences in all seeds: no interval from the values alone, and the same one in either precision."""
    values = np.asarray([[0.5, 0.25, 0.75], [0.6, 0.35, 0.85]])
    for precision in (np.float64, np.float32):
        coarse = values.astype(precision).astype(np.float64)
        assert np.isnan(estimate(coarse).errors[0])
        found = estimate(coarse, rounding=1 / 20)
        assert found.errors[0] == pytest.approx((2 / 12 / 3) ** 0.5 / 20)

"""The decision rule on many studies at once, and on studies that lost runs."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.stats.contrasts import CONFIDENCE, decide, satterthwaite
from ablate.stats.dunnett import complete, critical_value


def test_a_batch_is_its_studies_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 4, 5))
    values[:, 2] *= np.where(np.arange(40) % 2, 6, 1)[:, None]
    values[5, 1, 3] = values[7, 0, 2] = np.nan
    together = decide(values, 1.0)
    for number, one in enumerate(values):
        alone = decide(one, 1.0)
        for name in ("effects", "low", "high", "inner_low", "differs", "within", "df", "pool_weight"):
            assert getattr(together, name)[number] == pytest.approx(getattr(alone, name), nan_ok=True), name


def test_a_complete_table_gets_dunnetts_interval() -> None:
    values = np.random.default_rng(4).normal(size=(5, 6))
    found = decide(values)
    w = float(found.pool_weight[0])
    errors = np.sqrt(w * 2 / 6 * float(found.pool.sd) ** 2 + (1 - w) * found.own.errors**2)
    half = critical_value(CONFIDENCE, float(satterthwaite(w, 20, 5)), complete(4)) * errors
    assert (found.high - found.low) / 2 == pytest.approx(half)


def test_a_stricter_level_is_a_wider_interval_of_the_same_effect() -> None:
    values = np.random.default_rng(5).normal(size=(4, 6))
    plain, strict = decide(values, 1.0), decide(values, 1.0, confidence=0.99)
    assert np.all(strict.low < plain.low)
    assert np.all(strict.inner_high > plain.inner_high)
    assert strict.effects == pytest.approx(plain.effects)


def test_lost_runs_leave_the_error_rate_alone() -> None:
    """Four of thirty runs lost, among them one of the baseline: intervals cover, and claims are no more frequent."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(4000, 5, 6)) + 2 * rng.normal(size=(4000, 1, 6))
    values[:, 1, 2] = values[:, 0, 4] = values[:, 3, 0] = values[:, 3, 4] = np.nan
    found = decide(values)
    assert 0.03 <= np.mean(np.any(found.differs, axis=1)) <= 0.06
    assert 0.93 <= np.mean(np.all((found.low <= 0) & (found.high >= 0), axis=1)) <= 0.97


def test_dropping_every_seed_that_lost_a_run_would_cost_half_the_power() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=(1500, 4, 6))
    values[:, 1] += 2.0
    whole = values.copy()
    for arm, seed in ((2, 0), (3, 1), (2, 2)):
        values[:, arm, seed] = np.nan
    kept = np.mean(decide(values).differs[:, 0])
    dropped = np.mean(decide(values[:, :, 3:]).differs[:, 0])
    assert kept > dropped + 0.3
    assert kept > np.mean(decide(whole).differs[:, 0]) - 0.08


@pytest.mark.parametrize(("level", "margin"), [(0.0, 1.0), (1.0, 1.0), (0.95, 0.0)])
def test_levels_and_margins_out_of_range_are_refused(level: float, margin: float) -> None:
    with pytest.raises(ValueError, match="number"):
        decide(np.random.default_rng(0).normal(size=(3, 4)), margin, level)

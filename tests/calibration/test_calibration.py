"""How often the decision rule errs, on studies whose truth is known. The table is made by table.py, from the same cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablate.stats.contrasts import decide
from ablate.stats.dunnett import complete, critical_value
from ablate.stats.linear_model import blocked
from tests.calibration.scenarios import (
    Cell,
    Noise,
    equal_rates,
    null_rates,
    power_rates,
    sequential_rates,
)

DRAWS = 4000
RHOS = (0.0, 0.5, 0.9)


def most(rate: float, draws: int) -> float:
    """The limit itself, plus two standard errors of the simulation."""
    return rate + 2 * math.sqrt(rate * (1 - rate) / draws)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "t3"])
@pytest.mark.parametrize("variants", [1, 2, 4, 8])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_table_without_effects_claims_one_in_at_most_six_percent(seeds: int, variants: int, noise: Noise) -> None:
    """And in at least three, so that it is not bought with timidity; at three seeds agreement is asked for and costs some."""
    found = [null_rates(Cell(seeds=seeds, variants=variants, rho=rho, noise=noise), DRAWS) for rho in RHOS]
    claimed = float(np.mean([one.false_claim for one in found]))
    covered = float(np.mean([one.covered for one in found]))
    assert claimed <= 0.06
    assert claimed >= (0.03 if seeds >= 5 or variants == 1 else 0.015)
    assert 0.93 <= covered <= 0.97
    assert max(one.false_claim for one in found) <= most(0.06, DRAWS), "for every correlation between seeds"


def test_the_same_of_four_variants_at_five_seeds() -> None:
    found = null_rates(Cell(seeds=5, variants=4), 2000)
    assert 0.03 <= found.false_claim <= most(0.05, 2000)
    assert 0.93 <= found.covered <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("noisy", [0, 1])
@pytest.mark.parametrize("variants", [2, 4, 8])
@pytest.mark.parametrize(("seeds", "limit"), [(3, 0.07), (5, 0.10), (8, 0.07), (10, 0.07)])
def test_one_arm_of_three_times_the_spread_does_not_break_the_table(
    seeds: int, limit: float, variants: int, noisy: int
) -> None:
    found = null_rates(Cell(seeds=seeds, variants=variants, noisy=noisy), 2 * DRAWS)
    assert found.false_claim <= most(limit, 2 * DRAWS)
    if noisy:
        assert found.noisy <= most(0.06, 2 * DRAWS)


def test_the_own_pairs_catch_a_noisy_arm_that_the_pool_does_not() -> None:
    """Eight variants at five seeds: pooling alone gives the noisy one 12 % false claims."""
    values = Cell(seeds=5, variants=8, noisy=1).draw(2000)
    pool = blocked(values)
    pooled = np.abs(pool.effects[:, 0]) > critical_value(0.95, 32, complete(8)) * pool.errors[:, 0]
    assert np.mean(pooled) > 0.1
    assert np.mean(decide(values).differs[:, 0]) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "t3"])
@pytest.mark.parametrize("variants", [1, 2, 4, 8])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_effects_that_just_matter_are_called_no_effect_in_at_most_five_and_a_half_percent(
    seeds: int, variants: int, noise: Noise
) -> None:
    cell = Cell(seeds=seeds, variants=variants, noise=noise, effect=2.0, alternate=True)
    assert equal_rates(cell, 2 * DRAWS).false_equal <= most(0.055, 2 * DRAWS)


@pytest.mark.slow
def test_power_is_near_that_of_an_uncorrected_paired_t_and_far_above_holm() -> None:
    found, paired, corrected = power_rates(Cell(seeds=5, variants=5, effect=1.5), DRAWS)
    assert paired == pytest.approx(0.71, abs=0.02)
    assert found > 0.66
    assert found > corrected + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("variants", [1, 4])
def test_looks_with_a_declared_price_err_no_more_than_one_look(variants: int, spending: str) -> None:
    draws = DRAWS if variants > 1 else 5 * DRAWS
    found = sequential_rates(variants, (5, 8, 12), "pocock" if spending == "pocock" else "obrien_fleming", draws)
    assert found.false_claim <= most(0.055, draws)
    assert found.false_equal <= most(0.055, draws)

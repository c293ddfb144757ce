"""How often the decision rule errs, on studies whose truth is known. The table is made by table.py, from the same cells."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablate.stats.contrasts import decide
from ablate.stats.dunnett import complete, critical_value
from ablate.stats.linear_model import blocked
from ablate.stats.power import detection_power, equivalence_power
from tests.calibration.scenarios import (
    Cell,
    Lost,
    Noise,
    Spread,
    detected,
    equal_rates,
    null_rates,
    paired_rates,
    sequential_rates,
)

DRAWS = 4000


def most(rate: float, draws: int) -> float:
    """The limit itself, plus two standard errors of the simulation."""
    return rate + 2 * math.sqrt(rate * (1 - rate) / draws)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "t3", "lognormal", "bimodal"])
@pytest.mark.parametrize("variants", [1, 4, 8, 20])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 30])
def test_a_table_without_effects_claims_one_in_at_most_six_percent(seeds: int, variants: int, noise: Noise) -> None:
    found = null_rates(Cell(seeds=seeds, variants=variants, noise=noise), DRAWS)
    assert found.false_claim <= most(0.06, DRAWS)
    assert found.covered >= 0.93 - 2 * math.sqrt(0.05 * 0.95 / DRAWS)
    if noise == "normal" and seeds >= 5:
        assert found.false_claim >= 0.03, "not bought with timidity"
        assert found.covered <= 0.97


def test_the_same_of_four_variants_at_five_seeds() -> None:
    found = null_rates(Cell(seeds=5, variants=4), 2000)
    assert 0.03 <= found.false_claim <= most(0.05, 2000)
    assert 0.93 <= found.covered <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["one noisy", "half noisy", "baseline noisy"])
@pytest.mark.parametrize("variants", [2, 4, 8, 20])
@pytest.mark.parametrize("seeds", [3, 4, 5, 8, 10])
def test_arms_of_three_times_the_spread_do_not_break_the_table(seeds: int, variants: int, spread: Spread) -> None:
    early_baseline = spread == "baseline noisy" and seeds < 5
    limit = 0.10 if early_baseline else 0.06
    found = null_rates(Cell(seeds=seeds, variants=variants, spread=spread), 2 * DRAWS)
    assert found.false_claim <= most(limit, 2 * DRAWS)
    assert found.covered >= 1 - most(max(limit, 0.09), 2 * DRAWS)


@pytest.mark.slow
@pytest.mark.parametrize("variants", [4, 8, 20])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_variants_of_which_half_resemble_the_baseline_do_not_break_the_table(seeds: int, variants: int) -> None:
    found = null_rates(Cell(seeds=seeds, variants=variants, rho="half alike"), 2 * DRAWS)
    assert found.false_claim <= most(0.06, 2 * DRAWS)
    assert found.covered >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["one at random", "the worst one"])
@pytest.mark.parametrize(("seeds", "variants"), [(3, 4), (5, 4), (8, 4)])
def test_a_lost_run_does_not_break_the_table(seeds: int, variants: int, lost: Lost) -> None:
    found = null_rates(Cell(seeds=seeds, variants=variants, lost=lost), DRAWS)
    assert found.false_claim <= most(0.06, DRAWS)
    assert found.covered >= 0.93 - 2 * math.sqrt(0.05 * 0.95 / DRAWS)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.5, 0.95])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_accuracy_on_256_examples_does_not_break_the_table(seeds: int, rho: float) -> None:
    found = null_rates(Cell(seeds=seeds, variants=4, rho=rho, examples=256), DRAWS)
    assert found.false_claim <= most(0.06, DRAWS)
    assert found.covered >= 0.93


def test_a_noisy_arm_gets_few_false_claims_where_pooling_alone_gives_many() -> None:
    """Eight variants at five seeds: pooling alone gives the noisy one 12% false claims."""
    values = Cell(seeds=5, variants=8, spread="one noisy").draw(2000)
    pool = blocked(values)
    pooled = np.abs(pool.effects[:, 0]) > critical_value(0.95, 32, complete(8)) * pool.errors[:, 0]
    assert np.mean(pooled) > 0.1
    assert np.mean(decide(values).differs[:, 0]) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "t3", "lognormal", "bimodal"])
@pytest.mark.parametrize("variants", [1, 2, 4, 8])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_effects_that_just_matter_are_called_equivalent_in_at_most_five_and_a_half_percent(
    seeds: int, variants: int, noise: Noise
) -> None:
    cell = Cell(seeds=seeds, variants=variants, noise=noise, effect=2.0, where="alternating")
    assert equal_rates(cell, 2 * DRAWS).false_equal <= most(0.055, 2 * DRAWS)


@pytest.mark.slow
def test_power_is_near_that_of_an_uncorrected_paired_t_and_far_above_holm() -> None:
    cell = Cell(seeds=5, variants=5, effect=1.5)
    found, (paired, corrected) = detected(cell, DRAWS), paired_rates(cell, DRAWS)
    assert paired == pytest.approx(0.71, abs=0.02)
    assert found > 0.66
    assert found > corrected + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("variants", [1, 4, 8])
@pytest.mark.parametrize(
    ("seeds", "effect"), [(2, 4.0), (3, 2.0), (4, 1.75), (5, 1.5), (8, 1.15), (10, 1.0), (20, 0.7)]
)
def test_the_promised_power_is_the_simulated_one(seeds: int, effect: float, variants: int) -> None:
    sd, draws = 0.5**0.5, 2 * DRAWS
    found = detected(Cell(seeds=seeds, variants=variants, effect=effect, where="one"), draws)
    assert detection_power(seeds, variants, effect, sd) == pytest.approx(found, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "margin"), [(5, 2.0), (8, 1.5), (10, 1.2), (20, 0.9)])
def test_the_promised_power_of_equivalence_is_the_simulated_one(seeds: int, margin: float) -> None:
    found = float(np.mean(Cell(seeds=seeds, variants=4).decide(DRAWS, margin).within))
    assert equivalence_power(seeds, 4, margin, 0.5**0.5) == pytest.approx(found, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("variants", "looks"), [(1, tuple(range(5, 21))), (4, (5, 8, 12, 20))])
def test_looking_after_every_seed_errs_in_less_than_4_percent_and_finds_most(
    variants: int, looks: tuple[int, ...]
) -> None:
    found = sequential_rates(variants, looks, "anytime", DRAWS)
    assert 0.005 < found.false_claim <= most(0.04, DRAWS)
    assert found.false_equal <= most(0.04, DRAWS)
    assert found.found > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("variants", [1, 4])
def test_interim_analyses_that_share_the_error_err_no_more_than_one(variants: int, spending: str) -> None:
    draws = DRAWS if variants > 1 else 5 * DRAWS
    found = sequential_rates(variants, (5, 8, 12), "pocock" if spending == "pocock" else "obrien_fleming", draws)
    assert found.false_claim <= most(0.055, draws)
    assert found.false_equal <= most(0.055, draws)

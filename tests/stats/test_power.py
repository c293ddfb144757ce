"""What a number of seeds can show: against simulations of the decision rule itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablate.stats.contrasts import decide
from ablate.stats.power import (
    POWER,
    detectable_effect,
    detection_power,
    equivalence_power,
    residual_sd,
    seeds_to_decide,
)


def studies(seeds: int, variants: int, effect: float, draws: int = 6000) -> np.ndarray:
    """Residual sd 1; the first variant has the effect, the others none."""
    values = np.random.default_rng([seeds, variants]).normal(size=(draws, variants + 1, seeds))
    values[:, 1] += effect
    return values


@pytest.mark.parametrize(
    ("seeds", "variants", "effect"), [(3, 1, 4.0), (3, 5, 2.8), (5, 1, 2.0), (5, 5, 2.1), (8, 3, 1.4), (15, 4, 1.1)]
)
def test_the_chance_of_a_verdict_is_that_of_the_rule(seeds: int, variants: int, effect: float) -> None:
    found = float(np.mean(decide(studies(seeds, variants, effect)).differs[:, 0]))
    assert detection_power(seeds, variants, effect, 1.0) == pytest.approx(found, abs=0.02), "three standard errors"


@pytest.mark.parametrize(("seeds", "variants", "margin"), [(5, 1, 2.5), (8, 4, 2.0), (15, 4, 1.2)])
def test_the_chance_of_no_effect_is_that_of_the_rule(seeds: int, variants: int, margin: float) -> None:
    found = float(np.mean(decide(studies(seeds, variants, 0.0), margin).within[:, 0]))
    assert equivalence_power(seeds, variants, margin, 1.0) == pytest.approx(found, abs=0.02), "three standard errors"


def test_the_smallest_effect_is_found_four_times_in_five() -> None:
    for seeds, variants in ((3, 5), (5, 1), (10, 5)):
        effect = detectable_effect(seeds, variants, 0.3)
        assert detection_power(seeds, variants, effect, 0.3) == pytest.approx(POWER, abs=1e-4)
        assert effect < detectable_effect(seeds - 1, variants, 0.3)
    assert math.isinf(detectable_effect(1, 3, 1.0))
    assert detection_power(1, 3, 5.0, 1.0) == equivalence_power(1, 3, 5.0, 1.0) == 0


def test_the_number_of_seeds_is_the_smallest_that_decides_either_way() -> None:
    for sd, variants in ((0.2, 1), (0.7, 5), (1.0, 3)):
        seeds = seeds_to_decide(sd, 1.0, variants)
        assert seeds is not None
        chances = [
            min(detection_power(n, variants, 1.0, sd), equivalence_power(n, variants, 1.0, sd))
            for n in (seeds - 1, seeds)
        ]
        assert chances[1] >= POWER > chances[0]
    assert seeds_to_decide(0.7, 1.0, 5) == 14
    assert seeds_to_decide(100.0, 1.0, 3) is None


def test_correlated_seeds_leave_less_residual() -> None:
    assert residual_sd(2.0, 0.75) == pytest.approx(1.0)
    assert residual_sd(2.0, 1.2) == 0.0

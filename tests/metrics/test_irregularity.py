"""Irregularity of planted curves is what a person sees in them: docs/explain/evaluation_cadence.md has the table of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ablate.analysis.irregularity import IRREGULAR
from ablate.metrics.curves import MIN_EVALUATIONS, irregularity

Values = NDArray[np.float64]
STEPS = np.arange(1, 401)


def fall(tau: float) -> Values:
    """From 0.7 to 0.5; tau: steps in which the rest shrinks by e."""
    return 0.5 + 0.2 * np.exp(-STEPS / tau)


PLANTED: dict[str, Callable[[np.random.Generator], Values]] = {
    "smooth fall": lambda _: fall(40.0),
    "steep smooth fall": lambda _: fall(3.0),
    "overfit valley": lambda _: fall(40.0) + 0.3 * (STEPS / 400) ** 2,
    "second dip": lambda _: fall(60.0) + 0.08 * np.exp(-(((STEPS - 250) / 40) ** 2)),
    "slow fall with noise": lambda rng: fall(160.0) + 0.01 * rng.standard_normal(400),
    "steep fall with noise": lambda rng: fall(10.0) + 0.015 * rng.standard_normal(400),
    "noise": lambda rng: 0.5 + 0.02 * rng.standard_normal(400),
    "zigzag": lambda _: 0.5 + 0.02 * np.resize([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0], 400),
}
CADENCES = (4, 20, 40)


def mean_of(name: str, every: int, draws: int = 200) -> float:
    """Mean irregularity of a planted curve that is evaluated every so many steps."""
    rng = np.random.default_rng([every, *name.encode()])
    found = [irregularity(PLANTED[name](rng)[every - 1 :: every]) for _ in range(draws)]
    return float(np.mean([value for value in found if value is not None]))


@pytest.mark.parametrize("every", CADENCES)
@pytest.mark.parametrize("name", ["smooth fall", "steep smooth fall", "overfit valley"])
def test_a_smooth_curve_has_none_at_any_cadence(name: str, every: int) -> None:
    assert mean_of(name, every, draws=1) == 0.0


@pytest.mark.parametrize("every", CADENCES)
def test_noise_has_one_at_any_cadence(every: int) -> None:
    assert mean_of("noise", every, draws=400) == pytest.approx(1.0, abs=0.06)


def test_a_steep_decrease_that_a_coarse_cadence_misses_leaves_the_noise_behind() -> None:
    dense, coarse = (mean_of("steep fall with noise", every) for every in (4, 40))
    assert dense < 0.5
    assert coarse > 0.8


@pytest.mark.parametrize("every", CADENCES)
def test_a_decrease_that_every_cadence_shows_looks_regular_at_each(every: int) -> None:
    assert mean_of("slow fall with noise", every) < IRREGULAR


def test_a_second_dip_is_smooth_where_the_evaluations_resolve_it_and_a_jump_where_they_touch_it() -> None:
    assert mean_of("second dip", 4, draws=1) < 0.1
    assert mean_of("second dip", 40, draws=1) > 2 * IRREGULAR


def test_a_zigzag_is_more_irregular_than_noise() -> None:
    zigzag = irregularity(np.resize([1.0, -1.0], 20))
    assert zigzag is not None
    assert zigzag > 1.4


@pytest.mark.parametrize("count", [8, 12, 20, 50, 100, 400])
def test_white_noise_has_one_whatever_the_number_of_evaluations(count: int) -> None:
    rng = np.random.default_rng(count)
    draws = max(300, 12_000 // count)
    found = [irregularity(rng.standard_normal(count)) or 0.0 for _ in range(draws)]
    error = float(np.std(found)) / draws**0.5
    assert abs(float(np.mean(found)) - 1) < 0.02 + 3 * error


def test_few_evaluations_and_values_that_are_not_finite_have_none_and_a_constant_has_zero() -> None:
    for values in (
        [],
        [1.0],
        [1.0, 2.0],
        [1.0, 3.0, 2.0],
        [1.0, 3.0, 2.0, 4.0, 1.0, 3.0, 2.0],
        [1.0, np.nan, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        [np.inf] * 8,
    ):
        assert irregularity(np.asarray(values)) is None
    assert irregularity(np.full(MIN_EVALUATIONS, 0.1) + 1e-17) == 0.0
    assert irregularity(np.zeros(MIN_EVALUATIONS)) == 0.0


@given(st.lists(st.floats(0, 1), min_size=8, max_size=20), st.floats(-5, 5), st.floats(0.1, 10))
def test_it_has_no_unit_and_is_not_negative(values: list[float], shift: float, scale: float) -> None:
    curve = np.round(np.asarray(values), 3)
    found, moved = irregularity(curve), irregularity(shift + scale * curve)
    assert found is not None
    assert moved is not None
    assert found >= 0
    assert moved == pytest.approx(found, abs=1e-6)

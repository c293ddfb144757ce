"""No effect is earned: p, interval and margin say the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.stats.equivalence import inner_interval, tost_p

effects, errors = st.floats(-3, 3), st.floats(0.01, 2)


@given(effects, errors, st.integers(1, 40), st.floats(0.05, 4))
def test_the_p_is_below_five_percent_exactly_when_the_interval_is_inside(
    effect: float, error: float, df: int, margin: float
) -> None:
    low, high = inner_interval(effect, error, df)
    p_value = tost_p(effect, error, df, margin)
    if abs(p_value - 0.05) > 1e-9:
        assert (p_value < 0.05) == (-margin < low and high < margin)


@given(effects, errors, st.integers(1, 40), st.floats(0.05, 4), st.floats(1, 3))
def test_a_wider_margin_never_makes_it_harder(
    effect: float, error: float, df: int, margin: float, factor: float
) -> None:
    assert tost_p(effect, error, df, margin * factor) <= tost_p(effect, error, df, margin) + 1e-12
    assert tost_p(-effect, error, df, margin) == pytest.approx(tost_p(effect, error, df, margin))


@pytest.mark.parametrize("margin", [0.0, -0.5, math.nan])
def test_a_margin_is_positive(margin: float) -> None:
    with pytest.raises(ValueError, match="a positive number is needed"):
        tost_p(0.0, 0.1, 4, margin)


@pytest.mark.parametrize(
    ("effect", "error", "df"), [(0.1, 0.0, 4), (0.1, math.nan, 4), (math.nan, 0.1, 4), (0.1, 0.1, 0)]
)
def test_without_an_error_there_is_no_claim(effect: float, error: float, df: int) -> None:
    assert math.isnan(tost_p(effect, error, df, 1.0))
    assert np.isnan(inner_interval(0.1, 0.1, 0)[0])

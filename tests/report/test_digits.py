"""Numbers as they are read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate import formatting as digits

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("effect", "low", "high", "shown"),
    [
        (-0.0612, -0.0831, -0.0393, (f"{MINUS}0.061", f"[{MINUS}0.083, {MINUS}0.039]")),
        (0.17812, 0.17, 0.186, ("0.178", "[0.170, 0.186]")),
        (33.21, 29.2, 37.2, ("33.2", "[29.2, 37.2]")),
        (1234.5, 1100.0, 1369.0, ("1234", "[1100, 1369]")),
        (0.00012, -0.0201, 0.0203, ("0.000", f"[{MINUS}0.020, 0.020]")),
        (-0.00012, -0.0203, 0.0201, ("0.000", f"[{MINUS}0.020, 0.020]")),
        (0.1234, None, None, ("0.123", "–")),
        (0.0, 0.0, 0.0, ("0.00", "[0.00, 0.00]")),
    ],
)
def test_an_effect_and_its_interval_share_their_decimals(
    effect: float, low: float | None, high: float | None, shown: tuple[str, str]
) -> None:
    decimals = digits.effect_decimals(effect, low, high)
    assert (digits.number(effect, decimals), digits.interval(low, high, decimals)) == shown


@given(st.floats(-1e9, 1e9), st.integers(0, 6))
def test_a_number_reads_back_as_itself_within_its_decimals(value: float, decimals: int) -> None:
    text = digits.number(value, decimals)
    assert "-" not in text
    assert math.isclose(float(text.replace(MINUS, "-").replace(",", "")), value, abs_tol=0.5001 * 10**-decimals)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.50812, "0.508"),
        (7.314, "7.31"),
        (123456.0, "123,456"),
        (1.2e-7, f"1.2e{MINUS}07"),
        (math.nan, "nan"),
        (-math.inf, f"{MINUS}inf"),
    ],
)
def test_a_single_figure_has_three_digits(value: float | None, shown: str) -> None:
    assert digits.figure(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.938, "94%"), (0.999, "> 99%"), (1.0, "100%"), (0.001, "< 1%"), (None, "–"), (math.nan, "–")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float | None, shown: str) -> None:
    assert digits.percent(share) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(4.2, "4 s"), (85.0, "85 s"), (720.0, "12 min"), (12000.0, "3 h 20 min")]
)
def test_a_duration_is_said_in_its_own_unit(seconds: float, shown: str) -> None:
    assert digits.duration(seconds) == shown


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("lr 5e-05 -> 1e-4: -0.003 (-0.021 .. 0.015)", f"lr 5e-05 → 1e-4: {MINUS}0.003 ({MINUS}0.021 … 0.015)"),
        ("ablate -m optim.lr=-1 a-1", "ablate -m optim.lr=-1 a-1"),
    ],
)
def test_sentences_get_real_signs_and_settings_stay_as_typed(sentence: str, shown: str) -> None:
    assert digits.typeset(sentence) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, digits.DASH), (1.0, "1.0"), (0.0079365, "0.0079"), (0.0001, "0.00010"), (9e-5, "< 0.0001")],
)
def test_p_values_are_two_digits_down_to_where_nobody_tells_them_apart(value: float | None, shown: str) -> None:
    assert digits.p_value(value) == shown

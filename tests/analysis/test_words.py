"""Figures in sentences."""

from __future__ import annotations

import pytest

from ablate.formatting import change, counted, joined, plain_figure, plain_percent


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.50849, "0.508"), (7.312, "7.31"), (1024.0, "1024"), (0.0, "0"), (-0.25, "-0.250"), (3.2e-6, "3.20e-06")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert plain_figure(value) == text


def test_a_change_has_the_digits_that_its_interval_carries() -> None:
    assert change(0.17834, 0.16921, 0.18747) == "+0.1783, 95% interval [0.1692, 0.1875]"
    assert change(-0.39, -13.2, 12.4) == "0, 95% interval [-13, 12]"
    assert change(-3.31, -6.02, -0.6) == "-3.3, 95% interval [-6.0, -0.6]"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.94, "94%"), (0.9999, "over 99%"), (1.0, "100%"), (0.001, "under 1%"), (0.0, "0%"), (-0.002, "0%")],
)
def test_percent_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert plain_percent(share) == text


def test_lists_and_counts() -> None:
    assert joined(["a"]) == "a"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert (counted(1, "seed"), counted(3, "seed")) == ("1 seed", "3 seeds")

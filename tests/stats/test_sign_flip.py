"""The exact sign-flip test against plain enumeration, and what it can never reach."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.stats.paired import signflip_p, smallest_p

whole = st.lists(st.integers(-20, 20).map(lambda k: k / 8), min_size=1, max_size=9)


@given(whole)
def test_every_sign_is_counted(differences: list[float]) -> None:
    values = np.asarray(differences)
    sums = [abs(float(np.dot(signs, values))) for signs in product((1, -1), repeat=len(values))]
    expected = np.mean([one >= abs(float(values.sum())) - 1e-12 for one in sums])
    assert signflip_p(values) == pytest.approx(float(expected))


@given(whole)
def test_turning_all_differences_round_changes_nothing(differences: list[float]) -> None:
    values = np.asarray(differences)
    assert signflip_p(-values) == pytest.approx(signflip_p(values))


@given(whole)
def test_it_never_goes_below_what_so_few_pairs_can_reach(differences: list[float]) -> None:
    assert signflip_p(np.asarray(differences)) >= smallest_p(np.count_nonzero(differences)) - 1e-12


@pytest.mark.parametrize(("pairs", "least"), [(1, 1.0), (3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125)])
def test_the_smallest_p(pairs: int, least: float) -> None:
    assert smallest_p(pairs) == least
    assert signflip_p(np.arange(1.0, pairs + 1)) == pytest.approx(least)


def test_forty_pairs_are_exact_and_forty_one_are_refused() -> None:
    assert signflip_p(np.full(40, 0.1)) == pytest.approx(2.0**-39)
    with pytest.raises(ValueError, match="41 pairs"):
        signflip_p(np.ones(41))


def test_no_pair_and_no_number_have_no_p() -> None:
    assert np.isnan(signflip_p(np.asarray([])))
    assert np.isnan(signflip_p(np.asarray([0.1, np.nan])))
    assert signflip_p(np.zeros(5)) == 1.0

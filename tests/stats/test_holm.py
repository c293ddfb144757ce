"""Holm: the order given, more tests never easier. Reference values: test_reference.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.stats.contrasts import holm

p_lists = st.lists(st.integers(0, 1000).map(lambda k: k / 1000), min_size=1, max_size=8)


def test_adjusted_values_stand_where_their_p_stood() -> None:
    assert holm(np.asarray([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])


@given(p_lists, st.randoms(use_true_random=False))
def test_the_order_of_the_tests_does_not_matter(values: list[float], random: np.random.Generator) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    plain = holm(np.asarray(values))
    assert holm(np.asarray(values)[order]) == pytest.approx(plain[order])


@given(p_lists, st.floats(0, 1))
def test_one_more_test_never_makes_a_claim_easier(values: list[float], another: float) -> None:
    fewer, more = holm(np.asarray(values)), holm(np.asarray([*values, another]))[:-1]
    assert np.all(more >= fewer - 1e-12)
    assert np.all(fewer >= np.asarray(values) - 1e-12)


def test_missing_values_stay_missing_and_count_for_nothing() -> None:
    found = holm(np.asarray([np.nan, 0.01, 0.04]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == pytest.approx([0.02, 0.04])
    assert len(holm(np.asarray([]))) == 0


def test_the_familywise_error_is_kept() -> None:
    p_values = np.random.default_rng(0).random(size=(20_000, 5))
    assert np.mean([np.any(holm(row) < 0.05) for row in p_values[:4000]]) == pytest.approx(0.05, abs=0.01)

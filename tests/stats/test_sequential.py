"""Adding seeds: what the looks cost, who stops, and that peeking for free is what it is said to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ablate.stats.sequential import ALPHA, interim_confidences, spent
from tests.stats.sequential_study import stop_early

LOOKS = (5, 8, 12)


def null(draws: int, variants: int = 1, seeds: int = 12) -> np.ndarray:
    return np.random.default_rng(variants).normal(size=(draws, variants + 1, seeds))


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_all_looks_together_err_no_more_than_one(spending: str) -> None:
    levels = interim_confidences(LOOKS, "pocock" if spending == "pocock" else "obrien_fleming")
    assert np.mean(stop_early(null(12_000), LOOKS, levels).differs) <= 0.055


def test_looking_after_every_seed_is_accounted_for() -> None:
    looks = tuple(range(5, 16))
    ended = stop_early(null(4000, seeds=15), looks, interim_confidences(looks, "anytime"))
    assert 0.005 < np.mean(ended.differs) <= 0.04


@pytest.mark.parametrize("seeds", [5, 8, 20])
def test_the_interval_excludes_0_where_the_e_value_reaches_20(seeds: int) -> None:
    """The e-value integrated over effects from a normal distribution, against the level's critical t."""
    (level,) = interim_confidences([seeds], "anytime")
    t = float(stats.t.isf((1 - level) / 2, seeds - 1))
    effects = np.linspace(-12, 12, 4001)
    mixed = np.sum(stats.nct.pdf(t, seeds - 1, effects * seeds**0.5) * stats.norm.pdf(effects)) * (
        effects[1] - effects[0]
    )
    assert mixed / stats.t.pdf(t, seeds - 1) == pytest.approx(20, rel=1e-4)


def test_an_analysis_that_can_decide_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="expected ascending numbers of seeds from 5 on"):
        interim_confidences([4, 5], "anytime")


def test_peeking_for_free_errs_twice_as_often() -> None:
    assert np.mean(stop_early(null(6000), LOOKS, [0.95] * 3).differs) > 0.09


def test_one_look_is_the_plain_test() -> None:
    assert interim_confidences([7]) == pytest.approx([1 - ALPHA])


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=4, unique=True).map(sorted),
    st.sampled_from(["obrien_fleming", "pocock"]),
)
def test_every_look_is_stricter_than_a_single_one_and_all_is_spent_at_the_end(looks: list[int], spending: str) -> None:
    kind = "pocock" if spending == "pocock" else "obrien_fleming"
    levels = interim_confidences(looks, kind)
    assert all(1 - ALPHA - 1e-9 <= level < 1 for level in levels)
    assert spent(1.0, kind) == pytest.approx(ALPHA)
    assert spent(0.3, kind) < spent(0.6, kind)


def test_obrien_fleming_keeps_its_alpha_for_the_end_and_pocock_shares_it() -> None:
    cautious, even = interim_confidences(LOOKS), interim_confidences(LOOKS, "pocock")
    assert cautious[0] > even[0]
    assert cautious[-1] < even[-1]
    assert list(cautious) == sorted(cautious, reverse=True)


def test_a_decided_variant_stops_and_the_others_go_on() -> None:
    values = 0.3 * np.random.default_rng(3).normal(size=(4, 12))
    values[1] += 3.0
    values[2] += 0.25
    ended = stop_early(values, LOOKS, interim_confidences(LOOKS), margin=0.4)
    assert ended.differs.tolist()[0] is True
    assert ended.seeds[0] == 5
    assert ended.seeds[1] == 12
    later = values.copy()
    later[1, 5:] = np.nan
    again = stop_early(later, LOOKS, interim_confidences(LOOKS), margin=0.4)
    assert again.effects == pytest.approx(ended.effects)
    assert again.low == pytest.approx(ended.low), "what a stopped variant did later is not in anyone's residual"


def test_the_looks_made_so_far_are_a_beginning_of_the_declared_ones() -> None:
    values = null(1)[0]
    levels = interim_confidences(LOOKS)
    first = stop_early(values[:, :5], LOOKS[:1], levels)
    assert first.seeds.tolist() == [5]
    half = (first.high - first.low) / 2
    assert half[0] > (stop_early(values, LOOKS, levels).high - stop_early(values, LOOKS, levels).low)[0] / 2


@pytest.mark.parametrize("looks", [[], [1, 5], [5, 5], [8, 5]])
def test_looks_ascend_from_two_seeds(looks: list[int]) -> None:
    with pytest.raises(ValueError, match="expected ascending numbers of seeds"):
        interim_confidences(looks)

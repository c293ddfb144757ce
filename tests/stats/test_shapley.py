"""Two configs that differ in several keys: shares that add up, the interaction apart, intervals that cover."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from ablate.design.designs import draw_paths, path_corners
from ablate.stats.contrasts import estimate
from ablate.stats.shapley import _critical_t, contributions, key_weights, path_contributions, ratio_interval

DRAWS = 200

corner_tables = st.tuples(st.integers(1, 4), st.integers(1, 6)).flatmap(
    lambda size: arrays(np.float64, (2 ** size[0], size[1]), elements=st.integers(-800, 800).map(lambda k: k / 64))
)


def named(count: int) -> list[str]:
    return [f"key_{number}" for number in range(count)]


@given(corner_tables)
def test_both_divisions_add_up_to_the_total(corners: np.ndarray) -> None:
    found = contributions(named(len(corners).bit_length() - 1), corners)
    assert found.interaction is not None
    assert sum(part.effect for part in found.alone) + found.interaction.effect == pytest.approx(found.total.effect)
    assert sum(part.effect for part in found.shapley) == pytest.approx(found.total.effect, abs=1e-9)


@given(corner_tables, st.randoms(use_true_random=False))
@pytest.mark.slow
def test_the_order_of_the_keys_does_not_matter(corners: np.ndarray, random: np.random.Generator) -> None:
    keys = len(corners).bit_length() - 1
    order = list(range(keys))
    random.shuffle(order)
    moved = np.stack(
        [corners[sum((corner >> i & 1) << order[i] for i in range(keys))] for corner in range(len(corners))]
    )
    plain, again = contributions(named(keys), corners), contributions(named(keys), moved)
    for place, key in enumerate(order):
        assert again.shapley[place].effect == pytest.approx(plain.shapley[key].effect, abs=1e-9)


def test_the_other_way_round_every_share_of_shapley_changes_its_sign() -> None:
    corners = np.random.default_rng(0).normal(size=(8, 4))
    there, back = contributions(named(3), corners), contributions(named(3), corners[::-1])
    assert [part.effect for part in back.shapley] == pytest.approx([-part.effect for part in there.shapley])


def test_shapley_is_the_mean_over_all_orders() -> None:
    corners = np.random.default_rng(1).normal(size=(8, 2))
    orders = list(permutations(range(3)))
    paths = [path for order in orders for path in (order, order[::-1])]
    by_path = path_contributions(named(3), dict(enumerate(corners)), paths)
    exact = contributions(named(3), corners)
    assert [part.effect for part in by_path.shapley] == pytest.approx([part.effect for part in exact.shapley])


def test_one_cause_takes_it_all_and_an_interaction_is_not_hidden() -> None:
    rng = np.random.default_rng(2)
    noise = 0.02 * rng.normal(size=(4, 5))
    found = contributions(["batch_size", "train_test_ratio"], np.asarray([10.0, 4.0, 10.0, 4.0])[:, None] + noise)
    batch, ratio = found.alone
    assert batch.share == pytest.approx(1.0, abs=0.02)
    assert batch.share_low is not None
    assert batch.share_high is not None
    assert batch.share_low < 1 < batch.share_high
    assert ratio.share == pytest.approx(0.0, abs=0.02)
    together = contributions(["a", "b"], np.asarray([1.0, 1.0, 1.0, 3.0])[:, None] + noise)
    assert together.interaction is not None
    assert together.interaction.share == pytest.approx(1.0, abs=0.03)
    assert [part.share for part in together.shapley] == pytest.approx([0.5, 0.5], abs=0.03)


def test_a_share_of_nothing_has_no_interval() -> None:
    corners = np.random.default_rng(3).normal(size=(4, 5))
    corners[3] = corners[0] + 0.01 * np.asarray([1, -1, 1, -1, 0.5])
    part = contributions(["a", "b"], corners).alone[0]
    assert part.share_low is None
    assert part.low is not None
    assert contributions(["a"], np.asarray([[1.0], [2.0]])).alone[0].low is None, "one seed"


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_a_share_covers_it(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    covered = []
    for _ in range(2000):
        part = 3.0 + rng.normal(size=seeds)
        whole = part + 2.0 + rng.normal(size=seeds)
        interval = ratio_interval(part, whole)
        if interval is not None:
            covered.append(interval[0] <= 0.6 <= interval[1])
    assert len(covered) > 1000
    assert 0.92 < np.mean(covered) < 0.98


@pytest.mark.parametrize("noisy", [None, 0, 1, 3])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_intervals_of_parts_cover(seeds: int, noisy: int | None) -> None:
    """Also with one corner of three times the spread, which the guard mostly sees."""
    values = np.random.default_rng(seeds).normal(size=(3000, 4, seeds))
    if noisy is not None:
        values[:, noisy] *= 3
    weights = key_weights(range(4), 2)
    sums = np.concatenate([weights["alone"], weights["interaction"], weights["total"]])
    found = estimate(values, sums)
    halves = found.errors * _critical_t(found)
    covered = np.mean(np.abs(found.effects) <= halves, axis=0)
    assert 0.925 < np.mean(covered) < 0.975
    assert np.min(covered) > 0.91
    if noisy is None:
        assert np.mean(halves[:, 0]) < 0.96 * np.mean(
            stats.t.isf(0.025, seeds - 1) * np.std(found.own.differences[:, 0], axis=-1, ddof=1) / seeds**0.5
        )


@pytest.mark.parametrize("noisy", [pytest.param(None, marks=pytest.mark.slow), 1])
def test_pooled_shares_cover_and_a_key_without_effect_is_seldom_told(noisy: int | None) -> None:
    """One cause of 3 sd of a run, seeds that share half: its share is 1, the other's 0."""
    rng = np.random.default_rng(11)
    covered, told, wrong = [], 0, 0
    for _ in range(DRAWS):
        residual = rng.normal(size=(4, 5))
        if noisy is not None:
            residual[noisy] *= 3
        found = contributions(
            ["a", "b"], 0.7 * (residual + rng.normal(size=5)) + 3.0 * np.asarray([[0], [1], [0], [1]])
        )
        told += "a" in found.significant
        wrong += bool({"b", "interaction"} & set(found.significant))
        for part, truth in zip(found.alone, (1.0, 0.0), strict=True):
            if part.share_low is not None and part.share_high is not None:
                covered.append(part.share_low <= truth <= part.share_high)
    assert len(covered) > 1.5 * DRAWS
    assert 0.91 < np.mean(covered) < 0.99
    assert wrong / DRAWS < 0.06 + 2 * (0.06 * 0.94 / DRAWS) ** 0.5
    assert told / DRAWS > (0.97 if noisy is None else 0.4)


@pytest.mark.slow
def test_a_difference_that_only_both_make_is_given_to_neither() -> None:
    rng = np.random.default_rng(12)
    alone = [
        bool(
            {"a", "b"}
            & set(
                contributions(
                    ["a", "b"], 0.7 * rng.normal(size=(4, 5)) + 2.0 * np.asarray([[0], [0], [0], [1]])
                ).significant
            )
        )
        for _ in range(DRAWS)
    ]
    assert np.mean(alone) < 0.06 + 2 * (0.06 * 0.94 / DRAWS) ** 0.5


def test_paths_need_fewer_runs_and_their_error_is_told() -> None:
    rng = np.random.default_rng(4)
    truth = np.random.default_rng(5).normal(size=(2**8, 3))
    exact = contributions(named(8), truth)
    paths = draw_paths(8, 20, rng)
    corners = path_corners(paths)
    assert corners[0] == 0
    assert corners[-1] == 255
    assert len(corners) < 180
    found = path_contributions(named(8), {corner: truth[corner] for corner in corners}, paths)
    assert sum(part.effect for part in found.shapley) == pytest.approx(found.total.effect)
    misses = [
        (ours.effect - theirs.effect) / ours.sampling_error
        for ours, theirs in zip(found.shapley, exact.shapley, strict=True)
    ]
    assert np.sqrt(np.mean(np.square(misses))) < 2
    assert found.interaction is None


def test_reverse_paths_are_taken_together() -> None:
    """Interactions of two cancel within a pair of a path and its reverse: one pair is exact."""
    rng = np.random.default_rng(6)
    own, joint = rng.normal(size=5), np.triu(rng.normal(size=(5, 5)), 1)
    bits = np.asarray([[corner >> key & 1 for key in range(5)] for corner in range(32)])
    values = (bits @ own + np.einsum("ci,ij,cj->c", bits, joint, bits))[:, None]
    exact = contributions(named(5), values)
    paths = draw_paths(5, 1, rng)
    found = path_contributions(named(5), dict(enumerate(values)), paths)
    assert [part.effect for part in found.shapley] == pytest.approx([part.effect for part in exact.shapley])
    assert np.isnan(found.shapley[0].sampling_error)


def test_missing_corners_and_unpaired_paths_are_refused() -> None:
    with pytest.raises(ValueError, match="3 combinations of 2 keys: expected all 4"):
        contributions(["a", "b"], np.zeros((3, 5)))
    with pytest.raises(ValueError, match="with a value for every seed"):
        contributions(["a"], np.asarray([[1.0, np.nan], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="to be followed by its reverse"):
        path_contributions(["a", "b"], {0: np.zeros(2), 1: np.zeros(2), 3: np.zeros(2)}, [(0, 1), (0, 1)])

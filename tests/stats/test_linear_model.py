"""The seed-blocked model: complete and broken layouts, its laws, and what cannot be estimated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ablate.stats.linear_model import blocked, seed_correlation

NAN = np.nan
tables = st.tuples(st.integers(2, 6), st.integers(2, 7)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-1000, 1000).map(lambda k: k / 64))
)


def test_a_complete_layout_gives_mean_differences() -> None:
    values = np.random.default_rng(0).normal(size=(4, 5))
    found = blocked(values)
    assert found.effects == pytest.approx(values[1:].mean(1) - values[0].mean())
    assert found.df == 3 * 4
    assert found.scales == pytest.approx(np.sqrt(2 / 5))
    assert found.correlation[0, 1] == pytest.approx(0.5)


def test_a_seed_that_lost_one_arm_still_speaks_for_the_others() -> None:
    """Additive values without noise: every contrast comes out exactly, whatever is missing."""
    arm, seed = np.asarray([0.0, 1.0, -2.0, 0.5]), np.asarray([3.0, 1.0, 4.0, 1.5, 9.0])
    values = arm[:, None] + seed[None, :] + 1e-3 * np.random.default_rng(1).normal(size=(4, 5))
    values[0, 0] = values[1, 4] = values[3, 2] = NAN
    found = blocked(values)
    assert found.effects == pytest.approx(arm[1:], abs=5e-3)
    assert found.df == 17 - 5 - 3
    naive = np.nanmean(values, axis=1)
    assert abs((naive[1] - naive[0]) - 1.0) > 0.5, "means over survivors compare different seeds"


def test_an_incomplete_block_narrows_the_contrasts_among_the_others() -> None:
    values = np.random.default_rng(2).normal(size=(3, 6))
    values[1, 5] = NAN
    kept, dropped = blocked(values), blocked(values[:, :5])
    assert kept.scales[1] < dropped.scales[1]
    assert kept.scales[0] < dropped.scales[0], "the pair of the others says something about the lost seed"
    assert kept.df > dropped.df


def test_a_seed_that_every_arm_lost_counts_for_nothing() -> None:
    values = np.random.default_rng(7).normal(size=(3, 5))
    with_lost = np.insert(values, 2, NAN, axis=1)
    assert blocked(with_lost).df == blocked(values).df
    assert blocked(with_lost).errors == pytest.approx(blocked(values).errors)


def test_a_lost_run_leaves_no_residual() -> None:
    values = np.asarray([[1.0, 2.0, 3.5], [1.5, 2.6, NAN], [0.7, 2.2, 3.0]])
    found = blocked(values)
    design = np.zeros((8, 5))
    cells = [(arm, seed) for arm in range(3) for seed in range(3) if np.isfinite(values[arm, seed])]
    for row, (arm, seed) in enumerate(cells):
        design[row, seed] = 1
        if arm:
            design[row, 2 + arm] = 1
    outcome = np.asarray([values[cell] for cell in cells])
    _, square_sum, *_ = np.linalg.lstsq(design, outcome, rcond=None)
    assert found.square_sum == pytest.approx(square_sum[0])


def test_arms_without_a_common_seed_have_no_contrast() -> None:
    values = np.asarray([[1.0, 2.0, NAN, NAN], [1.5, 2.6, NAN, NAN], [NAN, NAN, 3.0, 4.1]])
    found = blocked(values)
    assert np.isfinite(found.effects[0])
    assert np.isnan(found.effects[1])
    assert np.isnan(found.errors[1])


def test_a_chain_of_common_seeds_is_enough() -> None:
    values = np.asarray([[1.0, 2.0, NAN, NAN], [1.5, 2.6, 3.3, 4.0], [NAN, NAN, 3.0, 4.1]])
    assert np.isfinite(blocked(values).effects[1])


@pytest.mark.parametrize(
    "values",
    [
        [[1.0], [2.0]],
        [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
        [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]],
        [[NAN, NAN], [NAN, NAN]],
        [[NAN, NAN, NAN], [1.0, 2.0, 4.0]],
    ],
)
def test_no_spread_and_no_runs_are_no_error_estimate(values: list[list[float]]) -> None:
    assert np.all(np.isnan(blocked(np.asarray(values)).errors))


def test_one_arm_is_refused_with_the_shape_that_was_given() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 5\).*two arms"):
        blocked(np.zeros((1, 5)))


def test_a_batch_is_its_studies_one_by_one() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(6, 4, 5))
    values[rng.random(values.shape) < 0.15] = NAN
    together = blocked(values)
    for number, one in enumerate(values):
        alone = blocked(one)
        assert together.effects[number] == pytest.approx(alone.effects, nan_ok=True)
        assert together.errors[number] == pytest.approx(alone.errors, nan_ok=True)
        assert together.df[number] == alone.df


@given(tables, st.randoms(use_true_random=False))
def test_relabelling_seeds_and_arms_changes_nothing(values: np.ndarray, random: np.random.Generator) -> None:
    seeds, arms = list(range(values.shape[1])), list(range(1, values.shape[0]))
    random.shuffle(seeds)
    random.shuffle(arms)
    plain, moved = blocked(values), blocked(values[[0, *arms]][:, seeds])
    order = [arm - 1 for arm in arms]
    assert moved.effects == pytest.approx(plain.effects[order], nan_ok=True, abs=1e-9)
    assert moved.errors == pytest.approx(plain.errors[order], nan_ok=True, abs=1e-7)


@given(tables, st.integers(-50, 50))
def test_what_a_seed_adds_to_all_arms_is_taken_out(values: np.ndarray, shift: int) -> None:
    seeds = shift * np.arange(values.shape[1]) ** 2 / 8
    plain, moved = blocked(values), blocked(values + seeds)
    assert moved.effects == pytest.approx(plain.effects, abs=1e-8)
    assert moved.square_sum == pytest.approx(plain.square_sum, abs=1e-6, rel=1e-6)


def test_rho_is_the_share_of_the_seeds() -> None:
    rng = np.random.default_rng(6)
    found = [
        seed_correlation(np.sqrt(0.7) * rng.normal(size=(1, 12)) + np.sqrt(0.3) * rng.normal(size=(6, 12)))
        for _ in range(300)
    ]
    assert np.mean([one for one in found if one is not None]) == pytest.approx(0.7, abs=0.05)
    left, right = rng.normal(size=(2, 9))
    two = seed_correlation(np.stack([left, right * left.std() / right.std()]))
    assert two == pytest.approx(float(np.corrcoef(left, right)[0, 1]))
    assert seed_correlation(np.asarray([[1.0, 2.0], [2.0, 1.0]])) is None
    assert seed_correlation(np.asarray([[1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])) is None
    assert seed_correlation(np.asarray([[1.0, 2.0, NAN, 1.0], [2.0, 1.0, 4.0, NAN]])) is None

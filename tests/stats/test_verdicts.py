"""The table of one study: verdicts, labels, laws, and every way in which there is nothing to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ablate.stats.contrasts import decide, estimate, holm, variant_agreement
from ablate.stats.verdicts import (
    BY_STEPS,
    LOW_POWER,
    LOW_POWER_POOLED_ONLY,
    OWN_VARIANCE,
    POOLED_ONLY,
    Table,
    judge,
)

NAN = np.nan


def study(effects: list[float], seeds: int = 5, sd: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(1, seeds)) + sd * rng.normal(size=(len(effects) + 1, seeds))
    values[1:] += np.asarray(effects)[:, None]
    return values


def verdicts(table: Table) -> list[str]:
    return [one.verdict for one in table.variants]


@pytest.mark.parametrize(
    ("lower_is_better", "expected"),
    [
        (True, ["hurts", "helps", "equivalent"]),
        (False, ["helps", "hurts", "equivalent"]),
        (None, ["raises", "lowers", "equivalent"]),
    ],
)
def test_the_verdict_follows_the_interval_and_the_better_side(
    lower_is_better: bool | None, expected: list[str]
) -> None:
    assert verdicts(judge(study([2.0, -2.0, 0.0]), 0.5, lower_is_better)) == expected


def test_a_wide_interval_around_zero_is_undecided_with_the_seeds_that_would_decide() -> None:
    table = judge(study([0.0, 0.05], sd=1.0, seed=3), 0.5, True)
    assert verdicts(table) == ["inconclusive", "inconclusive"]
    assert all(one.seeds_needed is not None and one.seeds_needed > 20 for one in table.variants)
    assert all(one.seeds_needed is None for one in judge(study([0.0], sd=1.0)).variants), "no margin, no plan"


def test_a_proven_but_immaterial_difference_is_no_effect() -> None:
    table = judge(study([0.1, 0.0], seeds=8, sd=0.01), 0.5, True)
    assert table.variants[0].low is not None
    assert table.variants[0].low > 0
    assert verdicts(table) == ["equivalent", "equivalent"]


def test_without_a_margin_there_is_no_claim_of_no_effect() -> None:
    assert verdicts(judge(study([0.0, 0.0]))) == ["inconclusive", "inconclusive"]


def test_the_figures_agree_with_each_other() -> None:
    table = judge(study([0.1, 0.25, -0.4, 0.0], seeds=6, sd=0.15, seed=5), 0.1, True)
    for one in table.variants:
        assert one.low is not None
        assert one.high is not None
        assert one.p_value is not None
        assert (one.low > 0 or one.high < 0) == (one.p_value < 0.05)
        assert one.inner_low is not None
        assert one.low < one.inner_low
        assert one.smallest_p == 2**-5
        assert one.own_p_value is not None
        assert one.signflip_p is not None
        assert one.signflip_p >= one.smallest_p
    assert table.df == 4 * 5
    assert table.rho is not None


def test_three_seeds_get_a_verdict_with_a_label() -> None:
    one = judge(study([2.0, 0.0, 0.0], seeds=3), 0.5, True).variants[0]
    assert one.verdict == "hurts"
    assert one.labels == (LOW_POWER,)


@pytest.mark.parametrize(("seeds", "label"), [
    (3, LOW_POWER_POOLED_ONLY), (5, POOLED_ONLY), pytest.param(10, POOLED_ONLY, marks=pytest.mark.slow),
])  # fmt: skip
def test_what_only_the_pool_supports_is_no_verdict_and_says_so(seeds: int, label: str) -> None:
    """Among variants that the pooled analysis finds: those whose own pairs disagree are withheld, and no others."""
    if seeds == 5:  # at 15% they hardly ever disagree where the guard sees nothing: looked for among many studies
        values = np.random.default_rng(0).normal(size=(3000, 9, seeds))
        values[:, 1] += 1.4 + 1.5 * np.random.default_rng(1).normal(size=(3000, seeds))
        found = decide(values)
        shown = found.pooled_differs[:, 0]
        tables = [*values[shown & ~found.differs[:, 0]], *values[shown & found.differs[:, 0]][:20]]
    else:
        tables = [study([1.4, 0.0, 0.0, 0.0], seeds=seeds, sd=1.0, seed=draw) for draw in range(200)]
    seen = set()
    for values in tables:
        found = decide(values)
        if found.pooled_differs[0]:
            one = judge(values, None, True).variants[0]
            assert one.verdict == ("hurts" if found.differs[0] else "inconclusive")
            assert (label in one.labels) == (not found.differs[0])
            assert one.low is not None
            assert one.low > 0, "the interval is shown as the pool gives it"
            seen.add(bool(found.differs[0]))
    assert seen == {True, False}


def test_a_verdict_by_steps_stands_beside_an_interval_over_all() -> None:
    """Five variants with an effect: some are found only once others are, and say so; their p by steps is below .05."""
    by_steps = [
        one
        for draw in range(12)
        for one in judge(study([1.5] * 5, sd=0.7, seed=draw), None, True).variants
        if BY_STEPS in one.labels
    ]
    assert by_steps
    for one in by_steps:
        assert one.verdict == "hurts"
        assert one.low is not None
        assert one.low <= 0
        assert one.step_p is not None
        assert one.p_value is not None
        assert one.step_p < 0.05 <= one.p_value


def test_a_noisy_variant_falls_back_to_its_own_pairs_and_leaves_the_pool() -> None:
    values = study([0.0, 1.0, 0.0, 0.0], seeds=6, sd=0.05, seed=4)
    values[3] += np.asarray([3.0, -3.0, 2.0, -2.5, 2.5, -2.0])
    assert estimate(values).alone.tolist() == [False, False, True, False]
    table = judge(values, 0.5, True)
    assert table.variants[2].method == "own pairs"
    assert OWN_VARIANCE in table.variants[2].labels
    assert table.variants[2].df == 5
    assert table.variants[2].p_value == pytest.approx(min(1.0, 4 * (table.variants[2].own_p_value or 0.0))), (
        "of 4 claims"
    )
    assert verdicts(table) == ["equivalent", "hurts", "inconclusive", "equivalent"]
    calm = judge(values[[0, 1, 2, 4]], 0.5, True)
    assert table.sd == pytest.approx(calm.sd)


def test_a_noisy_baseline_makes_all_fall_back_to_holm_in_their_order() -> None:
    values = study([0.0, 9.0, 4.0], seeds=6, sd=0.05, seed=1)
    values[0] += np.asarray([3.0, -3.0, 2.0, -2.5, 2.5, -2.0])
    table = judge(values, 0.5, True)
    assert {one.method for one in table.variants} == {"own pairs"}
    raw = np.asarray([one.own_p_value for one in table.variants], dtype=np.float64)
    assert [one.p_value for one in table.variants] == pytest.approx(holm(raw).tolist())
    for one in table.variants:
        assert one.low is not None
        assert one.high is not None
        assert (one.low > 0 or one.high < 0) == ((one.p_value or 1.0) < 0.05)


def test_a_lost_run_is_analysed_and_not_dropped() -> None:
    values = study([2.0, 0.0, 0.0], seeds=5)
    values[1, 2] = NAN
    table = judge(values, 0.5, True)
    assert [one.pairs for one in table.variants] == [4, 5, 5]
    assert table.df == 19 - 5 - 3
    assert verdicts(table) == ["hurts", "equivalent", "equivalent"]
    assert table.variants[0].labels == (LOW_POWER,)


@pytest.mark.parametrize(
    "values",
    [
        [[0.5], [0.6]],
        [[0.5, 0.6, 0.7], [NAN, NAN, NAN]],
        [[NAN, NAN, NAN], [0.1, 0.2, 0.3]],
        [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
        [[0.1, 0.2, 0.4], [0.2, 0.3, 0.5]],
        [[0.1, 0.2, NAN, NAN], [NAN, NAN, 0.2, 0.3]],
        [[NAN, NAN], [NAN, NAN]],
        [[0.1, np.inf, 0.3], [0.2, 0.3, np.inf]],
        [[0.1, np.inf, 0.3], [0.2, np.inf, NAN]],
    ],
)
def test_what_gives_nothing_to_infer_from_is_undecided(values: list[list[float]]) -> None:
    """One seed, all runs lost, no common seed, no spread: no verdict, no interval, and no warning."""
    found = judge(np.asarray(values), 0.1, True).variants[0]
    assert found.verdict == "inconclusive"
    assert LOW_POWER in found.labels
    if not np.isfinite(values).all() or np.ptp(np.diff(values, axis=0)) < 1e-9:
        assert found.low is None


def test_an_arm_that_lost_all_runs_takes_nothing_from_the_others() -> None:
    values = study([2.0, 0.0], seeds=5)
    with_lost = np.vstack([values, np.full((1, 5), NAN)])
    table = judge(with_lost, 0.5, True)
    assert verdicts(table) == ["hurts", "equivalent", "inconclusive"]
    assert table.variants[0].low == pytest.approx(judge(values, 0.5, True).variants[0].low)


@pytest.mark.parametrize("margin", [0.0, -1.0, NAN])
def test_a_margin_is_a_positive_number(margin: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        judge(study([0.0]), margin)


def test_the_own_analysis_is_lenient_only_where_it_would_cost_power() -> None:
    assert variant_agreement(np.asarray([2, 3, 4, 5, 7, 8, 30])).tolist() == [0.05, 0.05, 0.05, 0.15, 0.15, 0.05, 0.05]
    assert variant_agreement(np.asarray([4, 5, 8]), "equivalence").tolist() == [0.05, 0.07, 0.05]


tables = st.tuples(st.integers(2, 5), st.integers(2, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-400, 400).map(lambda k: k / 64))
)


@settings(deadline=None, max_examples=20)
@given(tables)
def test_turning_the_metric_round_mirrors_the_table(values: np.ndarray) -> None:
    plain, turned = decide(values, 1.0), decide(-values, 1.0)
    assert turned.low == pytest.approx(-plain.high, nan_ok=True)
    assert turned.effects == pytest.approx(-plain.effects, nan_ok=True)
    assert np.array_equal(turned.differs, plain.differs)
    assert np.array_equal(turned.within, plain.within)


@settings(deadline=None, max_examples=20)
@given(tables, st.randoms(use_true_random=False))
def test_relabelling_changes_nothing(values: np.ndarray, random: np.random.Generator) -> None:
    arms, seeds = list(range(1, len(values))), list(range(values.shape[1]))
    random.shuffle(arms)
    random.shuffle(seeds)
    plain, moved = decide(values, 1.0), decide(values[[0, *arms]][:, seeds], 1.0)
    order = [arm - 1 for arm in arms]
    ties = np.isclose(plain.low, 0) | np.isclose(plain.high, 0)
    assert np.array_equal(moved.differs | ties[order], (plain.differs | ties)[order])
    assert moved.low == pytest.approx(plain.low[order], nan_ok=True, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(tables, st.floats(0.1, 5.0), st.floats(1.0, 3.0))
def test_a_wider_margin_never_makes_equivalence_harder(values: np.ndarray, margin: float, factor: float) -> None:
    narrow, wide = decide(values, margin), decide(values, margin * factor)
    assert np.all(wide.within >= narrow.within)


@settings(deadline=None, max_examples=20)
@given(tables, st.floats(0.01, 100.0))
def test_the_unit_does_not_matter(values: np.ndarray, unit: float) -> None:
    plain, scaled = decide(values, 1.0), decide(values * unit, unit)
    assert scaled.low == pytest.approx(plain.low * unit, nan_ok=True, rel=1e-6, abs=1e-6 * unit)

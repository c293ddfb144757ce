"""The four verdicts, and every way in which there is none to give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ablate.analysis.contrasts import COLLAPSED_RUNS, PLACEBO_DIFFERS, BySeed, Question, contrast, judge_together
from ablate.analysis.results import Contrast
from ablate.metrics.registry import METRICS


def ask(
    differences: list[float | None],
    *,
    metric: str = "eval_loss",
    smallest_effect: float | None = 0.1,
    refused: str | None = None,
    lost: tuple[str, ...] = (),
    placebo: bool = False,
) -> Contrast:
    baseline: BySeed = {seed: 0.5 + 0.01 * seed for seed in range(len(differences))}
    arm: BySeed = {s: None if d is None else 0.5 + 0.01 * s + d for s, d in enumerate(differences)}
    question = Question(
        arm="batch_size=64",
        axis="batch_size",
        value=64,
        baseline_value=8,
        metric=METRICS[metric].info,
        primary=smallest_effect is not None,
        smallest_effect=smallest_effect,
        num_seeds=len(differences),
        refused=refused,
        lost=lost,
        placebo=placebo,
    )
    return contrast(
        question, judge_together(question.metric, baseline, {"arm": arm}, smallest_effect)["arm"], baseline, arm
    )


def table(arms: list[list[float | None]], *, smallest_effect: float | None = 0.1) -> list[Contrast]:
    """Contrasts of several arms, judged together; values of each arm by seed, the baseline first."""
    by_seed: list[BySeed] = [dict(enumerate(values)) for values in arms]
    info = METRICS["eval_loss"].info
    variants = {f"axis={number}": values for number, values in enumerate(by_seed[1:])}
    found = judge_together(info, by_seed[0], variants, smallest_effect)
    return [
        contrast(
            Question(
                arm=name,
                axis="axis",
                value=1,
                baseline_value=0,
                metric=info,
                primary=smallest_effect is not None,
                smallest_effect=smallest_effect,
                num_seeds=len(arms[0]),
            ),
            found[name],
            by_seed[0],
            values,
        )
        for name, values in variants.items()
    ]


@pytest.mark.parametrize(
    ("differences", "metric", "verdict"),
    [
        ([0.50, 0.52, 0.48, 0.51, 0.49], "eval_loss", "hurts"),
        ([-0.50, -0.52, -0.48, -0.51, -0.49], "eval_loss", "helps"),
        ([0.30, 0.32, 0.28, 0.31, 0.29], "eval_accuracy", "helps"),
        ([-0.30, -0.32, -0.28, -0.31, -0.29], "eval_accuracy", "hurts"),
        ([0.50, 0.52, 0.48, 0.51, 0.49], "grad_norm_p95_p5", "raises"),
        ([-0.50, -0.52, -0.48, -0.51, -0.49], "grad_norm_p95_p5", "lowers"),
        ([0.01, -0.01, 0.02, -0.02, 0.00], "eval_loss", "equivalent"),
        ([0.50, -0.40, 0.30, -0.60, 0.10], "eval_loss", "inconclusive"),
    ],
)
def test_the_verdict_follows_the_interval_and_the_better_side(
    differences: list[float | None], metric: str, verdict: str
) -> None:
    assert ask(differences, metric=metric).verdict == verdict


def test_a_significant_but_immaterial_difference_is_no_effect_and_says_that_it_is_not_zero() -> None:
    found = ask([0.020, 0.021, 0.019, 0.022, 0.018])
    assert found.verdict == "equivalent"
    assert found.low is not None
    assert found.low > 0
    assert "not zero" in found.sentence


def test_without_a_declared_margin_there_is_no_claim_of_no_effect() -> None:
    found = ask([0.01, -0.01, 0.02, -0.02, 0.00], smallest_effect=None)
    assert (found.verdict, found.seeds_needed) == ("inconclusive", None)


def test_undecided_says_how_many_seeds_would_decide_and_it_is_more_than_there_were() -> None:
    found = ask([0.05, -0.15, 0.12, 0.02, -0.08])
    assert found.verdict == "inconclusive"
    assert found.seeds_needed is not None
    assert found.seeds_needed > 5
    assert f"needs about {found.seeds_needed} seeds" in found.sentence


def test_undecided_beyond_a_thousand_seeds_says_so() -> None:
    found = ask([5.0, -7.0, 6.0, -4.0, 1.0])
    assert found.seeds_needed is None
    assert "needs more than 1,000 seeds" in found.sentence


def test_effect_interval_and_means_are_of_the_paired_differences() -> None:
    found = ask([0.1, 0.2, 0.3])
    assert found.effect == pytest.approx(0.2)
    half = 4.302652729749464 * 0.1 / math.sqrt(3)  # t quantile with two degrees of freedom, from a table
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert (found.baseline_mean, found.arm_mean) == pytest.approx((0.51, 0.71))
    assert found.differences == pytest.approx((0.1, 0.2, 0.3))


def test_few_seeds_are_low_power_and_five_are_not() -> None:
    assert "LOW POWER" in ask([0.5, 0.51, 0.49, 0.5]).labels
    assert "LOW POWER" not in ask([0.5, 0.51, 0.49, 0.5, 0.52]).labels


@pytest.mark.parametrize("broken", [None, math.nan, math.inf])
def test_a_seed_without_both_values_is_no_pair_and_is_counted(broken: float | None) -> None:
    found = ask([0.50, broken, 0.52])
    assert found.seeds == (0, 2)
    assert "2 of 3 seeds" in found.labels
    assert found.baseline_mean == pytest.approx(np.mean([0.5, 0.52]))


def test_lost_runs_are_named_and_the_claim_is_labelled_as_over_survivors() -> None:
    found = ask([0.50, None, 0.52], lost=("seed 1 of batch_size=64, which diverged",))
    assert "MISSING SEEDS" in found.labels
    assert "without seed 1 of batch_size=64, which diverged" in found.sentence


def test_one_pair_has_no_interval() -> None:
    found = ask([0.5])
    assert (found.effect, found.low, found.p_value, found.verdict) == (None, None, None, "inconclusive")
    assert "at least two are needed" in found.sentence


def test_no_pair_at_all_is_said() -> None:
    found = ask([None, None])
    assert (found.effect, found.baseline_mean, found.seeds, found.verdict) == (None, None, (), "inconclusive")
    assert "no seed in which both arms have a value of eval_loss" in found.sentence


@pytest.mark.parametrize("same", [0.0, 0.25])
def test_differences_without_spread_decide_nothing(same: float) -> None:
    found = ask([same, same, same])
    assert (found.verdict, found.low, found.p_value) == ("inconclusive", None, None)
    assert found.effect == pytest.approx(same)
    assert "without spread there is no interval" in found.sentence


def test_a_failed_control_takes_the_verdict_and_gives_its_reason() -> None:
    found = ask([0.50, 0.52, 0.48, 0.51, 0.49], refused="the control `matched` failed: contaminated")
    assert found.verdict == "none"
    assert "no verdict, because the control `matched` failed: contaminated" in found.sentence
    assert found.effect == pytest.approx(0.5)


def test_the_sentence_carries_the_change_the_means_and_the_interval() -> None:
    assert ask([0.1, 0.2, 0.3]).sentence == (
        "batch_size 8 -> 64, eval_loss: inconclusive (needs about 11 seeds), 0.510 -> 0.710 nats "
        "(+0.20, 95% interval [-0.05, 0.45]; 3 seeds)"
    )


def test_a_placebo_that_differs_in_the_primary_metric_says_so() -> None:
    moved = [1.0, 1.1, 0.9, 1.0, 1.05]
    assert ask(list(moved), placebo=True).labels == (PLACEBO_DIFFERS,)
    assert ask(list(moved)).labels == ()
    assert ask(list(moved), smallest_effect=None, placebo=True).labels == (), "one of many metrics"
    assert ask([0.3, -0.3, 0.1, 0.0, -0.1], placebo=True).labels == ()


SEEDS_MOVE = [0.50, 0.62, 0.41, 0.55, 0.47]


def shifted(by: float, noise: list[float]) -> list[float | None]:
    return [value + by + one for value, one in zip(SEEDS_MOVE, noise, strict=True)]


CALM = [[0.01, -0.01, 0.02, -0.02, 0.0], [-0.02, 0.01, 0.0, 0.01, 0.0], [0.0, 0.02, -0.01, 0.01, -0.02]]


def test_several_variants_share_one_residual_and_their_intervals_are_simultaneous() -> None:
    together = table(
        [list(SEEDS_MOVE), *(shifted(by, noise) for by, noise in zip((0.3, 0.0, 0.15), CALM, strict=True))]
    )
    assert [one.verdict for one in together] == ["hurts", "equivalent", "hurts"]
    assert {(one.method, one.family, one.residual_df) for one in together} == {("seed-blocked", 3, 12)}
    assert {4 <= one.df <= 12 for one in together} == {True}
    assert len({one.rho for one in together}) == len({one.residual_sd for one in together}) == 1
    for one in together:
        assert one.p_value is not None
        assert one.own_p is not None
        assert one.effect == pytest.approx(np.mean(one.differences))
    alone = ask([0.3 + noise for noise in CALM[0]])
    assert (alone.method, alone.family, alone.df) == ("own pairs", 1, 4)


def test_what_stands_beside_the_verdict_is_of_the_pairs() -> None:
    hurts, *_ = table([list(SEEDS_MOVE), shifted(0.3, CALM[0]), shifted(0.0, CALM[1])])
    assert (hurts.beats, hurts.signflip_p) == (0.0, 2 / 2**5)
    assert hurts.hedges_g is not None
    assert hurts.hedges_g > 1
    assert hurts.inner_low is not None
    assert hurts.low is not None
    assert hurts.low < hurts.inner_low < (hurts.effect or 0.0)


def test_an_arm_whose_spread_is_unlike_the_others_has_an_error_of_its_own() -> None:
    rng = np.random.default_rng(4)
    calm = [[0.5 + 0.01 * value for value in rng.normal(size=10)] for _ in range(5)]
    wild: list[float | None] = [1.5 + 0.5 * value for value in rng.normal(size=10)]
    *others, one = table([*map(list, calm), wild], smallest_effect=0.05)
    assert one.pool_weight == 0.0
    assert one.error is not None
    assert all((other.error or 0.0) < one.error for other in others)
    assert one.verdict == "hurts"


def test_a_lost_run_leaves_the_other_arms_of_its_seed_in_the_analysis() -> None:
    lost = shifted(0.3, CALM[0])
    lost[1] = None
    first, second = table([list(SEEDS_MOVE), lost, shifted(0.0, CALM[1])])
    assert (first.seeds, first.residual_df, second.residual_df) == ((0, 2, 3, 4), 7, 7)
    assert first.effect != pytest.approx(float(np.mean(first.differences)), abs=1e-12), "not the complete pairs alone"
    assert first.effect == pytest.approx(0.3, abs=0.03)
    assert second.seeds == (0, 1, 2, 3, 4)
    assert "4 of 5 seeds" in first.labels


def test_an_arm_without_the_metric_gets_no_verdict_and_takes_nothing_from_the_others() -> None:
    values = [list(SEEDS_MOVE), shifted(0.3, CALM[0]), shifted(0.0, CALM[1])]
    with_it, absent = table([*values, [None] * 5])[:2], table([*values, [None] * 5])[2]
    assert (absent.verdict, absent.effect, absent.seeds) == ("inconclusive", None, ())
    assert "no seed in which both arms have a value of eval_loss" in absent.sentence
    assert [one.low for one in with_it] == pytest.approx([one.low for one in table(values)], abs=1e-12)


def test_arms_without_common_seeds_decide_nothing() -> None:
    found = table([[0.5, 0.6, None, None], [None, None, 0.9, 1.0], [None, None, 0.9, 1.1]])
    assert {(one.verdict, one.effect, one.seeds_needed) for one in found} == {("inconclusive", None, None)}


def test_no_value_anywhere_is_undecided_everywhere() -> None:
    assert {one.verdict for one in table([[None, None], [None, math.nan], [math.inf, None]])} == {"inconclusive"}
    assert {one.verdict for one in table([[None, None], [0.1, 0.2], [0.2, 0.1]])} == {"inconclusive"}


def test_constant_outcomes_of_several_arms_are_no_proof() -> None:
    found = table([[0.5] * 4, [0.7] * 4, [0.5] * 4])
    assert {(one.verdict, one.low) for one in found} == {("inconclusive", None)}
    assert "the difference is 0.200 in each of 4 seeds" in found[0].sentence


def test_one_seed_of_several_arms_has_no_interval() -> None:
    found = table([[0.5], [0.7], [0.4]])
    assert {(one.verdict, one.effect, one.low) for one in found} == {("inconclusive", None, None)}


@pytest.mark.parametrize("margin", [0.0, -0.1])
def test_a_margin_that_is_not_positive_claims_no_effect_of_nothing(margin: float) -> None:
    assert ask([0.01, -0.01, 0.02, -0.02, 0.00], smallest_effect=margin).verdict == "inconclusive"


def test_equal_differences_decide_alike_in_either_precision_and_by_the_rounding_of_a_count() -> None:
    """Python floats were inconclusive and float32 `hurts`, by the last digit of a difference."""
    baseline = {0: 0.5, 1: 0.25, 2: 0.75}
    info = METRICS["eval_loss"].info
    for precision in (np.float64, np.float32):
        left: BySeed = {seed: float(precision(value)) for seed, value in baseline.items()}
        right: BySeed = {seed: float(precision(value + 0.1)) for seed, value in baseline.items()}
        assert judge_together(info, left, {"arm": right}, 0.01)["arm"].judgement.verdict == "inconclusive"
        counted = judge_together(info, left, {"arm": right}, 0.01, rounding=1 / 256)["arm"].judgement
        assert counted.verdict == "hurts"
        assert counted.error == pytest.approx((2 / 12 / 3) ** 0.5 / 256)


def test_equivalent_arms_say_how_often_a_collapse_is_still_possible() -> None:
    found = ask([0.001, -0.002, 0.003, 0.0, -0.001, 0.002, 0.0, -0.003, 0.001, 0.002], smallest_effect=0.1)
    assert found.verdict == "equivalent"
    assert "no collapse in 10 runs of either arm, up to 26% possible" in found.sentence
    assert found.inner_low is not None
    assert "equivalence interval [" in found.sentence


def test_a_collapsed_run_is_named_and_equivalence_is_withheld() -> None:
    rng = np.random.default_rng(5)
    values = (0.5 + 0.01 * rng.normal(size=(3, 30))).tolist()
    assert {one.verdict for one in table(values, smallest_effect=0.1)} == {"equivalent"}
    values[0][3] = 0.65
    found = table(values, smallest_effect=0.1)
    assert {one.verdict for one in found} == {"inconclusive"}
    for one in found:
        assert COLLAPSED_RUNS in one.labels
        assert "1 of 30 runs of the baseline collapsed, so equivalence is not claimed" in one.sentence

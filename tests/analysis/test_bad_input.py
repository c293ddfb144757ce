"""Runs that give little or nothing to judge: what is said of them, and that nothing is claimed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ablate.analysis.contrasts import Question, contrast, judge_together
from ablate.analysis.results import Contrast
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import decide
from ablate.stats.sequential import interim_confidences
from ablate.stats.shapley import contributions
from ablate.stats.verdicts import judge
from tests.calibration.planted import Chance, plan_of, studied, values

LOSS = MetricInfo(name="eval_loss", unit="nats", definition="", lower_is_better=True)
Arm = Mapping[int, float | None]


def read(baseline: Arm, *arms: Arm, margin: float | None = 0.5) -> list[Contrast]:
    """Through judging and wording, as a study does it."""
    named = {f"lr={number}": arm for number, arm in enumerate(arms, 1)}
    found = judge_together(LOSS, baseline, named, margin)
    said = []
    for number, (name, arm) in enumerate(named.items(), 1):
        question = Question(
            arm=name, axis="lr", value=number, baseline_value=0, metric=LOSS, primary=True,
            smallest_effect=margin, num_seeds=len(baseline),
        )  # fmt: skip
        said.append(contrast(question, found[name], baseline, arm))
    return said


def test_one_seed_has_no_interval() -> None:
    (one,) = read({0: 1.0}, {0: 3.0})
    assert (one.verdict, one.effect, one.low, one.p_value) == ("inconclusive", None, None, None)
    assert "one seed (2.00) has no interval: at least two are needed" in one.sentence


def test_arms_without_a_common_seed() -> None:
    (one,) = read({0: 1.0, 1: 1.1}, {2: 3.0, 3: 3.1})
    assert (one.verdict, one.seeds, one.low) == ("inconclusive", (), None)
    assert "no seed in which both arms have a value of eval_loss" in one.sentence


def test_two_arms_that_meet_only_through_a_third_are_compared_through_it() -> None:
    """The intrablock effect of an incomplete layout; its own pairs, which there are none of, cannot agree."""
    one, other = read({0: 1.0, 1: 1.1, 2: 0.9}, {3: 3.0, 4: 3.1}, {k: 1.0 + 0.01 * k for k in range(5)})
    assert one.verdict == "inconclusive"
    assert one.seeds == ()
    assert other.seeds == (0, 1, 2)


def test_a_metric_that_some_arms_do_not_have_leaves_the_others_as_they_are() -> None:
    rng = np.random.default_rng(0)
    rows = [{k: float(x) for k, x in enumerate(row)} for row in rng.normal(size=(3, 5)) + np.asarray([[0], [9], [0]])]
    absent: Arm = dict.fromkeys(range(5))
    with_, without = read(*rows, absent), read(*rows)
    assert with_[2].verdict == "inconclusive"
    assert "no seed in which both arms have a value of eval_loss" in with_[2].sentence
    assert [one.verdict for one in with_[:2]] == [one.verdict for one in without] == ["hurts", "inconclusive"]
    assert [one.low for one in with_[:2]] == pytest.approx([one.low for one in without]), "nor does it cost the others"


def test_a_study_whose_runs_all_diverged_says_so_and_nothing_else() -> None:
    plan = plan_of(("train_test_ratio=4",))
    drawn = values(Chance(np.random.default_rng(0), 0.5), plan, {})
    analysis = studied(plan, {"eval_loss": drawn}, diverged=("baseline", "train_test_ratio=4"))
    said = " ".join(analysis.conclusions)
    assert {one.verdict for one in analysis.contrasts} <= {"inconclusive", "none"}
    assert "no variable has a significant effect" in said
    assert "10 runs of 10 gave no result" in said
    assert "train_test_ratio=4 diverged in 5 of 5 seeds, the baseline in 5: no difference shown" in said


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_outcomes_without_spread_prove_nothing(shift: float) -> None:
    level = {k: float(k) for k in range(5)}
    (one,) = read(level, {k: v + shift for k, v in level.items()})
    assert (one.verdict, one.low) == ("inconclusive", None)
    assert "in each of 5 seeds: without spread there is no interval" in one.sentence


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_a_missing_one(bad: float) -> None:
    rng = np.random.default_rng(1)
    base, arm = ({k: float(x) for k, x in enumerate(row)} for row in rng.normal(size=(2, 6)))
    spoilt, missing = read(base, {**arm, 2: bad})[0], read(base, {**arm, 2: None})[0]
    assert spoilt == missing
    assert spoilt.seeds == (0, 1, 3, 4, 5)
    assert "5 of 6 seeds" in spoilt.labels
    both = judge(np.asarray([[1.0, 2.0, bad], [bad, bad, bad]]), 0.5)
    assert (both.variants[0].effect, both.variants[0].verdict) == (None, "inconclusive")


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    table = np.random.default_rng(2).normal(size=(3, 5))
    for call in (lambda: judge(table, margin), lambda: decide(table, margin)):
        with pytest.raises(ValueError, match=r"margin (0\.0|-0\.1|nan): expected a positive number"):
            call()


def test_a_study_without_a_smallest_effect_makes_no_claim_of_no_effect() -> None:
    rng = np.random.default_rng(3)
    base, arm = ({k: float(x) for k, x in enumerate(row)} for row in 1e-3 * rng.normal(size=(2, 8)))
    assert read(base, arm, margin=0.5)[0].verdict == "equivalent"
    assert read(base, arm, margin=0.0)[0].verdict == "inconclusive"


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 1.5, 95, math.nan])
def test_a_level_outside_zero_and_one_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=r"a number between 0 and 1 is needed, such as 0\.95"):
        decide(np.random.default_rng(4).normal(size=(3, 5)), confidence=level)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, math.nan])
def test_a_level_is_refused_even_where_no_run_is_judged_by_it(level: float) -> None:
    """One seed, nothing to judge, and a noisy baseline, whose table is not read by the pooled limits."""
    for table in (np.ones((2, 1)), np.full((3, 4), np.nan)):
        with pytest.raises(ValueError, match="a number between 0 and 1 is needed"):
            decide(table, confidence=level)


@pytest.mark.parametrize("looks", [(), (1, 3), (5, 5), (8, 5)])
def test_looks_that_are_none(looks: Any) -> None:
    with pytest.raises(ValueError, match="expected ascending numbers of seeds from 2 on"):
        interim_confidences(looks)


def test_shares_of_one_seed_of_equal_values_and_of_no_number() -> None:
    one = contributions(["a", "b"], np.asarray([[1.0], [2.0], [1.0], [2.5]]))
    assert (one.total.effect, one.total.low, one.significant) == (1.5, None, ())
    flat = contributions(["a", "b"], np.asarray([[1.0], [2.0], [1.0], [2.0]]) * np.ones((4, 5)))
    assert (flat.total.low, flat.significant, flat.shapley_significant) == (None, (), ())
    with pytest.raises(ValueError, match="with a value for every seed"):
        contributions(["a"], np.asarray([[1.0, 2.0], [np.inf, 2.0]]))

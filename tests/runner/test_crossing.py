"""Planning of designs that move several axes at once: which arms there are, what they are checked to be, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ablate.controls.config_isolation import isolate
from ablate.data.datasets import DataFacts
from ablate.design.factorial import Factorial
from ablate.design.plan import Plan
from ablate.errors import AblateError
from ablate.planning.compose import opened
from ablate.planning.planner import make_plan

SIZES = DataFacts(num_train=1000, num_held_out=1000, num_eval=256, num_classes=2)
BATCH, RATE, WARMUP, DROPOUT = (
    "data.batch_size=8,64", "optim.lr=5e-5,1e-4", "optim.warmup_ratio=0,0.1", "model.dropout=0,0.1",
)  # fmt: skip
CLIP, DECAY, RATIO = "train.max_grad_norm=1,2", "optim.weight_decay=0.01,0.1", "data.train_test_ratio=1,4"


@pytest.fixture(scope="module")
def planned() -> Any:
    """planned(*typed): the plan that `ablate -m` would freeze."""
    with opened() as composer:
        yield (
            lambda *typed: make_plan(composer, composer.parse(typed), command="ablate", facts=lambda config: SIZES).plan
        )


Planned = Callable[..., Plan]


def crossed(plan: Plan) -> Factorial:
    assert plan.crossed is not None
    return plan.crossed


def refused(planned: Planned, *typed: str) -> str:
    with pytest.raises(AblateError) as found:
        planned(*typed)
    return str(found.value)


def test_a_factorial_is_every_combination_with_the_baselines_own_levels(planned: Planned) -> None:
    plan = planned(BATCH, RATE, "study.design=factorial", "study.seeds=2")
    assert [(arm.name, arm.changes) for arm in plan.arms] == [
        ("baseline", {}),
        ("batch_size=64", {"data.batch_size": 64}),
        ("learning_rate=0.0001", {"optim.lr": 1e-4}),
        ("batch_size=64+learning_rate=0.0001", {"data.batch_size": 64, "optim.lr": 1e-4}),
    ]
    assert len(plan.runs) == 8
    assert crossed(plan).levels == (("8", "64"), ("5e-05", "0.0001"))
    assert sorted(crossed(plan).indices) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert plan.study == "factorial-batch_size+learning_rate"
    assert (
        plan.question
        == "Does a larger batch make norm and loss more regular? Is the learning rate too low or too high?"
    )


def test_runs_of_single_arms_are_those_of_a_study_of_one_axis_at_a_time(planned: Planned) -> None:
    """By digest, so that whichever study comes second takes them from the first."""
    one, both = planned(BATCH, RATE), planned(BATCH, RATE, "study.design=factorial")
    assert {run.digest for run in one.runs} < {run.digest for run in both.runs}


def test_levels_that_leave_out_the_baselines_own_get_it(planned: Planned) -> None:
    plan = planned("data.batch_size=16,64,64", RATE, "study.design=factorial")
    assert crossed(plan).levels[0] == ("8", "16", "64")
    assert len(plan.arms) == 6


def test_every_arm_is_checked_to_be_the_declared_change_and_no_more(planned: Planned) -> None:
    plan = planned(BATCH, RATIO, "study.design=factorial")
    for arm in plan.arms[1:]:
        assert isolate(plan.baseline, arm, plan.axis(arm.axis or "")).status == "checked"
    both = plan.axis("batch_size=64+train_test_ratio=4")
    assert both.keys == ("data.batch_size", "data.train_test_ratio")
    assert "init" in both.must_match
    assert {"first_step", "splits", "total_steps"} <= set(both.may_change)
    assert {arm.config["data"]["eval_test_ratio"] for arm in plan.arms} == {4.0}, "one evaluation set for all"


def test_placebo_repeat_and_observation_stay_beside(planned: Planned) -> None:
    plan = planned("axis=batch_size,dropout,placebo,rerun,eval_every", "study.design=factorial")
    beside = [arm.name for arm in plan.arms if arm.name not in crossed(plan).arms]
    assert beside == ["placebo", "rerun", "eval_every=128 samples", "eval_every=256 samples", "eval_every=512 samples"]
    assert len(crossed(plan).arms) == 4


def test_a_frozen_plan_is_the_same_plan_when_it_is_read(planned: Planned) -> None:
    for typed in ((BATCH, RATE, "study.design=factorial"), ("axis=dropout", BATCH, "study.design=pairwise")):
        plan = planned(*typed)
        again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
        assert (again.digest, again.crossed) == (plan.digest, plan.crossed)


def test_a_fraction_takes_some_of_all_runs_and_says_so(planned: Planned) -> None:
    plan = planned(BATCH, RATE, WARMUP, DROPOUT, "study.design=fractional")
    cells = crossed(plan)
    assert (len(cells.arms), cells.full, cells.resolution) == (8, 16, 4)
    assert any("a fractional design of resolution 4: 8 of the 16 arms" in note for note in plan.notes)
    assert plan.arms[0].name == "baseline"
    assert "Does a larger batch" in plan.question, "though no arm moves it alone"
    seven = planned(BATCH, RATE, WARMUP, DROPOUT, CLIP, DECAY, RATIO, "study.design=fractional", "study.resolution=3")
    assert (len(crossed(seven).arms), crossed(seven).full) == (8, 128)


def test_pairs_are_each_change_alone_and_each_two(planned: Planned) -> None:
    plan = planned("axis=dropout", BATCH, RATE, "study.design=pairwise")
    assert [arm.name for arm in plan.arms] == [
        "baseline", "dropout=0", "batch_size=64", "learning_rate=0.0001", "dropout=0+batch_size=64",
        "dropout=0+learning_rate=0.0001", "batch_size=64+learning_rate=0.0001",
    ]  # fmt: skip
    assert crossed(plan).names == ("dropout=0", "batch_size=64", "learning_rate=0.0001")


@pytest.mark.slow
def test_levels_of_one_axis_are_paired_where_their_lists_can_be_merged(planned: Planned) -> None:
    plan = planned("model.drop_layers=[0],[1],[4]", "study.design=pairwise")
    pair = plan.arm("drop_layer=0+drop_layer=4")
    assert pair.changes == {"model.drop_layers": [0, 4]}
    assert pair.derived["parameters.count"] < plan.arm("drop_layer=0").derived["parameters.count"]
    assert len(plan.arms) == 1 + 3 + 3


@pytest.mark.slow
def test_a_part_inside_another_is_not_paired_with_it(planned: Planned) -> None:
    plan = planned("axis=component", "study.design=pairwise")
    told = [note for note in plan.notes if note.startswith("not combined: ")]
    assert len(told) == 1
    assert "component=zero:layers.0.attention.self with component=zero:layers.*.attention.self" in told[0]
    assert "together they leave the model that component=zero:layers.*.attention.self leaves alone" in told[0]
    assert len(crossed(plan).arms) == 1 + 4 + 4


def test_values_of_one_key_are_not_paired_and_that_is_said(planned: Planned) -> None:
    plan = planned("data.batch_size=16,64", RATE, "study.design=pairwise")
    assert (
        "not combined: batch_size=16 with batch_size=64 (both set data.batch_size, which has one value)" in plan.notes
    )
    assert len(crossed(plan).arms) == 1 + 3 + 2


@pytest.mark.parametrize(
    ("typed", "words", "fix"),
    [
        (("axis=batch_size", "study.design=factorail"), "study.design='factorail' is not one of", "study.design=factorial"),
        (("axis=batch_size", "study.design=factorial"), "crosses axes, and there is one: batch_size", "another axis"),
        (("axis=placebo", "study.design=fractional"), "crosses axes, and there is none", "another axis"),
        (("axis=batch_size", "study.design=pairwise"), "and there is one: batch_size=64", "another level"),
        (("data.batch_size=16,64", "study.design=pairwise"), "no two of these can be combined: batch_size=16", "one_at_a_time"),
        ((BATCH, RATE, "study.design=fractional"), "cannot be had of 2 axes (batch_size, learning_rate), too few for any",
         "study.design=factorial takes all 4"),
        ((BATCH, RATE, WARMUP, "study.design=fractional"), "study.resolution=4 cannot be had of 3 axes",
         "study.resolution=3 takes 4 arms, or study.design=factorial takes all 8"),
        ((BATCH, RATE, WARMUP, CLIP, "study.design=fractional", "study.resolution=5"), "of which a half has resolution 4",
         "study.resolution=4 takes 8 arms"),
        ((BATCH, "optim.lr=5e-5,1e-4,1e-3", WARMUP, "study.design=fractional"),
         "takes one level of each axis in addition to the baseline's, and learning_rate has 2: 0.0001, 0.001",
         "optim.lr=5e-05,0.0001 for one of them, or study.design=factorial, 12 arms"),
        (("axis=batch_size", "study.resolution=3"), "study.resolution=3 is of a fractional design", "study.design=fractional"),
        ((BATCH, RATE, "study.design=fractional", "study.resolution=6"), "study.resolution=6 is out of range",
         "=3"),
        ((BATCH, RATE, "study.design=factorial", "study.max_arms=1"), "study.max_arms=1 is out of range", "=2"),
        ((BATCH, RATE, WARMUP, DROPOUT, CLIP, DECAY, RATIO, "study.design=factorial"),
         "has 128 arms (2 x 2 x 2 x 2 x 2 x 2 x 2 combinations), 640 runs at 5 seeds, and study.max_arms=64",
         "study.design=fractional takes 16 of them, or study.max_arms=128"),
        (("axis=drop_layer,freeze", "study.design=pairwise", "study.max_arms=20"),
         "has 37 arms (each change alone and each two",
         "study.max_arms=37"),
        (("axis=batch_size_linear_lr,learning_rate", "study.design=factorial"),
         "batch_size_linear_lr and learning_rate cannot be combined in the arm batch_size_linear_lr=64+learning_rate=2e-05: "
         "both set optim.lr", "leave out one"),
        (("axis=random_init,reinit_top_layers", "study.design=factorial"),
         "the arm random_init=random+reinit_top_layers=1 cannot be composed: model.reinit_top_layers=1 would draw again",
         "pretrained"),
        (("model.drop_layers=[0],[1]", "model.freeze=[layers.0]", "study.design=factorial"), "there is one: drop_layer", ""),
        (("model.drop_layers=[],[0]", "model.freeze=[],[layers.0]", "study.design=factorial"),
         "the arm drop_layer=0+freeze=layers.0 cannot be composed: model.freeze=[layers.0]: all of its modules are inside", ""),
        (("axis=dropout", "model.dropout=0,0.1", "study.design=factorial"), "is moved by axis=dropout and swept as well", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_what_no_design_takes_is_refused(planned: Planned, typed: tuple[str, ...], words: str, fix: str) -> None:
    said = refused(planned, *typed)
    assert words in said.replace("\n", " ")
    assert fix in said


def test_more_arms_are_planned_when_they_are_asked_for(planned: Planned) -> None:
    typed = (
        BATCH,
        RATE,
        WARMUP,
        DROPOUT,
        CLIP,
        DECAY,
        RATIO,
        "study.design=factorial",
        "study.max_arms=128",
        "study.seeds=1",
    )
    assert len(planned(*typed).arms) == 128


def test_a_named_axis_whose_level_is_the_baselines_own_is_refused_as_ever(planned: Planned) -> None:
    said = refused(planned, "axis=batch_size,dropout", "data.batch_size=64", "study.design=factorial")
    assert "axis 'batch_size': the level 64 equals the baseline's own value, which is a level anyway" in said

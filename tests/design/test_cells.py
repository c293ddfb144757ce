"""The cells of a factorial design as values: what is stored is checked, and what can be combined is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ablate.design.axis import Axis
from ablate.design.designs import OneAtATime
from ablate.design.factorial import ClashError, Factorial, joint_axis, merged
from ablate.design.plan import Plan
from tests.synthetic import AXES, TWO_LEVELS, crossed_cells, crossed_plan

HALF = {"max_grad_norm": TWO_LEVELS[:3]}
DESIGNS = [
    crossed_cells("factorial", TWO_LEVELS[:3]),
    crossed_cells("fractional", TWO_LEVELS, HALF),
    crossed_cells("pairwise", TWO_LEVELS),
]


@pytest.mark.parametrize("cells", DESIGNS, ids=lambda cells: cells.kind)
def test_a_plan_comes_back_from_its_json_as_it_was(cells: Factorial) -> None:
    plan = crossed_plan("s", cells)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again.crossed == cells
    assert again.digest == plan.digest
    assert replace(plan, design=OneAtATime()).digest != plan.digest


def test_an_arm_that_moves_several_is_called_by_its_parts() -> None:
    plan = crossed_plan("s", DESIGNS[0])
    said = {arm.name: plan.bundle(arm) for arm in plan.arms}
    assert said["batch_size=64"] == ""
    assert said["batch_size=64+train_test_ratio=4"] == "batch_size=64 + train_test_ratio=4"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "latin"},
        {"kind": "pairwise"},
        {"kind": "fractional"},
        {"names": ["batch_size"]},
        {"names": ["batch_size", "batch_size", "learning_rate"]},
        {"levels": [["8"], ["1", "4"], ["a", "b"]]},
        {"levels": [["8", "64", "128"], ["1", "4"], ["a", "b"]]},
        {"levels": ["8", "64", "1"]},
        {"parts": [["batch_size=64"], ["train_test_ratio=4"], []]},
        {"indices": [0]},
        {"indices": [[0, 0, 0]] * 8},
        {"indices": [[0, 0, True]] + [[0, 0, 0]] * 7},
        {"arms": ["baseline"] * 8},
        {"generators": {"learning_rate": ["batch_size"]}},
        {"generators": {"learning_rate": 3}},
        {"strange": 1},
    ],
    ids=str,
)
def test_a_plan_that_came_from_elsewhere_must_describe_a_design(wrong: dict[str, Any]) -> None:
    plan = json.loads(json.dumps(crossed_plan("s", DESIGNS[0]).to_json()))
    with pytest.raises((ValueError, TypeError)):
        Plan.from_json(plan | {"design": plan["design"] | wrong})


def test_cells_in_another_order_or_of_other_signs_are_refused() -> None:
    cells = DESIGNS[1]
    for places in (cells.indices[::-1], [(1, *place[1:]) for place in cells.indices[:1]] + list(cells.indices[1:])):
        with pytest.raises(ValueError, match="not those of a factorial design"):
            replace(cells, indices=tuple(places)).check()
    with pytest.raises(ValueError, match="it must name factors out of"):
        replace(cells, generators={"max_grad_norm": ("max_grad_norm",)}).check()


def test_an_arm_that_is_not_there_is_named() -> None:
    plan = json.loads(json.dumps(crossed_plan("s", DESIGNS[2]).to_json()))
    arms = ["baseline", "somebody=else", *plan["design"]["arms"][2:]]
    with pytest.raises(ValueError, match="there is no 'somebody=else' in it"):
        Plan.from_json(plan | {"design": plan["design"] | {"arms": arms}})


BASE = {"model": {"drop_layers": [5], "dropout": 0.1}, "data": {"batch_size": 8}}


def test_lists_of_what_is_taken_out_become_one_list() -> None:
    found = merged({"model.drop_layers": [5, 0]}, {"model.drop_layers": [5, 2], "data.batch_size": 64}, BASE)
    assert found == {"model.drop_layers": [5, 0, 2], "data.batch_size": 64}


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"data.batch_size": 32}, {"data.batch_size": 64}, "both set data.batch_size, which has one value"),
        ({"model.drop_layers": [5, 0]}, {"model.drop_layers": [5, 0, 1]}, "holds the other's"),
        ({"model.drop_layers": []}, {"model.drop_layers": [5, 1]}, "takes back what the baseline has"),
        ({"model": {"dropout": 0.0}}, {"model.dropout": 0.2}, "set the same key"),
    ],
)
def test_what_no_config_can_have_at_once(one: dict[str, Any], other: dict[str, Any], words: str) -> None:
    with pytest.raises(ClashError, match=words):
        merged(one, other, BASE)


def test_a_joint_arm_may_bring_what_each_axis_may_and_holds_what_all_promise() -> None:
    one, other = AXES["batch_size"], AXES["train_test_ratio"]
    found = joint_axis("both", [one, other], {"data.batch_size": 64, "data.train_test_ratio": 4})
    assert set(found.may_change) == {*one.may_change, *other.may_change}
    assert "init" in found.must_match
    assert "order" not in found.must_match, "train_test_ratio accepts it"
    assert found.keys == ("data.batch_size", "data.train_test_ratio")
    assert (one.kind, other.kind, found.kind) == ("training", "data", "training")


def test_a_promise_about_a_whole_gives_way_to_a_part_that_may_differ() -> None:
    def axis(**words: Any) -> Axis:
        return Axis(name="a", question="", kind="model", keys=("model.x",), values=(1,), **words)

    parts = [
        axis(must_match=("optimizer", "data.source")),
        axis(may_change=("optimizer.params", "data"), must_match=("init",)),
    ]
    assert joint_axis("both", parts, {"model.x": 1}).must_match == ("init",)

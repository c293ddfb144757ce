"""What the standard ablations need of a design: names of arms, keys that go the other way, budgets that turn an axis round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ablate.design.axis import Axis
from ablate.design.axis_files import at_equal, axis_from
from ablate.design.plan import Arm, Plan
from ablate.errors import AxisError

OPTIMIZER = Axis(
    name="optimizer",
    question="?",
    kind="training",
    keys=("optim.name", "optim.lr"),
    values=({"optim.name": "sgd", "optim.lr": 0.1}, {"optim.name": "muon", "optim.lr": 1e-4}),
)


def test_an_arm_that_sets_several_keys_is_named_by_the_first_where_that_tells_it_apart() -> None:
    assert [OPTIMIZER.label(level) for level in OPTIMIZER.values] == ["optimizer=sgd", "optimizer=muon"]
    alike = replace(OPTIMIZER, values=({"optim.name": "sgd", "optim.lr": 0.1}, {"optim.name": "sgd", "optim.lr": 0.2}))
    assert [alike.label(level) for level in alike.values] == ["optimizer=1", "optimizer=2"]


def test_a_key_that_follows_inversely_keeps_the_product_or_is_refused() -> None:
    axis = axis_from(
        {
            "name": "accumulation", "question": "?", "kind": "systems", "keys": ["train.grad_accum_steps", "data.batch_size"],
            "values": [2, 3], "scale_with": {"data.batch_size": "inverse"},
        },
        file="axis/accumulation.yaml",
    )  # fmt: skip
    base: dict[str, Any] = {"train": {"grad_accum_steps": 2}, "data": {"batch_size": 16}}
    assert axis.changes(4, base) == {"train.grad_accum_steps": 4, "data.batch_size": 8}
    assert type(axis.changes(4, base)["data.batch_size"]) is int
    with pytest.raises(
        AxisError, match=r"data\.batch_size takes whole numbers, and the rule 'inverse' makes 10\.6667 of 16"
    ):
        axis.changes(3, base)


def test_under_a_budget_in_epochs_a_smaller_training_set_holds_the_passes_and_changes_the_updates() -> None:
    axis = Axis(
        name="train_size",
        question="?",
        kind="data",
        keys=("data.train_fraction",),
        values=(0.5,),
        may_change=("epochs", "train_examples"),
        must_match=("total_steps", "samples_seen", "evaluations", "init"),
    )
    found = at_equal("epochs", axis)
    assert set(found.must_match) == {"init", "epochs"}
    assert {"train_examples", "total_steps", "samples_seen", "evaluations", "tokens_seen"} <= set(found.may_change)
    assert not set(found.must_match) & set(found.may_change)
    assert at_equal("epochs", replace(axis, keys=("optim.lr",))) == replace(axis, keys=("optim.lr",))


LATER = {"model": ["pooling"], "data": ["train_fraction", "label_noise"], "train": ["attention"], "streams": ["labels"]}


def test_prose_is_no_part_of_a_plan() -> None:
    def plan(axis: Axis) -> Plan:
        return Plan(
            study="s", question="", metric="eval_loss", smallest_effect=0.01, seeds=(0,), axes=(axis,),
            arms=(Arm(name="baseline", config={"eval": {}, "record": {}, "train": {}}),), runs=(), code_digest="",
        )  # fmt: skip

    said = replace(OPTIMIZER, notes="Another way to say it.", requires=("optim.weight_decay=0.0",))
    assert plan(said).digest == plan(OPTIMIZER).digest
    assert plan(replace(OPTIMIZER, may_change=("optimizer",))).digest != plan(OPTIMIZER).digest
    assert Plan.from_json(plan(said).to_json()).axes == (said,)

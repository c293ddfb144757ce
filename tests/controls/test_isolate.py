"""One variable, on paper."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from ablate.config.schema import Config
from ablate.controls.config_isolation import isolate
from ablate.design.axis import Axis
from ablate.design.plan import Arm
from ablate.errors import AxisError

AXIS = Axis(
    name="batch_size",
    question="?",
    kind="training",
    keys=("data.batch_size",),
    values=(64,),
    may_change=("total_steps",),
    must_match=("samples_seen", "init"),
)


def arm_of(changes: dict[str, Any], **derived: float) -> Arm:
    config = asdict(Config())
    for key, value in changes.items():
        section, name = key.split(".")
        config[section][name] = value
    return Arm(name="batch_size=64", axis="batch_size", value=64, kind="training", config=config, derived=derived)


BASELINE = replace(arm_of({}, total_steps=128, samples_seen=1024), name="baseline")


def test_one_changed_leaf_is_checked_and_what_comes_with_it_is_listed():
    control = isolate(BASELINE, arm_of({"data.batch_size": 64}, total_steps=16, samples_seen=1024), AXIS)
    assert control.status == "checked"
    assert control.derived == {"total_steps": [128, 16]}
    assert control.held == ("samples_seen",)
    assert control.sentence == "only data.batch_size (8 -> 64); with it come total_steps (128 -> 16)"


def refused(arm: Arm, axis: Axis = AXIS) -> str:
    with pytest.raises(AxisError) as error:
        isolate(BASELINE, arm, axis)
    return str(error.value)


def test_nothing_changed():
    said = refused(arm_of({}, total_steps=128, samples_seen=1024))
    assert said.startswith("axis 'batch_size': the level 64 equals the baseline's own value")
    assert "take it out of `values` of axis/batch_size.yaml" in said


def test_a_second_key_that_was_not_declared():
    said = refused(arm_of({"data.batch_size": 64, "optim.lr": 1e-4}, total_steps=16, samples_seen=1024))
    assert "also changes optim.lr (5e-05 -> 0.0001), which its `keys` does not declare" in said


def test_a_type_is_a_difference_too():
    said = refused(arm_of({"data.batch_size": 64, "train.max_grad_norm": 1}, total_steps=16, samples_seen=1024))
    assert "train.max_grad_norm (1 -> 1)" in said


def test_a_derived_change_that_was_not_declared():
    said = refused(arm_of({"data.batch_size": 64}, total_steps=16, samples_seen=1024, evaluations=3))
    assert "with the level 64 comes evaluations (absent -> 3), which its `may_change` does not declare" in said
    assert "add evaluations to `may_change` of axis/batch_size.yaml" in said


def test_a_derived_change_that_was_promised_not_to_be():
    said = refused(arm_of({"data.batch_size": 64}, total_steps=16, samples_seen=2048))
    assert "changes samples_seen (1024 -> 2048), which its `must_match` promises to be equal" in said


FOLLOWS = replace(AXIS, keys=("data.batch_size", "optim.lr"), scale_with={"optim.lr": "linear"})


def test_a_bundle_is_one_declared_change_and_says_so() -> None:
    arm = arm_of({"data.batch_size": 64, "optim.lr": 8 * 5e-5}, total_steps=16, samples_seen=1024)
    assert isolate(BASELINE, arm, FOLLOWS).sentence == (
        "one declared change, a bundle of 2 keys: data.batch_size (8 -> 64), optim.lr (5e-05 -> 0.0004); "
        "with it come total_steps (128 -> 16)"
    )


def test_a_key_that_does_not_follow_as_declared() -> None:
    said = refused(arm_of({"data.batch_size": 64, "optim.lr": 1e-4}, total_steps=16, samples_seen=1024), FOLLOWS)
    assert "with the level 64, optim.lr is 0.0001, and the rule 'linear' makes it 0.0004" in said
    assert "leave optim.lr to the axis: it is set by `scale_with` of axis/batch_size.yaml" in said


def test_a_word_covers_what_lies_under_it() -> None:
    counts = {"parameters.count": 100, "parameters.trainable": 100}
    base, arm = (
        replace(BASELINE, derived=counts),
        arm_of({"data.batch_size": 64}, **counts | {"parameters.trainable": 60}),
    )
    accepts = replace(AXIS, may_change=("parameters",), must_match=())
    assert isolate(base, arm, accepts).derived == {"parameters.trainable": [100, 60]}
    part = replace(AXIS, may_change=("parameters.trainable",), must_match=("parameters.count",))
    assert isolate(base, arm, part).held == ("parameters.count",)
    with pytest.raises(
        AxisError, match=r"changes parameters\.trainable \(100 -> 60\), which its `must_match` promises"
    ):
        isolate(base, arm, replace(AXIS, must_match=("parameters",)))

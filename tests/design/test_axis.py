"""Bundles: keys that follow another one by a declared rule are one change."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.design.axis import Axis
from ablate.design.axis_files import axis_from
from ablate.design.plan import Arm, Plan
from ablate.errors import AxisError

FILE: dict[str, Any] = {
    "name": "bundle",
    "question": "Does it?",
    "kind": "training",
    "keys": ["data.batch_size", "optim.lr"],
    "values": [64, 2],
    "scale_with": {"optim.lr": "sqrt"},
}
BASE = {"data": {"batch_size": 8}, "optim": {"lr": 1e-4, "warmup_ratio": 0.0}, "train": {"grad_accum_steps": 4}}


def bundle(**fields: Any) -> Axis:
    return axis_from({**FILE, **fields}, file="axis/bundle.yaml")


def test_a_key_follows_the_first_one_from_the_baselines_values() -> None:
    assert bundle().changes(64, BASE) == {"data.batch_size": 64, "optim.lr": pytest.approx(1e-4 * 8**0.5)}
    assert bundle().changes(2, BASE)["optim.lr"] == pytest.approx(0.5e-4)
    assert bundle(scale_with={"optim.lr": "linear"}).changes(64, BASE)["optim.lr"] == pytest.approx(8e-4)
    assert bundle().label(64) == "bundle=64"


def test_a_key_that_takes_whole_numbers_stays_whole_or_is_refused() -> None:
    passes = bundle(keys=["data.batch_size", "train.grad_accum_steps"], scale_with={"train.grad_accum_steps": "linear"})
    value = passes.changes(2, BASE)["train.grad_accum_steps"]
    assert (value, type(value)) == (1, int)
    with pytest.raises(
        AxisError, match=r"train\.grad_accum_steps takes whole numbers, and the rule 'linear' makes 1\.5 of 4"
    ):
        passes.changes(3, BASE)


def test_what_has_no_ratio_is_refused_with_the_value_that_was_found() -> None:
    with pytest.raises(
        AxisError,
        match=r"needs a number other than 0 at optim\.warmup_ratio, and the baseline has optim\.warmup_ratio=0",
    ):
        bundle(keys=["data.batch_size", "optim.warmup_ratio"], scale_with={"optim.warmup_ratio": "linear"}).changes(
            64, BASE
        )
    with pytest.raises(AxisError, match=r"optim\.lr follows data\.batch_size, and 8 -> -8 has no positive ratio"):
        bundle(values=[-8]).changes(-8, BASE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale_with": {"optim.lr": "cubic"}}, r"by the rule 'cubic', which is none of linear, sqrt"),
        ({"scale_with": {"optim.wd": "sqrt"}}, r"scale_with names 'optim\.wd', which is not in its `keys`"),
        ({"scale_with": {"data.batch_size": "sqrt"}}, r"which is the first of its `keys`, which the others follow"),
        ({"scale_with": "sqrt"}, r"scale_with is 'sqrt', expected a mapping"),
        (
            {"keys": ["data.batch_size", "optim.lr", "seed"]},
            r"moves seed and does not say how it follows data\.batch_size",
        ),
        ({"values": ["64 samples"]}, r"other keys follow data\.batch_size, and 64 samples has no ratio to it"),
    ],
)
def test_a_bundle_that_cannot_be_is_refused_when_its_file_is_read(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(AxisError, match=message):
        bundle(**fields)


def plan(axis: Axis, changed: dict[str, Any]) -> Plan:
    arms = (
        Arm(name="baseline", config=BASE),
        Arm(name="arm", axis=axis.name, value=axis.values[0], kind=axis.kind, config={**BASE, **changed}),
    )
    return Plan(study="s", question="", metric="eval_loss", smallest_effect=0.1, seeds=(0,), axes=(axis,), arms=arms, runs=(),
                code_digest="")  # fmt: skip


def test_a_bundle_says_all_its_keys_the_leading_one_first() -> None:
    both = {"data": {"batch_size": 64}, "optim": {"lr": 1e-4 * 8**0.5, "warmup_ratio": 0.0}}
    made = plan(bundle(), both)
    assert made.bundle(made.arms[1]) == "bundle: data.batch_size 8 -> 64, optim.lr 0.0001 -> 0.000283"
    assert made.bundle(made.baseline) == ""


def test_two_plain_values_of_a_level_are_a_bundle_as_well() -> None:
    mapping = bundle(values=[{"data.batch_size": 64, "optim.lr": 2e-4}], scale_with={})
    made = plan(mapping, {"data": {"batch_size": 64}, "optim": {"lr": 2e-4, "warmup_ratio": 0.0}})
    assert made.bundle(made.arms[1]).startswith("bundle: data.batch_size 8 -> 64, optim.lr 0.0001 -> 0.0002")


def test_one_key_is_no_bundle_and_neither_is_a_placebo() -> None:
    one = plan(bundle(keys=["data.batch_size"], scale_with={}), {"data": {"batch_size": 64}})
    assert one.bundle(one.arms[1]) == ""
    chance = bundle(kind="placebo", values=[{"data.batch_size": 64, "optim.lr": 2e-4}], scale_with={})
    made = plan(chance, {"data": {"batch_size": 64}, "optim": {"lr": 2e-4, "warmup_ratio": 0.0}})
    assert made.bundle(made.arms[1]) == ""

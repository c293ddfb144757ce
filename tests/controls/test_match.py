"""What must be equal between arms is checked to be equal, or named."""

from __future__ import annotations

from typing import Any

import pytest

from ablate.controls.fingerprint_match import differences, match, match_baseline
from ablate.design.axis import Axis
from ablate.records.metadata import Fingerprint

AXIS = Axis(
    name="batch_size",
    question="?",
    kind="training",
    keys=("data.batch_size",),
    values=(64,),
    may_change=("optimizer.lr",),
    must_match=("init", "order"),
)


def made(**items: Any) -> Fingerprint:
    whole = {
        "init": {"encoder.layer.0": "a" * 64, "head": "b" * 64},
        "order": {"64": "c", "128": "d", "256": "e"},
        "optimizer": {"name": "AdamW", "group 0": {"lr": 5e-5, "weight_decay": 0.01}},
        "environment": {"device": "cpu", "num_threads": 1, "deterministic": True},
    }
    return Fingerprint(items=whole | items)


def seeds(*fingerprints: Fingerprint | None) -> dict[int, Fingerprint | None]:
    return dict(enumerate(fingerprints))


def test_equal_fingerprints_are_checked_and_listed_as_held() -> None:
    control = match("batch_size=64", AXIS, baseline=seeds(made(), made()), fingerprints=seeds(made(), made()))
    assert control.status == "checked"
    assert control.held == ("environment", "order", "init", "optimizer")
    assert control.derived == {}


def test_rates_are_a_matter_of_each_run_and_are_not_called_equal() -> None:
    left, right = made(rates={"8": 0.1}), made(rates={"1": 0.2})
    control = match("batch_size=64", AXIS, baseline=seeds(left), fingerprints=seeds(right))
    assert control.status == "checked"
    assert "rates" not in control.held


def test_the_first_step_may_differ_in_its_last_digits_and_no_more() -> None:
    base, near, far = (made(first_step={"loss": 0.7, "grad_norm": norm}) for norm in (2.0, 2.0001, 2.001))
    assert match("a", AXIS, baseline=seeds(base), fingerprints=seeds(near)).status == "checked"
    control = match("a", AXIS, baseline=seeds(base), fingerprints=seeds(far))
    assert "seed 0: first_step.grad_norm (2.0 -> 2.001) differs" in control.sentence


def test_of_several_differences_the_cause_is_named_and_not_what_follows_from_it() -> None:
    other = made(precision={"autocast": "bf16"}, first_step={"loss": 0.1}, loss_at_start={"loss": 0.2})
    base = made(precision={"autocast": "off"}, first_step={"loss": 0.7}, loss_at_start={"loss": 0.7})
    control = match("a", AXIS, baseline=seeds(base), fingerprints=seeds(other))
    assert "seed 0: precision.autocast (off -> bf16) differs" in control.sentence
    assert control.sentence.endswith("so do 2 other values")


def test_what_is_counted_in_the_run_and_was_not_declared_names_the_file_and_both_ways_out() -> None:
    control = match("a", AXIS, baseline=seeds(made(tokens_seen=100)), fingerprints=seeds(made(tokens_seen=90)))
    assert control.sentence == (
        "contaminated: a, seed 0: tokens_seen (100 -> 90) differs from the baseline's, and axis batch_size does not accept "
        "it: add tokens_seen to `may_change` of axis/batch_size.yaml if it belongs to the change, or keep it equal and add it "
        "to `must_match`"
    )


def test_a_difference_nobody_declared_names_arm_seed_item_leaf_and_both_values() -> None:
    other = made(init={"encoder.layer.0": "f" * 64, "head": "b" * 64})
    control = match("batch_size=64", AXIS, baseline=seeds(made(), made()), fingerprints=seeds(made(), other))
    assert control.status == "failed"
    assert (
        "contaminated: batch_size=64, seed 1: init.encoder.layer.0 (aaaaaaaaaaaa -> ffffffffffff)" in control.sentence
    )
    assert "axis batch_size promises to hold it" in control.sentence


def test_an_item_that_is_neither_held_nor_accepted_contaminates_too() -> None:
    control = match(
        "batch_size=64",
        AXIS,
        baseline=seeds(made()),
        fingerprints=seeds(made(optimizer={"name": "AdamW", "group 0": {"lr": 5e-5, "weight_decay": 0.0}})),
    )
    assert control.status == "failed"
    assert "optimizer.group 0.weight_decay (0.01 -> 0.0)" in control.sentence
    assert "axis batch_size does not accept it" in control.sentence


def test_one_accepted_leaf_may_differ_and_is_shown_with_both_values() -> None:
    moved = made(optimizer={"name": "AdamW", "group 0": {"lr": 1e-4, "weight_decay": 0.01}})
    control = match("batch_size=64", AXIS, baseline=seeds(made()), fingerprints=seeds(moved))
    assert control.status == "checked"
    assert control.derived == {"optimizer.group 0.lr": [5e-5, 1e-4]}
    assert "optimizer" not in control.held


def test_a_promise_outweighs_a_permission() -> None:
    both = Axis(
        name="x",
        question="?",
        kind="training",
        keys=("a.b",),
        values=(1,),
        may_change=("init",),
        must_match=("init.head",),
    )
    other = made(init={"encoder.layer.0": "a" * 64, "head": "f" * 64})
    assert match("x=1", both, baseline=seeds(made()), fingerprints=seeds(other)).status == "failed"


def test_orders_are_compared_where_both_have_counted() -> None:
    short = made(order={"64": "c", "128": "d"})
    assert match("a", AXIS, baseline=seeds(made()), fingerprints=seeds(short)).status == "checked"
    other = made(order={"64": "c", "128": "z"})
    assert "order.128 (d -> z)" in match("a", AXIS, baseline=seeds(made()), fingerprints=seeds(other)).sentence


def test_orders_without_a_common_count_prove_nothing() -> None:
    control = match("a", AXIS, baseline=seeds(made()), fingerprints=seeds(made(order={"512": "q"})))
    assert control.status == "unverified"
    assert "no common count" in control.sentence


def test_a_missing_fingerprint_is_unverified_and_the_seed_is_named() -> None:
    control = match("a", AXIS, baseline=seeds(made(), made()), fingerprints=seeds(made(), None))
    assert control.status == "unverified"
    assert "seed 1" in control.sentence


def test_arms_without_a_common_seed_are_unverified() -> None:
    control = match("a", AXIS, baseline={0: made()}, fingerprints={1: made()})
    assert control.status == "unverified"
    assert "no seed in which both" in control.sentence


def test_a_promise_that_no_fingerprint_can_keep_is_unverified() -> None:
    holds = Axis(
        name="x", question="?", kind="training", keys=("a.b",), values=(1,), must_match=("splits", "samples_seen")
    )
    control = match("x=1", holds, baseline=seeds(made()), fingerprints=seeds(made()))
    assert control.status == "unverified"
    assert "promises to hold splits, which the fingerprints do not have" in control.sentence


def test_the_environment_is_held_against_the_baseline_although_no_axis_says_so() -> None:
    other = made(environment={"device": "cuda", "num_threads": 1, "deterministic": True})
    control = match("a", AXIS, baseline=seeds(made()), fingerprints=seeds(other))
    assert control.status == "failed"
    assert "environment.device (cpu -> cuda)" in control.sentence


def test_seeds_of_one_arm_in_two_environments_are_a_contamination() -> None:
    other = made(environment={"device": "cpu", "num_threads": 4, "deterministic": True})
    arm = match("a", AXIS, baseline=seeds(made(), other), fingerprints=seeds(made(), other))
    baseline = match_baseline("baseline", seeds(made(), other))
    assert arm.status == baseline.status == "failed"
    assert "seed 1: environment.num_threads (1 -> 4) differs from its own seed 0" in baseline.sentence


def test_the_baseline_is_verified_only_with_every_fingerprint() -> None:
    assert match_baseline("baseline", seeds(made(), made())).status == "checked"
    assert match_baseline("baseline", seeds(made(), None)).status == "unverified"
    assert match_baseline("baseline", {}).status == "unverified"


@pytest.mark.parametrize(
    ("left", "right", "paths"),
    [
        ({"a": {"x": 1}}, {"a": {"x": 1}}, []),
        ({"a": {"x": 1}}, {"a": {}}, ["a.x"]),
        ({"a": {"x": True}}, {"a": {"x": 1}}, ["a.x"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a.1"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a"]),
        ({}, {"a": None}, ["a"]),
        ({"a": {"x": None}}, {"a": {"x": "absent"}}, ["a.x"]),
        ({"order": {"64": "p"}}, {}, []),
    ],
)
def test_differences_are_found_leaf_by_leaf(left: dict[str, Any], right: dict[str, Any], paths: list[str]) -> None:
    assert [difference.path for difference in differences(left, right)] == paths

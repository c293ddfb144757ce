from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ablate.design.axis import Axis
from ablate.design.axis_files import ad_hoc_axis, at_equal, execution_order

ARMS = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)


@given(ARMS, st.integers(1, 6), st.integers(0, 99))
def test_every_arm_meets_every_seed_once_seed_by_seed(arms, num_seeds, arm_order_seed):
    runs = execution_order(arms, range(num_seeds), arm_order_seed)
    assert Counter(runs) == Counter((arm, seed) for arm in arms for seed in range(num_seeds))
    assert [seed for _, seed in runs] == sorted(seed for _, seed in runs)


@given(ARMS, st.randoms(use_true_random=False))
def test_the_order_depends_on_the_recorded_seed_alone(arms, random):
    shuffled = list(arms)
    random.shuffle(shuffled)
    assert execution_order(arms, range(3), 7) == execution_order(shuffled, range(3), 7)


def test_arms_are_shuffled_within_each_seed():
    arms = [f"arm{k}" for k in range(6)]
    runs = execution_order(arms, range(8), 0)
    blocks = {tuple(arm for arm, at in runs if at == seed) for seed in range(8)}
    assert len(blocks) == 8
    assert runs != execution_order(arms, range(8), 1)


def test_a_swept_key_takes_the_declarations_of_the_axis_that_moves_it():
    known = Axis(
        name="learning_rate",
        question="Too low?",
        kind="training",
        keys=("optim.lr",),
        values=(1e-4,),
        may_change=("optimizer",),
    )
    axis = ad_hoc_axis("optim.lr", (1e-3,), [known])
    assert (axis.name, axis.question, axis.may_change, axis.values) == (
        "learning_rate",
        "Too low?",
        ("optimizer",),
        (1e-3,),
    )


def test_a_swept_key_without_an_axis_accepts_what_such_a_key_brings():
    assert "optimizer" in ad_hoc_axis("optim.beta2", (0.98,), []).may_change
    assert "init" not in ad_hoc_axis("optim.beta2", (0.98,), []).may_change
    assert "init" in ad_hoc_axis("model.name", ("x",), []).may_change
    assert "init" not in ad_hoc_axis("model.dropout", (0.0,), []).may_change
    assert ad_hoc_axis("tracker.log_every", ("10 steps",), []).kind == "observation"


def test_under_a_budget_in_steps_a_larger_batch_holds_the_steps_and_changes_the_samples() -> None:
    axis = Axis(
        name="batch_size",
        question="?",
        kind="training",
        keys=("data.batch_size",),
        values=(64,),
        may_change=("total_steps", "warmup_steps", "effective_batch"),
        must_match=("samples_seen", "epochs", "tokens_seen", "init"),
    )
    found = at_equal("steps", axis)
    assert {"total_steps", "warmup_steps", "init"} == set(found.must_match)
    assert {"effective_batch", "samples_seen", "epochs", "tokens_seen", "flops", "evaluations"} == set(found.may_change)
    other = replace(axis, keys=("optim.lr",))
    assert at_equal("steps", other) == other

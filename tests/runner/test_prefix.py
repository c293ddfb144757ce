"""How far two configs are provably one run: against a step-by-step simulation of what the loop would do, and by example."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablate.config.schema import Config, make_config
from ablate.planning.shared_prefix import FEWEST_STEPS, HARMLESS, Shared, shared_prefix
from ablate.training.lr_schedule import Schedule, looks
from ablate.units import parse_interval

NUM_TRAIN = 300


def config(**values: Any) -> dict[str, Any]:
    """The default config with a constant rate, and leaves set by `group__key`."""
    made: dict[str, Any] = asdict(Config())
    for dotted, value in {"optim__lr_schedule": "constant", **values}.items():
        group, _, key = dotted.rpartition("__")
        (made[group] if group else made)[key] = value
    return made


def course(values: dict[str, Any]) -> list[tuple[int, float, bool]]:
    """Of every step: samples seen after it, factor on the rate, whether a look follows. As `loop.train` goes about it."""
    typed = make_config(values)
    size = typed.samples_per_step
    sizes = {"samples_per_step": size, "samples_per_epoch": NUM_TRAIN}
    total = typed.budget.samples(**sizes)
    observe = typed.eval
    every = parse_interval(evaluation.every, key="every")
    due = looks(every=every, spacing=evaluation.spacing, count=evaluation.num_evaluations, total_samples=total, **sizes)
    schedule = Schedule(typed.optim.lr_schedule, typed.optim.warmup_ratio, total_steps=-(-total // size))
    steps, seen = [], 0
    for step in range(1, schedule.total_steps + 1):
        before, seen = seen, min(total, seen + size)
        steps.append((seen, schedule.step_factor(step), any(before < point <= seen for point in due)))
    return steps


courses = st.fixed_dictionaries(
    {
        "train__budget": st.sampled_from(
            ["512 samples", "500 samples", "64 steps", "1 epochs", "2 epochs", "1024 samples"]
        ),
        "optim__lr_schedule": st.sampled_from(["constant", "linear", "cosine"]),
        "optim__warmup_ratio": st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    }
)
watched = st.fixed_dictionaries(
    {
        "eval__every": st.sampled_from(["64 samples", "50 samples", "0.3 epochs", "7 steps"]),
        "eval__spacing": st.sampled_from(["even", "even", "log"]),
        "eval__num_evaluations": st.sampled_from([1, 3]),
        "data__batch_size": st.sampled_from([4, 8]),
    }
)


PARTIAL = {"eval__every": "50 samples", "data__batch_size": 8}
"""Both look after step 63, at 500 samples, which is half a step of one run and a whole one of the other."""


@settings(max_examples=300, deadline=None)
@given(courses, courses, watched)
@example({"train__budget": "500 samples"}, {"train__budget": "512 samples"}, PARTIAL)
@example({"train__budget": "512 samples"}, {"train__budget": "500 samples"}, PARTIAL)
def test_the_shared_steps_are_one_course_and_the_next_step_is_not(
    ours: dict[str, Any], theirs: dict[str, Any], common: dict[str, Any]
) -> None:
    sibling, arm = config(**theirs, **common), config(**ours, **common)
    shared = shared_prefix(sibling, arm, NUM_TRAIN)
    left, right = course(sibling), course(arm)
    if not shared.step:
        same = [one[:2] == other[:2] for one, other in zip(left, right, strict=False)]
        differs = next((k for k, (one, other) in enumerate(zip(left, right, strict=False)) if one != other), len(same))
        assert ours == theirs or differs < FEWEST_STEPS
        return
    last = shared.step - 1
    assert left[:last] == right[:last]
    assert left[last][:2] == right[last][:2]
    assert left[last][2] <= right[last][2]  # a look of the arm's own, after the last shared step, it makes itself
    if left[last] == right[last] and shared.step < min(len(left), len(right)):
        assert left[shared.step] != right[shared.step]


CLIPPED = np.array([0.5] * 20 + [0.999_999, 0.5, 3.0] + [0.5] * 41, dtype=np.float32)


@pytest.mark.parametrize(
    ("sibling", "arm", "norms", "step"),
    [
        (1.0, None, [0.5] * 64, 64),
        (None, 1.0, [0.5] * 64, 64),
        (1.0, None, CLIPPED, 20),  # 0.999999 is below 1, and too near to say how fp32 rounds
        (2.0, 1e9, CLIPPED, 22),
        (5.0, 4.0, CLIPPED, 64),
        (0.1, None, [0.05] * 11 + [0.2] * 53, 11),
        (0.1, None, [0.05] * 9 + [0.2] * 55, 0),
        (1.0, None, [0.5] * 12 + [np.nan] + [0.5] * 51, 12),
        (1.0, None, [0.5] * 12 + [np.inf], 12),
        (1.0, None, [0.5] * 30, 30),  # a sibling that diverged has fewer steps
    ],
)
def test_clip_norms_are_alike_until_one_of_them_acts(sibling: Any, arm: Any, norms: Any, step: int) -> None:
    configs = [config(train__budget="512 samples", train__max_grad_norm=limit) for limit in (sibling, arm)]
    found = shared_prefix(*configs, NUM_TRAIN, np.asarray(norms, dtype=np.float32))
    assert (found.step, found.clips_at) == (step, None)
    bound = shared_prefix(*configs, NUM_TRAIN)
    assert (bound.step, bound.may_differ) == (64, ("max_grad_norm",))
    assert bound.clips_at is not None
    assert bound.clips_at < min(limit for limit in (sibling, arm) if limit is not None)


def test_a_norm_that_both_clip_norms_leave_alone_gets_the_coefficient_one() -> None:
    """What the proof rests on, from the loop's own arithmetic: below `clips_at` the coefficient is exactly 1."""
    import torch

    from ablate.training.grad_norms import GradNorms

    layer = torch.nn.Linear(2, 2)
    norms = GradNorms(layer)
    for limit in (1.0, 0.1, 3e-4, 7.3, 1e6):
        bound = shared_prefix(config(train__max_grad_norm=limit), config(train__max_grad_norm=None), NUM_TRAIN).clips_at
        assert bound is not None
        for norm, clipped in ((np.nextafter(np.float32(bound), np.float32(0)), False), (limit * 1.001, True)):
            layer(torch.ones(1, 2)).sum().backward()
            norms.measure()
            assert (float(norms.clip(torch.tensor(norm), limit)) < 1.0) == clipped


def test_combinations_end_where_the_first_of_them_does() -> None:
    sibling = config(train__budget="512 samples", train__max_grad_norm=1.0)
    arm = config(train__budget="1024 samples", train__max_grad_norm=None)
    bound = shared_prefix(sibling, arm, NUM_TRAIN)
    assert (bound.step, bound.may_differ) == (64, ("budget", "max_grad_norm", "schedule"))
    assert shared_prefix(sibling, arm, NUM_TRAIN, CLIPPED).step == 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "the same config"),
        ({"study__seeds": 3, "checkpoint__every": None, "tracker__log_every": "5 steps"}, "the same config"),
        ({"rerun": 1}, "repeat may act from the first step on"),
        ({"optim__lr": 1e-4}, "optim.lr may act"),
        ({"train__max_grad_norm": None, "train__grad_accum_steps": 2}, "train.grad_accum_steps may act"),
        ({"train__max_skipped_steps": 3}, "train.max_skipped_steps may act"),
        ({"optim__lr_schedule": "linear"}, "the learning rate differs at step 1: too early"),
        ({"optim__warmup_ratio": 0.1}, "the learning rate differs at step 1: too early"),
    ],
)
def test_what_shares_nothing_says_why(changes: dict[str, Any], words: str) -> None:
    found = shared_prefix(config(), config(**changes), NUM_TRAIN)
    assert found.step == 0
    assert found.may_differ == ()
    assert words in found.reason


def test_a_task_of_ones_own_may_read_any_key() -> None:
    pair = [config(train__max_grad_norm=limit) for limit in (1.0, None)]
    for one in pair:
        one["task"] = {"name": "custom", "target": "mine:task", "options": {}}
    assert (
        shared_prefix(*pair, NUM_TRAIN).reason
        == "mine:task is given the whole config, and may read train.max_grad_norm"
    )


def test_a_compiled_model_remembers_its_shapes() -> None:
    pair = [config(train__max_grad_norm=limit, train__compile=True) for limit in (1.0, None)]
    assert "shapes that it has seen" in shared_prefix(*pair, NUM_TRAIN).reason


def test_the_harmless_leaves_are_leaves_and_their_items_are_of_a_set_up(tmp_path: Any) -> None:
    """A key or an item that is renamed must not silently end the sharing, or begin to share too much."""
    from ablate import Checkpoints
    from ablate.serialization import read_json
    from tests.training.toy import run

    flat = {f"{group}.{key}" for group, keys in config().items() if isinstance(keys, dict) for key in keys}
    assert set(HARMLESS) <= flat
    run(folder=tmp_path, budget="2 steps", checkpoints=Checkpoints())
    setup = read_json(tmp_path / "checkpoint/step=2/state.json")["setup"]
    assert {item for items in HARMLESS.values() for item in items} <= set(setup)


def test_a_long_schedule_is_compared_in_a_moment() -> None:
    long = [
        config(train__budget="200000 steps", optim__lr_schedule=shape, optim__warmup_ratio=0.1)
        for shape in ("linear", "cosine")
    ]
    began = time.perf_counter()
    assert shared_prefix(*long, NUM_TRAIN).step == 20_000
    assert time.perf_counter() - began < 2


def test_the_configs_are_left_as_they_are() -> None:
    sibling, arm = config(), config(train__budget="2048 samples")
    before = copy.deepcopy((sibling, arm))
    found = shared_prefix(sibling, arm, NUM_TRAIN)
    assert isinstance(found, Shared)
    assert (sibling, arm) == before


def test_gradient_noise_parts_at_the_first_step_and_shares_as_much_where_both_have_it() -> None:
    """What is drawn is a function of the seed and the step alone."""
    noisy = config(train__noise_batch_size=4, train__budget="1024 samples")
    assert shared_prefix(config(train__budget="1024 samples"), noisy, NUM_TRAIN).step == 0
    assert (
        "train.noise_batch_size may act" in shared_prefix(config(train__budget="1024 samples"), noisy, NUM_TRAIN).reason
    )
    shorter = config(train__noise_batch_size=4, train__budget="512 samples")
    plain = shared_prefix(config(train__budget="1024 samples"), config(train__budget="512 samples"), NUM_TRAIN)
    assert shared_prefix(noisy, shorter, NUM_TRAIN).step == plain.step > 0

"""The planner's counts are the loop's counts."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.config.schema import Config, DataConfig, EvalConfig, OptimConfig, TrainConfig
from ablate.design.derived import DERIVED, derive
from ablate.training.lr_schedule import LRSchedule
from ablate.units import evaluation_points, parse_interval


@dataclass(frozen=True)
class Sizes:
    num_train: int = 1000
    num_eval: int = 256


def test_the_offline_default():
    config = Config(eval=EvalConfig(max_examples=256))
    assert derive(config, Sizes()) == {
        "steps_per_epoch": 125.0,
        "total_steps": 128,
        "warmup_steps": 0,
        "schedule_steps": 128,
        "evaluations": 17,
        "effective_batch": 8,
        "samples_seen": 1024,
        "epochs": 1.024,
        "train_examples": 1000,
        "eval_examples": 256,
    }


def test_all_of_the_vocabulary_is_derived():
    assert tuple(derive(Config(), Sizes())) == DERIVED


@pytest.mark.parametrize("spacing", ["even", "log"])
@given(
    batch_size=st.integers(1, 70),
    grad_accum_steps=st.integers(1, 3),
    budget=st.integers(1, 3000),
    every=st.sampled_from(["64 samples", "7 steps", "0.1 epochs", "1 samples", "5000 samples"]),
    count=st.integers(1, 30),
    warmup=st.floats(0, 1),
)
def test_the_loop_takes_these_steps_and_these_looks(
    spacing, batch_size, grad_accum_steps, budget, every, count, warmup
):
    config = Config(
        data=DataConfig(batch_size=batch_size),
        train=TrainConfig(budget=f"{budget} samples", grad_accum_steps=grad_accum_steps),
        eval=EvalConfig(every=every, spacing=spacing, num_evaluations=count),
        optim=OptimConfig(warmup_ratio=warmup, lr_schedule="constant"),
    )
    size = batch_size * grad_accum_steps
    due = evaluation_points(
        every=parse_interval(every, key="every"), spacing=spacing, count=count,
        total_samples=budget, samples_per_step=size, samples_per_epoch=1000,
    )  # fmt: skip
    found = derive(config, Sizes())
    assert found["total_steps"] == -(-budget // size)
    assert found["evaluations"] == 1 + len({-(-samples // size) for samples in due})
    steps = int(found["total_steps"])
    rising = [step for step in range(1, steps + 1) if LRSchedule("constant", warmup).step_factor(step, steps) < 1]
    assert found["warmup_steps"] == len(rising)
    assert found["samples_seen"] == budget

"""Every shape against torch's own schedule, read between its steps, and against what the control works out anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from ablate.config.schema import SCHEDULES, OptimConfig
from ablate.controls.declared_settings import _SHAPES
from ablate.errors import ConfigError, LoopError
from ablate.training.lr_schedule import SHAPES, LRSchedule
from ablate.training.run_recorder import Recording
from ablate.training.validation import check_can_train
from tests.training.toy import network

STEPS, PEAK = 40, 3e-3


def wsd(optimizer: torch.optim.Optimizer, steps: int) -> theirs.LRScheduler:
    stable, last = int(0.8 * steps), steps - int(0.8 * steps)
    parts = [
        theirs.ConstantLR(optimizer, factor=1.0),
        theirs.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=last),
    ]
    return theirs.SequentialLR(optimizer, parts, milestones=[stable])


TORCH: dict[str, Callable[[torch.optim.Optimizer, int], theirs.LRScheduler]] = {
    "constant": lambda optimizer, steps: theirs.ConstantLR(optimizer, factor=1.0),
    "linear": lambda optimizer, steps: theirs.LinearLR(optimizer, 1.0, 0.0, total_iters=steps),
    "cosine": lambda optimizer, steps: theirs.CosineAnnealingLR(optimizer, steps),
    "wsd": wsd,
    "multistep": lambda optimizer, steps: theirs.MultiStepLR(optimizer, [steps // 2, 3 * steps // 4]),
}

ENDING: dict[str, Callable[..., theirs.LRScheduler]] = {
    "linear": lambda optimizer, steps, ratio: theirs.LinearLR(optimizer, 1.0, ratio, total_iters=steps),
    "cosine": lambda optimizer, steps, ratio: theirs.CosineAnnealingLR(optimizer, steps, eta_min=ratio * PEAK),
}


def rates(ours: LRSchedule, torchs: Callable[..., theirs.LRScheduler]) -> tuple[list[float], list[float]]:
    """Rates of our steps, and torch's at the middle of each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=PEAK)
    scheduler, expected = torchs(optimizer, 2 * STEPS), []
    for _ in range(2 * STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [PEAK * ours.step_factor(step, STEPS) for step in range(1, STEPS + 1)], expected[1::2]


def check(schedule: LRSchedule) -> None:
    model = network(0)
    check_can_train(
        model, torch.optim.SGD(model.parameters()), [1], max_grad_norm=None, batch_size=1, grad_accum_steps=1,
        lr_schedule=schedule, recording=Recording(), checkpoint=None, run_dir=None,
    )  # fmt: skip


@pytest.mark.parametrize("shape", SCHEDULES)
def test_it_is_torchs_schedule_at_the_middle_of_each_step(shape: str) -> None:
    """Torch's has twice as many steps, so that every other one of them is the middle of one of ours."""
    np.testing.assert_allclose(*rates(LRSchedule(shape), TORCH[shape]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", ENDING)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_it_ends_at_the_ratio_that_torchs_schedule_ends_at(shape: str, ratio: float) -> None:
    ours, theirs_ = rates(LRSchedule(shape, min_lr_ratio=ratio), partial(ENDING[shape], ratio=ratio))
    np.testing.assert_allclose(ours, theirs_, rtol=1e-9, atol=1e-12)
    assert LRSchedule(shape, 0.2, ratio).factor(1.0) == pytest.approx(ratio)
    assert LRSchedule(shape, 0.2, ratio).factor(0.1) == 0.5, "warm-up still begins at 0"


@pytest.mark.parametrize("shape", sorted(set(SCHEDULES) - set(ENDING)))
def test_a_ratio_is_refused_with_a_shape_that_does_not_decay_to_it(shape: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected optim\.min_lr_ratio=0 with optim\.lr_schedule={shape}, got 0\.1"):
        OptimConfig(lr_schedule=shape, min_lr_ratio=0.1)
    OptimConfig(lr_schedule=shape, min_lr_ratio=0.0)
    with pytest.raises(LoopError, match=f"expected min_lr_ratio=0 with the schedule '{shape}', got 0.1"):
        check(LRSchedule(shape, min_lr_ratio=0.1))


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match=r"optim\.min_lr_ratio=.* is out of range: expected at least 0 and at most 1"):
        OptimConfig(min_lr_ratio=ratio)
    with pytest.raises(LoopError, match="expected min_lr_ratio from 0 to 1"):
        check(LRSchedule("cosine", min_lr_ratio=ratio))


@pytest.mark.parametrize("shape", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_warm_up_comes_first_and_the_whole_shape_after_it(shape: str, warmup: float) -> None:
    schedule = LRSchedule(shape, warmup)
    assert schedule.factor(warmup / 2) == (0.5 if warmup else 1.0)
    for done in (0.0, 0.3, 0.6, 0.85, 1.0):
        assert schedule.factor(warmup + done * (1 - warmup)) == pytest.approx(SHAPES[shape](done), abs=1e-9)


def test_the_control_works_out_every_shape_that_the_loop_has() -> None:
    done = np.linspace(0, 1, 101)
    assert set(_SHAPES) == set(SHAPES) == set(SCHEDULES)
    for shape, control in _SHAPES.items():
        np.testing.assert_allclose(control(done), [SHAPES[shape](one) for one in done], atol=1e-12, err_msg=shape)


def test_a_shape_that_there_is_not_is_refused_with_what_was_meant() -> None:
    with pytest.raises(LoopError, match="lr_schedule='cosin': did you mean 'cosine'"):
        check(LRSchedule("cosin"))

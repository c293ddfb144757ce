"""Every shape against torch's own schedule, read between its steps, and against what the control works out anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from ablate.config.schema import SCHEDULES
from ablate.controls.declared_settings import _SHAPES
from ablate.errors import LoopError
from ablate.training.lr_schedule import SHAPES, Schedule
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
    "cosine_to_tenth": lambda optimizer, steps: theirs.CosineAnnealingLR(optimizer, steps, eta_min=0.1 * PEAK),
    "wsd": wsd,
    "step": lambda optimizer, steps: theirs.MultiStepLR(optimizer, [steps // 2, 3 * steps // 4]),
}


@pytest.mark.parametrize("shape", SCHEDULES)
def test_it_is_torchs_schedule_at_the_middle_of_each_step(shape: str) -> None:
    """Torch's has twice as many steps, so that every other one of them is the middle of one of ours."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=PEAK)
    scheduler, rates = TORCH[shape](optimizer, 2 * STEPS), []
    for _ in range(2 * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [PEAK * Schedule(shape, 0.0, STEPS).step_factor(step) for step in range(1, STEPS + 1)]
    np.testing.assert_allclose(ours, rates[1::2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_warm_up_comes_first_and_the_whole_shape_after_it(shape: str, warmup: float) -> None:
    schedule = Schedule(shape, warmup, STEPS)
    assert schedule.factor(warmup / 2) == (0.5 if warmup else 1.0)
    for done in (0.0, 0.3, 0.6, 0.85, 1.0):
        assert schedule.factor(warmup + done * (1 - warmup)) == pytest.approx(SHAPES[shape](done), abs=1e-9)


def test_the_control_works_out_every_shape_that_the_loop_has() -> None:
    done = np.linspace(0, 1, 101)
    assert set(_SHAPES) == set(SHAPES) == set(SCHEDULES)
    for shape, control in _SHAPES.items():
        np.testing.assert_allclose(control(done), [SHAPES[shape](one) for one in done], atol=1e-12, err_msg=shape)


def test_a_shape_that_there_is_not_is_refused_with_what_was_meant() -> None:
    model = network(0)
    with pytest.raises(LoopError, match="schedule='cosin': did you mean 'cosine'"):
        check_can_train(
            model, torch.optim.SGD(model.parameters()), [1], max_grad_norm=None, batch_size=1, grad_accum_steps=1,
            schedule="cosin", noise_scale=False, checkpoints=None, folder=None,
        )  # fmt: skip

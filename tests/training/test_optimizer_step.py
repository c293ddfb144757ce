"""The step that the host does not wait for, made to run on a CPU: the same decisions, taken on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ablate.training.lr_schedule import LRSchedule
from ablate.training.optimizer_step import LearningRate, skips_on_device
from ablate.training.precision import Precision

CPU = torch.device("cpu")
SCHEDULE, STEPS = LRSchedule("linear", 0.25), 8


def trajectory(optimizer: Any, precision: str, *, on_device: bool) -> tuple[list[bool], list[float], torch.Tensor]:
    """Eight steps on one weight matrix, the third and fifth with an infinite gradient."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
    chosen = optimizer([weight], lr=0.1, fused=True)
    amp = Precision(precision, CPU)
    rate = LearningRate(chosen, SCHEDULE, STEPS, device=CPU, on_device=on_device)
    applied, rates = [], []
    for step in range(8):
        loss = (weight.square().sum() + weight[0, 0]) * (float("inf") if step in (2, 4) else 1.0)
        amp.backward(loss)
        amp.unscale(chosen)
        rate.set()
        was_applied = amp.step(chosen, torch.linalg.vector_norm(weight.grad), on_device=on_device)
        rate.advance(was_applied)
        applied.append(bool(was_applied))
        rates.append(float(chosen.param_groups[0]["lr"]))
        chosen.zero_grad(set_to_none=True)
    rate.restore()
    assert chosen.param_groups[0]["lr"] == 0.1
    return applied, rates, weight.detach()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_decided_on_the_device_or_on_the_host_it_is_the_same(optimizer: Any, precision: str) -> None:
    applied, rates, there = trajectory(optimizer, precision, on_device=True)
    applied_here, rates_here, here = trajectory(optimizer, precision, on_device=False)
    assert applied == applied_here == [True, True, False, True, False, True, True, True]
    np.testing.assert_allclose(rates, rates_here, rtol=1e-6)  # the device holds the rate in fp32
    assert rates[2] == rates[3]  # a skipped step does not advance the schedule
    torch.testing.assert_close(there, here, rtol=1e-6, atol=1e-7)
    assert torch.isfinite(there).all()


def test_moments_and_step_counts_are_not_moved_by_a_skipped_step() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    amp = Precision("fp32", CPU)
    for gradient in (torch.ones(3), torch.full((3,), float("nan"))):
        weight.grad = gradient
        amp.step(optimizer, torch.linalg.vector_norm(gradient), on_device=True)
    state = optimizer.state[weight]
    assert state["step"] == 1
    assert torch.isfinite(state["exp_avg"]).all()


def test_the_host_waits_only_where_it_must() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    fused, plain = torch.optim.AdamW([weight], fused=True), torch.optim.AdamW([weight])
    assert skips_on_device(fused, torch.device("cuda"))
    assert not skips_on_device(fused, CPU)
    assert not skips_on_device(plain, torch.device("cuda"))

"""Between two flushes, the host asks the device for nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from ablate import Streams, train
from ablate.training.optimizer_step import Update
from tests.training.toy import network, objective, points, rows_as_on_a_gpu

READS = ("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of every reading of a tensor's value by Python; the loop takes the paths that it takes on a GPU."""
    seen: list[str] = []

    def spy(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def asked(self: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            seen.append(name)
            return original(self, *arguments, **named)

        return asked

    rows_as_on_a_gpu(monkeypatch)
    monkeypatch.setattr("ablate.training.train.Update", partial(Update, waits=False))
    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, spy(name))
    return seen


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_reads_no_tensor_until_its_block_is_full(reads: list[str], precision: str) -> None:
    """Two runs that differ in thirty steps and in no flush read equally often."""

    def count(steps: int) -> int:
        model = network(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        reads.clear()
        train(
            model, points(), objective, optimizer=optimizer, budget=steps, grad_accum_steps=2, schedule="linear",
            precision=precision, device="cpu", streams=Streams(seed=0), update_ratio=True, noise_scale=True,
            flush_every=100,
        )  # fmt: skip
        return len(reads)

    assert count(40) == count(10) > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_spy_sees_a_loop_that_reads_its_loss(reads: list[str], precision: str) -> None:
    """The count above can fail."""

    def curious(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        loss, number = objective(model, batch)
        float(loss.detach())
        return loss, number

    model = network(0)
    train(model, points(), curious, optimizer=torch.optim.AdamW(model.parameters(), fused=True), budget=40,
          precision=precision, device="cpu", flush_every=100)  # fmt: skip
    assert reads.count("__float__") >= 40

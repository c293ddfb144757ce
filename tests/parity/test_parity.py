"""`train` against the loop written by hand: losses, norms and weights, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate import Streams, train
from ablate.training.lr_schedule import Schedule
from ablate.training.random_streams import SampleOrder
from tests.parity.by_hand import train_by_hand
from tests.training.toy import network, objective, points

STEPS = 16


def batches(data: Any, *, batch_size: int, grad_accum_steps: int) -> list[list[Any]]:
    """The micro-batches of every step, in the order of the `order` stream."""
    order, made = SampleOrder(Streams(seed=0), np.arange(len(data))), []
    for step in range(STEPS):
        ids = order.take(step * batch_size * grad_accum_steps, batch_size * grad_accum_steps)
        made.append([data[ids[k : k + batch_size]] for k in range(0, len(ids), batch_size)])
    return made


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
@pytest.mark.parametrize("grad_accum_steps", [1, 3])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_losses_norms_and_weights_are_equal_bit_for_bit(
    precision: str, max_grad_norm: float | None, grad_accum_steps: int, schedule: str, optimizer: Any
) -> None:
    streams, ours, theirs = Streams(seed=0), network(0), network(0)
    warmup = 0.0 if schedule == "constant" else 0.25
    result = train(
        ours, points(), objective, optimizer=optimizer(ours.parameters(), lr=1e-2, fused=True), budget=STEPS,
        batch_size=8, grad_accum_steps=grad_accum_steps, schedule=schedule, warmup=warmup, max_grad_norm=max_grad_norm,
        precision=precision, device="cpu", streams=streams,
    )  # fmt: skip
    plan = Schedule(schedule, warmup, STEPS)
    losses, norms = train_by_hand(
        theirs, batches(points(), batch_size=8, grad_accum_steps=grad_accum_steps), objective,
        optimizer(theirs.parameters(), lr=1e-2, fused=True),
        rates=[1e-2 * plan.step_factor(step + 1) for step in range(STEPS)], max_grad_norm=max_grad_norm,
        autocast=torch.bfloat16 if precision == "bf16" else None,
        dropout=lambda step, micro: streams.scope("dropout", step, micro),
    )  # fmt: skip
    assert torch.equal(weights(ours), weights(theirs))
    assert result.trace["loss"].astype(np.float32).tolist() == losses
    assert result.trace["grad_norm"].astype(np.float32).tolist() == norms
    if max_grad_norm is not None:
        assert (result.trace["clip_coefficient"] < 1).any()


class Tokens(torch.utils.data.Dataset[Any]):
    """Sequences of unequal length, each token with a label of its own."""

    def __init__(self, num: int = 40) -> None:
        generator = np.random.Generator(np.random.Philox(key=3))
        lengths = generator.integers(1, 9, num)
        self.sequences = [torch.from_numpy(generator.normal(size=(n, 10))).float() for n in lengths]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, k: int) -> Any:
        return self.sequences[k], (self.sequences[k][:, 0] > 0).long()


def packed(samples: list[Any]) -> Any:
    return torch.cat([x for x, _ in samples]), torch.cat([y for _, y in samples])


@pytest.mark.parametrize("unit", ["sample", "token"])
@pytest.mark.parametrize("budget", ["32 samples", "30 samples", "27 samples"])
def test_accumulation_equals_the_big_batch(unit: str, budget: str) -> None:
    """4 x 4 against 16 at once, the last window whole, with a partial pass, and with a pass missing."""
    data, collate = (points(40), None) if unit == "sample" else (Tokens(), packed)
    results = []
    for batch_size, grad_accum_steps in ((16, 1), (4, 4)):
        model = network(0, dropout=0.0)
        results.append((model, train(
            model, data, objective, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, fused=True), budget=budget,
            batch_size=batch_size, grad_accum_steps=grad_accum_steps, max_grad_norm=0.3, device="cpu",
            **({} if collate is None else {"collate": collate}),
        )))  # fmt: skip
    (big, one), (small, many) = results
    assert many.outcome.step == one.outcome.step == 2
    for column in ("loss", "grad_norm", "clip_coefficient"):
        np.testing.assert_allclose(many.trace[column], one.trace[column], rtol=2e-6)
    torch.testing.assert_close(weights(small), weights(big), rtol=1e-5, atol=1e-7)
    assert one.trace["samples"].tolist() == many.trace["samples"].tolist()


def test_a_mean_of_micro_batch_means_would_have_been_another_gradient() -> None:
    """The check above can fail: with unequal token counts the usual shortcut is off by far more than rounding."""
    model, data = network(0, dropout=0.0), Tokens()
    pieces = [packed([data[k] for k in part]) for part in (range(4), range(8, 12))]
    assert len(pieces[0][1]) != len(pieces[1][1])

    def norm(losses: list[torch.Tensor]) -> float:
        model.zero_grad()
        sum(losses[1:], losses[0]).backward()
        return float(nn.utils.clip_grad_norm_(model.parameters(), float("inf")))

    sums = [objective(model, piece) for piece in pieces]
    exact = norm([loss / sum(count for _, count in sums) for loss, _ in sums])
    sums = [objective(model, piece) for piece in pieces]
    shortcut = norm([loss / count / len(sums) for loss, count in sums])
    assert abs(exact - shortcut) > 1e-3 * exact


def test_stale_gradients_of_the_caller_are_not_added_to_the_first_step() -> None:
    fresh, stale = network(0), network(0)
    stale(torch.ones(4, 10)).sum().backward()
    for model in (fresh, stale):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, points(), objective, optimizer=optimizer, budget=2, streams=Streams(seed=0), device="cpu")
    assert torch.equal(weights(fresh), weights(stale))

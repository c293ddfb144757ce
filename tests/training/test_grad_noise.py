"""The gradient of a large batch, as noisy as that of a small one: measured, not believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ablate import Streams, train
from ablate.errors import LoopError
from ablate.training.gradient_noise import GradNoise
from ablate.training.random_streams import SampleOrder
from tests.training.test_resume import rows, stopped_and_resumed
from tests.training.toy import evaluation, network, objective, points, run, sample_losses

POOL, BIG, SMALL = 48, 16, 4


def noisy(**settings: Any) -> tuple[nn.Module, Any]:
    return run(**{"noise_batch_size": 2, "sample_losses": sample_losses, "max_grad_norm": 0.5} | settings)


def each_gradient(model: nn.Module, num: int) -> NDArray[np.float64]:
    """Of each of the first `num` points by itself, [num, parameters]."""
    found = []
    for x, y in [points()[k] for k in range(num)]:
        grads = torch.autograd.grad(functional.cross_entropy(model(x[None]), y[None]), list(model.parameters()))
        found.append(torch.cat([grad.flatten() for grad in grads]).double().numpy())
    return np.stack(found)


class Kept(torch.optim.SGD):
    """Keeps the gradient of every step, and never moves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.0)
        self.kept: list[NDArray[np.float64]] = []

    def step(self, *_: Any) -> None:  # type: ignore[override]
        parts = [p.grad.flatten() for group in self.param_groups for p in group["params"]]
        self.kept.append(torch.cat(parts).double().numpy())


def gradients(steps: int, *, batch_size: int, of: int | None, **settings: Any) -> NDArray[np.float64]:
    """Of many steps at the same weights, [steps, parameters], from a pool of `POOL` points."""
    model = network(0, dropout=0.0)
    optimizer = Kept(model)
    pool = torch.utils.data.Subset(points(), range(POOL))
    train(
        model, pool, objective, optimizer=optimizer, budget=steps, batch_size=batch_size, noise_batch_size=of,
        sample_losses=sample_losses, streams=Streams(seed=3), device="cpu", precision="fp32", **settings,
    )  # fmt: skip
    return np.stack(optimizer.kept)


def exact(each: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    """Covariance of the mean of `num` samples that are drawn from the pool without replacement."""
    return np.asarray(np.cov(each, rowvar=False) * (1 / num - 1 / POOL))


def drawn_gradients(each: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Those of many steps at the same weights, from the places that the loop would draw (a test below holds it to that)."""
    noise, order = GradNoise(SMALL, sample_losses, Streams(seed=3)), SampleOrder(Streams(seed=3), np.arange(POOL))
    batches = (np.asarray(order.take(step * BIG, BIG)) for step in range(steps))
    return np.stack([each[batch[noise.drawn(step, BIG)]].mean(axis=0) for step, batch in enumerate(batches)])


def assert_noise(made: NDArray[np.float64], mean: NDArray[np.float64], wanted: float, *, within: float) -> None:
    """The mean square distance from the pool's gradient, within 3.5 standard errors, which are below `within` of it."""
    square = ((made - mean) ** 2).sum(axis=1)
    # Three batches of 16 make the pool exactly, so neighbours are not independent: blocks of 12 steps are.
    blocks = square[: len(square) // 12 * 12].reshape(-1, 12).mean(axis=1)
    error = blocks.std(ddof=1) / len(blocks) ** 0.5
    assert error < within * wanted
    assert abs(square.mean() - wanted) < 3.5 * error
    assert ((made.mean(axis=0) - mean) ** 2).sum() < 10 * wanted / len(made)


def test_the_covariance_is_the_small_batchs_within_monte_carlo_error() -> None:
    """All of it, and not its trace alone. Samples come from 48 without replacement, so that a batch of n has S (1/n - 1/48):
    5.5 times as much at 4 as at 16, where with replacement it would be 4 times."""
    each = each_gradient(network(0, dropout=0.0), POOL)
    wanted = exact(each, SMALL)
    made = drawn_gradients(each, 12_000)
    assert_noise(made, each.mean(axis=0), float(np.trace(wanted)), within=0.01)
    found = np.cov(made, rowvar=False)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)
    isotropic = np.eye(len(wanted)) * np.trace(wanted) / len(wanted)
    assert np.linalg.norm(isotropic - wanted) > 0.5 * np.linalg.norm(wanted)
    assert np.trace(exact(each, SMALL)) / np.trace(exact(each, BIG)) == pytest.approx(5.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "as_of"),
    [
        ({"batch_size": SMALL, "of": None}, SMALL),
        ({"batch_size": BIG, "of": None}, BIG),
        ({"batch_size": BIG, "of": SMALL}, SMALL),
        ({"batch_size": BIG // 2, "of": SMALL, "grad_accum_steps": 2}, SMALL),
    ],
    ids=["small", "big", "noisy", "noisy in two passes"],
)
def test_the_loops_own_gradients_have_that_noise(settings: dict[str, Any], as_of: int) -> None:
    each = each_gradient(network(0, dropout=0.0), POOL)
    made = gradients(1200, **settings)
    assert_noise(made, each.mean(axis=0), float(np.trace(exact(each, as_of))), within=0.05)


def test_a_step_is_that_of_the_samples_that_were_drawn() -> None:
    """Exactly, not on average."""
    each = each_gradient(network(0, dropout=0.0), POOL)
    made = gradients(3, batch_size=BIG, of=SMALL)
    noise = GradNoise(SMALL, sample_losses, Streams(seed=3))
    order = SampleOrder(Streams(seed=3), np.arange(POOL))
    for step in range(3):
        drawn = np.asarray(order.take(step * BIG, BIG))[noise.drawn(step, BIG)]
        assert len(drawn) == SMALL
        np.testing.assert_allclose(made[step], each[drawn].mean(axis=0), atol=1e-6)


def test_the_record_is_that_of_all_the_samples() -> None:
    """The first step's loss, the counts, the order and the first look are those without noise; its gradient is not."""
    settings: dict[str, Any] = {"evaluation": evaluation(), "max_grad_norm": None}
    _, plain = run(**settings)
    _, made = noisy(**settings)
    assert made.trace["loss"][0] == pytest.approx(plain.trace["loss"][0], rel=1e-6)
    for column in ("step", "samples", "epoch", "learning_rate", "tokens"):
        assert made.trace[column].tolist() == plain.trace[column].tolist()
    ours, theirs = made.fingerprint.items, plain.fingerprint.items
    for item in ("order", "init", "dropout", "loss_at_start", "optimizer", "schedule", "tokens_seen", "flops"):
        assert ours[item] == theirs[item], item
    assert ours["grad_noise"]["of"] == 2
    assert "grad_noise" not in theirs
    assert made.trace["grad_norm"].mean() > 1.2 * plain.trace["grad_norm"].mean()


def test_dropout_masks_stay() -> None:
    """At a dropout of one half, the first step's recorded loss is that of the run without noise."""
    _, plain = run(network(0, dropout=0.5))
    _, made = noisy(model=network(0, dropout=0.5), max_grad_norm=None)
    assert made.trace["loss"][0] == pytest.approx(plain.trace["loss"][0], rel=1e-6)


def test_sample_losses_that_are_not_asked_for_change_nothing() -> None:
    _, plain = run()
    _, given = run(sample_losses=sample_losses, streams=Streams(seed=0, noise=7))
    assert plain.outcome.weights_sha256 == given.outcome.weights_sha256


def test_the_noise_has_a_stream_of_its_own() -> None:
    _, one = noisy()
    _, again = noisy()
    _, other = noisy(streams=Streams(seed=0, noise=1))
    assert one.outcome.weights_sha256 == again.outcome.weights_sha256 != other.outcome.weights_sha256
    assert one.fingerprint.items["order"] == other.fingerprint.items["order"]
    assert one.trace["loss"][0] == other.trace["loss"][0]
    assert one.fingerprint.items["grad_noise"]["drawn"] != other.fingerprint.items["grad_noise"]["drawn"]


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"precision": "fp32"},
    "accumulated": {
        "precision": "fp32",
        "grad_accum_steps": 3,
        "batch_size": 4,
        "budget": "500 samples",
        "noise_batch_size": 5,
    },
    "fp16": {"precision": "fp16"},
    "workers": {"precision": "bf16", "num_workers": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_stopped_and_resumed_is_never_stopped(tmp_path: Path, name: str) -> None:
    given = {"noise_batch_size": 2, "sample_losses": sample_losses, "max_grad_norm": 0.5, "budget": "3 epochs"}
    settings = {**given, "evaluation": evaluation("100 samples"), **SETTINGS[name]}
    _, whole = run(folder=tmp_path / "whole", **settings)
    first, second = stopped_and_resumed(tmp_path / "cut", 23, **settings)
    assert (first.status.status, second.status.status) == ("interrupted", "finished")
    assert second.outcome.weights_sha256 == whole.outcome.weights_sha256
    assert rows(tmp_path / "cut" / "trace.arrow") == rows(tmp_path / "whole" / "trace.arrow")


def test_a_run_does_not_go_on_under_another_noise(tmp_path: Path) -> None:
    given: dict[str, Any] = {"sample_losses": sample_losses, "precision": "fp32"}
    stopped_and_resumed(tmp_path / "a", 9, noise_batch_size=2, **given)
    from ablate import Checkpoints
    from tests.training.test_resume import after

    run(folder=tmp_path / "b", checkpoints=Checkpoints(), stop=after(9), noise_batch_size=2, **given)
    with pytest.raises(LoopError, match="grad_noise"):
        run(folder=tmp_path / "b", checkpoints=Checkpoints(), noise_batch_size=3, **given)


def items_of(num: int) -> list[int]:
    return [1 + k % 5 for k in range(num)]


def test_samples_of_unequal_numbers_of_items_weigh_by_their_items() -> None:
    """As in a small batch of them: the mean is over the items of the samples that were drawn."""
    counts = items_of(POOL)
    x = torch.randn(POOL, 3, generator=torch.Generator().manual_seed(0))
    pool = [(x[k], torch.tensor(float(counts[k]))) for k in range(POOL)]

    def losses(model: nn.Module, batch: Any) -> tuple[torch.Tensor, list[int]]:
        point, count = batch
        return count * model(point)[:, 0], [int(one) for one in count]

    def whole(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        each, items = losses(model, batch)
        return each.sum(), sum(items)

    for grad_accum_steps in (1, 4):
        with Streams(seed=0).scope("init"):
            model = nn.Linear(3, 1, bias=False)
        optimizer = Kept(model)
        train(
            model, pool, whole, optimizer=optimizer, budget=3, batch_size=BIG // grad_accum_steps, grad_accum_steps=grad_accum_steps,
            noise_batch_size=SMALL, sample_losses=losses, streams=Streams(seed=3), device="cpu", precision="fp32",
        )  # fmt: skip
        noise = GradNoise(SMALL, losses, Streams(seed=3))
        order = SampleOrder(Streams(seed=3), np.arange(POOL))
        for step in range(3):
            drawn = np.asarray(order.take(step * BIG, BIG))[noise.drawn(step, BIG)]
            weight = np.asarray(counts, dtype=np.float64)[drawn]
            wanted = (weight[:, None] * x.numpy()[drawn]).sum(axis=0) / weight.sum()
            np.testing.assert_allclose(optimizer.kept[step], wanted, atol=1e-5)


def test_a_last_step_of_fewer_samples_than_that_takes_them_all() -> None:
    noise = GradNoise(5, sample_losses, Streams())
    assert [int(noise.drawn(0, num).sum()) for num in (3, 5, 8)] == [3, 5, 5]
    _, made = noisy(budget="203 samples", noise_batch_size=5)  # 25 steps of 8 and one of 3
    assert made.outcome.step == 26


def wrong() -> Iterator[tuple[str, dict[str, Any], str]]:
    yield "more", {"noise_batch_size": 8}, "noise_batch_size=8: a step has 8 samples.*noise_batch_size=4"
    yield "none", {"noise_batch_size": 0}, "noise_batch_size=0"
    yield "no losses", {"sample_losses": None}, "needs the loss of each sample by itself.*sample_losses="
    yield "noise scale", {"grad_accum_steps": 2, "noise_scale": True}, "noise_scale=True"
    yield "sum", {"sample_losses": lambda m, b: (objective(m, b)[0], [1] * 8)}, r"shape \(\) and 8 numbers"
    yield "items", {"sample_losses": lambda m, b: (sample_losses(m, b)[0], [8])}, "and 1 numbers of items for 8"


@pytest.mark.parametrize(("settings", "said"), [pytest.param(*case[1:], id=case[0]) for case in wrong()])
def test_what_cannot_be_made_noisier_is_refused_with_a_fix(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LoopError, match=f"(?s){said}"):
        noisy(**settings)

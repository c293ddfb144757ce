"""The laws of the random streams: what one of them draws is moved by nothing but its own seed and its own keys."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ablate import Streams
from ablate.training.data_loading import Feed
from ablate.training.distributed import Ranks
from ablate.training.random_streams import SampleOrder
from tests.training.toy import evaluation, jitter, network, points, run


def fed(
    batch_size: int, grad_accum_steps: int = 1, *, num_workers: int = 0, start: int = 0, seed: int = 3
) -> torch.Tensor:
    """All samples, augmented, in the order in which they reach the model, [samples, 10]."""
    data = points(37)
    feed = Feed(
        examples=data, collate=torch.utils.data.default_collate, ranks=Ranks(nn.Identity()), batch_size=batch_size,
        order=SampleOrder(Streams(seed=seed), np.arange(len(data))), grad_accum_steps=grad_accum_steps, total_samples=100,
        augment=jitter, num_workers=num_workers,
    )  # fmt: skip
    return torch.cat([batch[0] for step in feed.steps(start) for batch, _ in step.batches])


@given(batch_size=st.integers(1, 50), grad_accum_steps=st.integers(1, 4), samples=st.integers(0, 99))
def test_sample_k_is_the_kth_sample_whatever_surrounds_it(batch_size: int, grad_accum_steps: int, samples: int) -> None:
    """Across epochs (37 samples each), with its augmentation, and from wherever one goes on."""
    start = samples // (batch_size * grad_accum_steps) * batch_size * grad_accum_steps
    assert torch.equal(fed(batch_size, grad_accum_steps, start=start), fed(1)[start:])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_data_workers_feed_what_one_process_feeds(num_workers: int) -> None:
    before = torch.get_rng_state()
    assert torch.equal(fed(8, 2, num_workers=num_workers), fed(8, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_is_augmented_anew_in_every_epoch_and_as_its_seed_says() -> None:
    every, again, other = fed(1), fed(1), fed(1, seed=4)
    data = points(37).tensors[0]
    assert torch.equal(every, again)
    assert not torch.equal(every, other)
    order = SampleOrder(Streams(seed=3), np.arange(37)).take(0, 100)
    noise = every - data[order]
    first, second = (noise[[k for k in range(100) if order[k] == 5][epoch]] for epoch in (0, 1))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("stream", ["init", "order", "augment", "dropout", "noise"])
def test_moving_one_stream_moves_no_other(stream: str) -> None:
    base, moved = Streams(seed=1), Streams(seed=1, **{stream: 1})
    for other in ("init", "order", "augment", "dropout", "noise"):
        same = base.seed_of(other, 7) == moved.seed_of(other, 7)
        assert same == (other != stream)


@pytest.mark.parametrize(
    "changed",
    [
        {"evaluation": evaluation("8 samples")},
        {"flush_every": 1},
        {"grouping": None},
        {"update_ratio": True},
        {"num_workers": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_looking_logging_and_loading_move_nothing(changed: dict[str, Any]) -> None:
    plain, other = run(budget="2 epochs")[1], run(budget="2 epochs", **changed)[1]
    assert plain.outcome.weights_sha256 == other.outcome.weights_sha256
    assert plain.fingerprint.items["order"] == other.fingerprint.items["order"]


def test_dropout_moves_neither_order_nor_augmentation_nor_init() -> None:
    """Losses of a model without dropout are those before any weight has moved: a rate of almost nothing keeps them there."""
    with_dropout, without = (run(network(0, dropout=p), augment=jitter, lr=1e-12)[1] for p in (0.5, 0.0))
    assert with_dropout.fingerprint.items["init"] == without.fingerprint.items["init"]
    assert with_dropout.fingerprint.items["order"] == without.fingerprint.items["order"]
    assert with_dropout.trace["loss"].tolist() != without.trace["loss"].tolist()
    again = run(network(0, dropout=0.0), augment=jitter, lr=1e-12, batch_size=16)[1]
    pairs = without.trace["loss"].reshape(-1, 2).mean(axis=1)
    np.testing.assert_allclose(again.trace["loss"], pairs, rtol=1e-5)  # the same augmented samples, two steps in one


def test_no_global_generator_is_moved_by_anything() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    run(evaluation=evaluation(), augment=jitter, num_workers=1, grad_accum_steps=2, update_ratio=True, noise_scale=True)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


class Caching(nn.Module):
    """Keeps a tensor of its first forward pass, as models keep masks and position tables."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.kept = network(0), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = x.new_full((10,), 2.0) if self.kept is None else self.kept
        return self.inner(x * self.kept)


def test_a_model_that_keeps_tensors_of_the_look_before_training_can_be_trained() -> None:
    looked, never = (run(Caching(), evaluation=one)[1].outcome for one in (evaluation(), None))
    assert looked.weights_sha256 == never.weights_sha256

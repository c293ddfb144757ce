"""The batches of every step, in the order of the `order` stream, made in this process or by data workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ablate.training.distributed import Ranks
from ablate.training.random_streams import SampleOrder

Collate = Callable[[list[Any]], Any]
Place = tuple[int, int]
"""(epoch, position in the training set)."""
Augment = Callable[[Any, np.random.Generator], Any]
"""(example, its generator) -> example. The generator is the `augment` stream's for this seed, epoch and sample id."""


@dataclass(frozen=True, slots=True)
class StepFeed:
    """One optimizer step. ids: int64 [samples], of all processes. num_micro: forward passes. batches: of this process, each
    with whether it counts."""

    ids: NDArray[np.int64]
    num_micro: int
    batches: Iterator[tuple[Any, bool]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """examples: map-style. batch_size: samples of one forward pass, over all processes. num_workers: 0 makes the batches in
    this process. Any step's batches are a function of where it begins: nothing has to be remembered to go on from there."""

    examples: Any
    collate: Collate
    order: SampleOrder
    ranks: Ranks
    batch_size: int
    grad_accum_steps: int
    total_samples: int
    augment: Augment | None = None
    num_workers: int = 0

    def steps(self, samples: int) -> Iterator[StepFeed]:
        """The steps that follow when `samples` samples have been seen."""
        batches = self._batches(samples)
        for start, count in self._extents(samples):
            ids = self.order.ids[[position for _, position in self.order.places(start, count)]]
            num_micro = -(-count // self.batch_size)
            yield StepFeed(ids, num_micro, (next(batches) for _ in range(num_micro)))

    def _extents(self, samples: int) -> Iterator[tuple[int, int]]:
        size = self.batch_size * self.grad_accum_steps
        for start in range(samples, self.total_samples, size):
            yield start, min(size, self.total_samples - start)

    def _shares(self, samples: int) -> Iterator[tuple[list[Place], bool]]:
        """This process's (epoch, position) pairs of every forward pass."""
        for start, count in self._extents(samples):
            places = self.order.places(start, count)
            for first in range(0, count, self.batch_size):
                yield self.ranks.share(places[first : first + self.batch_size])

    def _batches(self, samples: int) -> Iterator[tuple[Any, bool]]:
        made = _Made(self.examples, self.augment, self.order)
        if self.num_workers == 0:
            for places, counts in self._shares(samples):
                yield self.collate([made[place] for place in places]), counts
            return
        loader = DataLoader(
            made,
            batch_sampler=(places for places, _ in self._shares(samples)),
            num_workers=self.num_workers,
            collate_fn=self.collate,
            generator=torch.Generator().manual_seed(0),  # or it would draw from the global one
        )
        yield from zip(loader, (counts for _, counts in self._shares(samples)), strict=True)


class _Made(Dataset[Any]):
    """Examples by (epoch, position), changed by the `augment` stream."""

    def __init__(self, examples: Any, augment: Augment | None, order: SampleOrder) -> None:
        self.examples, self.augment = examples, augment
        self.streams, self.ids = order.streams, order.ids

    def __getitem__(self, place: Place) -> Any:
        epoch, position = place
        example = self.examples[position]
        if self.augment is None:
            return example
        return self.augment(example, self.streams.generator("augment", epoch, int(self.ids[position])))

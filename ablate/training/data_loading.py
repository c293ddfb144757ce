"""The batches of every optimizer step, in the order of the `order` stream, made in this process or by data workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, default_collate

from ablate.training.distributed import Ranks
from ablate.training.random_streams import SampleOrder

Collate = Callable[[list[Any]], Any]
EpochIndex = tuple[int, int]
"""(epoch, index in the training set)."""
Augment = Callable[[Any, np.random.Generator], Any]
"""(example, its generator) -> example. The generator is the `augment` stream's for this seed, epoch and sample id."""


class StepSlice(NamedTuple):
    """The part of an optimizer step's samples that one batch holds.

    step: counted from 0. positions: of the batch's samples within the step. num_samples: of the whole step.
    """

    step: int
    positions: range
    num_samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Loader:
    """How batches are made from the dataset, and what can be counted in them on the host.

    collate: makes a batch from a list of examples.
    augment: (example, generator) -> example, applied as the examples are loaded.
    num_workers: processes that make the batches; 0 makes them in this process. The batches are the same.
    sample_ids: identity of each example in a pool that other arms share; None takes the index.
    count_items: batch on the host -> number of its loss items. With it the loss is divided once, by the exact number of items
        of the optimizer step; without it, by a guess that is corrected when the loss function has returned all counts.
    count_tokens: batch on the host -> number of real tokens, for the trace.
    transform: (batch on the host, `StepSlice`) -> batch, applied in this process after tokens and before items are counted.
    """

    collate: Collate = default_collate
    augment: Augment | None = None
    num_workers: int = 0
    sample_ids: Sequence[int] | NDArray[np.int64] | None = None
    count_items: Callable[[Any], int] | None = None
    count_tokens: Callable[[Any], int] | None = None
    transform: Callable[[Any, StepSlice], Any] | None = None

    def ids_of(self, dataset: Any) -> NDArray[np.int64]:
        """Identity of each example, int64 [examples]."""
        return np.arange(len(dataset)) if self.sample_ids is None else np.asarray(self.sample_ids, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Window:
    """The microbatches of one optimizer step.

    sample_ids: of all processes, int64 [samples].
    microbatches: (batch, whether it counts) of this process.
    num_items: counted loss items of this process; None where only the loss function can count them.
    num_tokens: real tokens of this process.
    """

    sample_ids: NDArray[np.int64]
    microbatches: list[tuple[Any, bool]]
    num_items: int | None
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchStream:
    """Makes the windows of a run. The batches of a step are a function of its first sample: there is no state to save.

    dataset: map-style.
    batch_size: samples of one forward pass, over all processes.
    """

    dataset: Any
    loader: Loader
    order: SampleOrder
    ranks: Ranks
    batch_size: int
    grad_accum_steps: int
    total_samples: int

    def windows(self, num_done: int) -> Iterator[Window]:
        """Yield the windows after the first `num_done` samples."""
        loader, batches = self.loader, self._batches(num_done)
        for start, count in self._extents(num_done):
            ids = self.order.ids[[index for _, index in self.order.epoch_indices(start, count)]]
            step, microbatches, num_items, num_tokens = start // self._step_size, [], 0, 0
            for first in range(0, count, self.batch_size):
                batch, included = next(batches)
                if included and loader.count_tokens is not None:
                    num_tokens += loader.count_tokens(batch)
                if loader.transform is not None:
                    positions = self.ranks.share(range(first, min(first + self.batch_size, count)))[0]
                    batch = loader.transform(batch, StepSlice(step, range(positions[0], positions[-1] + 1), count))
                if included and loader.count_items is not None:
                    num_items += loader.count_items(batch)
                microbatches.append((batch, included))
            yield Window(ids, microbatches, None if loader.count_items is None else num_items, num_tokens)

    @property
    def _step_size(self) -> int:
        return self.batch_size * self.grad_accum_steps

    def _extents(self, num_done: int) -> Iterator[tuple[int, int]]:
        for start in range(num_done, self.total_samples, self._step_size):
            yield start, min(self._step_size, self.total_samples - start)

    def _shares(self, num_done: int) -> Iterator[tuple[list[EpochIndex], bool]]:
        """Yield this process's examples of every forward pass, and whether they count."""
        for start, count in self._extents(num_done):
            indices = self.order.epoch_indices(start, count)
            for first in range(0, count, self.batch_size):
                yield self.ranks.share(indices[first : first + self.batch_size])

    def _batches(self, num_done: int) -> Iterator[tuple[Any, bool]]:
        examples, collate = _Augmented(self.dataset, self.loader.augment, self.order), self.loader.collate
        if self.loader.num_workers == 0:
            for indices, included in self._shares(num_done):
                yield collate([examples[index] for index in indices]), included
            return
        workers = DataLoader(
            examples,
            batch_sampler=(indices for indices, _ in self._shares(num_done)),
            num_workers=self.loader.num_workers,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(0),  # or it would draw from the global one
        )
        yield from zip(workers, (included for _, included in self._shares(num_done)), strict=True)


class _Augmented(Dataset[Any]):
    """Examples by (epoch, index), changed by the `augment` stream."""

    def __init__(self, dataset: Any, augment: Augment | None, order: SampleOrder) -> None:
        self.dataset, self.augment = dataset, augment
        self.streams, self.ids = order.streams, order.ids

    def __getitem__(self, epoch_index: EpochIndex) -> Any:
        epoch, index = epoch_index
        example = self.dataset[index]
        if self.augment is None:
            return example
        return self.augment(example, self.streams.generator("augment", epoch, int(self.ids[index])))

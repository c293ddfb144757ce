"""A large batch with the gradient noise of a smaller one: a loss function that sums over randomly drawn samples of each step.

A batch of B samples has a gradient of covariance S/B, where S is the covariance of one sample's gradient. Weights of mean 1 on
the samples' losses add noise; a variance of B/b - 1 makes it the noise of a batch of b. Of all such weights, b of the B samples
at B/b and the others at 0 give a batch of b in every other respect too, because b random samples of a random batch are a random
batch of b: in the expectation, the covariance (also where samples are drawn without replacement, from any pool), the tails, and
the mean over items where samples hold unequal numbers of them. docs/decisions/0019 gives the alternatives.

All B samples run forward under the same dropout masks; the drawn ones alone make the loss, its item count and the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ablate.errors import LoopError
from ablate.training.data_loading import Loader, StepSlice
from ablate.training.evaluation import to_device
from ablate.training.fingerprint import ids_hash
from ablate.training.random_streams import RandomStreams
from ablate.training.run_recorder import Recording

SampleLosses = Callable[[nn.Module, Any], tuple[torch.Tensor, Sequence[int]]]
"""(model, batch) -> (sum of the losses of each sample's items [samples], number of items of each sample, on the host)."""
ItemsPerSample = Callable[[Any], Sequence[int]]
"""Batch on the host -> number of loss items of each sample."""


class DrawnBatch(NamedTuple):
    """A batch, and which of its samples were drawn."""

    batch: Any
    drawn: tuple[bool, ...]


class SubsampledLoss:
    """Loss function for `train` that sums over `num_drawn` random samples of every optimizer step.

        loss_fn = SubsampledLoss(sample_losses, 8, random_streams)
        loader, recording = loss_fn.prepare(Loader(...), Recording(...), samples_per_step=64)
        train(model, dataset, loss_fn, batch_size=64, loader=loader, recording=recording, ...)

    sample_losses: as in `SampleLosses`.
    num_drawn: samples of each step whose gradient is taken. A last step of fewer samples takes all of them.
    random_streams: the `noise` stream draws which, as a function of seed and step.
    items_per_sample: as in `ItemsPerSample`, so that the items of a step are counted before its forward passes.
    """

    def __init__(
        self,
        sample_losses: SampleLosses | None,
        num_drawn: int,
        random_streams: RandomStreams,
        *,
        items_per_sample: ItemsPerSample | None = None,
    ) -> None:
        if sample_losses is None:
            raise LoopError(
                f"noise_batch_size={num_drawn} needs the loss of each sample by itself, and the loss function gives one sum",
                "sample_losses=..., an argument of Task: (model, batch) -> (loss of each sample [samples], number of items of "
                "each sample)",
            )
        self.sample_losses, self.num_drawn, self.random_streams = sample_losses, num_drawn, random_streams
        self.items_per_sample = items_per_sample

    def prepare(self, loader: Loader, recording: Recording, *, samples_per_step: int) -> tuple[Loader, Recording]:
        """Return the loader that marks the drawn samples, and the recording with `grad_noise` in the fingerprint.

        Raises LoopError where the gradient cannot be made as noisy as that of `num_drawn` samples.
        """
        num = self.num_drawn
        if not 1 <= num < samples_per_step:
            raise LoopError(
                f"noise_batch_size={num}: expected 1 to {samples_per_step - 1}, because a step has {samples_per_step} samples",
                f"noise_batch_size={max(1, samples_per_step // 2)}, or noise_batch_size=None",
            )
        if recording.noise_scale:
            raise LoopError(
                f"noise_batch_size={num} and noise_scale=True: the first forward pass of a step may hold none of the drawn "
                "samples, and then its gradient has no norm to compare",
                "noise_scale=False, or noise_batch_size=None",
            )
        facts = {**recording.facts, "grad_noise": self.fingerprint(samples_per_step)}
        count_items = None if self.items_per_sample is None else self._count_items
        return replace(loader, transform=self.mark, count_items=count_items), replace(recording, facts=facts)

    def drawn(self, step: int, num_samples: int) -> NDArray[np.bool_]:
        """Return which samples of a step are drawn, [num_samples]."""
        chosen = self.random_streams.generator("noise", step).permutation(num_samples)[: self.num_drawn]
        mask = np.zeros(num_samples, dtype=np.bool_)
        mask[chosen] = True
        return mask

    def fingerprint(self, samples_per_step: int) -> dict[str, Any]:
        """Return the number of drawn samples and a hash of the positions that are drawn in the first step."""
        return {"of": self.num_drawn, "drawn": ids_hash(np.flatnonzero(self.drawn(0, samples_per_step)))}

    def mark(self, batch: Any, where: StepSlice) -> DrawnBatch:
        """Note on a batch which of its samples are drawn."""
        mask = self.drawn(where.step, where.num_samples)
        return DrawnBatch(batch, tuple(mask[where.positions.start : where.positions.stop].tolist()))

    def __call__(self, model: nn.Module, marked: DrawnBatch) -> tuple[torch.Tensor, int]:
        """Return (sum of the losses of the drawn samples, number of their items)."""
        losses, items = self.sample_losses(model, marked.batch)
        drawn = marked.drawn
        if losses.shape != (len(drawn),) or len(items) != len(drawn):
            raise LoopError(
                f"sample_losses gave losses of shape {tuple(losses.shape)} and {len(items)} numbers of items for "
                f"{len(drawn)} samples, expected one of each for every sample",
                "return losses of shape [samples], and a list with each sample's number of items",
            )
        loss = torch.where(to_device(torch.tensor(drawn), losses.device), losses, 0.0).sum()
        return loss, _drawn_items(items, drawn)

    def _count_items(self, marked: DrawnBatch) -> int:
        assert self.items_per_sample is not None
        return _drawn_items(self.items_per_sample(marked.batch), marked.drawn)


def _drawn_items(items: Sequence[int], drawn: Sequence[bool]) -> int:
    return sum(count for count, is_drawn in zip(items, drawn, strict=True) if is_drawn)

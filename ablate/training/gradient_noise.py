"""A large batch whose gradient is as noisy as a smaller one's: some of the step's samples are drawn, and they alone update.

A batch of B samples has a gradient of covariance S/B, S being that of one sample's. Weights of mean 1 on the samples' losses
add noise; a variance of B/b - 1 makes it the noise of a batch of b. Of all such weights, b of the B at B/b and the others at 0
give a batch of b in every other respect too, since b random samples of a random batch are a random batch of b: in the
expectation, the covariance (also where samples are drawn without replacement, from any pool), the tails, and the mean over
items where samples hold unequal numbers of them. docs/decisions/0019 says what was weighed against it.

All B samples run forward, under the same dropout masks, are counted and are recorded: the trace holds their mean loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ablate.errors import LoopError
from ablate.training.evaluation import to_device
from ablate.training.fingerprint import ids_hash
from ablate.training.random_streams import Streams

SampleLosses = Callable[[nn.Module, Any], tuple[torch.Tensor, Sequence[int]]]
"""(model, batch) -> (sum of the losses of each sample's items [samples], number of items of each sample, on the host)."""


class GradNoise:
    """of: samples whose gradient a step takes. losses: of each sample by itself. streams: `noise` draws which."""

    def __init__(self, of: int, losses: SampleLosses, streams: Streams) -> None:
        self.of, self.losses, self.streams = of, losses, streams

    def drawn(self, step: int, num_samples: int) -> NDArray[np.bool_]:
        """Which of the samples of a step update, [num_samples]. A step of fewer than `of` samples takes them all."""
        chosen = self.streams.generator("noise", step).permutation(num_samples)[: self.of]
        kept = np.zeros(num_samples, dtype=np.bool_)
        kept[chosen] = True
        return kept

    def items(self, samples_per_step: int) -> dict[str, Any]:
        """`grad_noise` of a fingerprint: the number, and a hash of the places that are drawn in the first step."""
        return {"grad_noise": {"of": self.of, "drawn": ids_hash(np.flatnonzero(self.drawn(0, samples_per_step)))}}

    def __call__(
        self, model: nn.Module, batch: Any, kept: Sequence[bool]
    ) -> tuple[torch.Tensor, int, torch.Tensor, int]:
        """(sum of all losses, all items, sum of the losses of the samples that update, their items) of a forward pass."""
        losses, items = self.losses(model, batch)
        if losses.shape != (len(kept),) or len(items) != len(kept):
            raise LoopError(
                f"sample_losses gave losses of shape {tuple(losses.shape)} and {len(items)} numbers of items for "
                f"{len(kept)} samples, expected one of each for every sample",
                "return losses of shape [samples], and a list with each sample's number of items",
            )
        used = torch.where(to_device(torch.tensor(kept), losses.device), losses, 0.0).sum()
        return losses.sum(), sum(items), used, sum(count for count, one in zip(items, kept, strict=True) if one)

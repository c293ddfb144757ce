"""Named random streams: each draw has its own seed, so that no draw can move another.

A stream has no state to save. What step 700 draws is a function of (seed, stream, 700): turning dropout off, evaluating more
often or logging less cannot shift the data order, and a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomStreams:
    """The random streams of a run.

    seed: of the run. init, order, augment, dropout, noise, labels: added to it, stream by stream (an A/A arm moves some).
    """

    seed: int = 0
    init: int = 0
    order: int = 0
    augment: int = 0
    dropout: int = 0
    noise: int = 0
    labels: int = 0

    def seed_of(self, stream: str, *keys: int | str) -> int:
        """Return a 63-bit seed for one draw: of `stream`, at `keys` (a step, an epoch, a module's name)."""
        text = "/".join(str(part) for part in (self.seed + int(getattr(self, stream)), stream, *keys))
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def generator(self, stream: str, *keys: int | str) -> np.random.Generator:
        """Return a numpy generator of its own for one draw."""
        return np.random.Generator(np.random.Philox(key=self.seed_of(stream, *keys)))

    @contextmanager
    def scope(self, stream: str, *keys: int | str, device: torch.device | None = None) -> Iterator[None]:
        """Make torch's default generators give this stream's numbers inside, and restore them afterwards.

        Modules such as nn.Dropout can draw from the default generator only, so it is set for as long as they need it.
        """
        cuda = device if device is not None and device.type == "cuda" else None
        before = torch.get_rng_state()
        before_cuda = None if cuda is None else torch.cuda.get_rng_state(cuda)
        seed = self.seed_of(stream, *keys)
        torch.default_generator.manual_seed(seed)
        if cuda is not None:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(before)
            if cuda is not None and before_cuda is not None:
                torch.cuda.set_rng_state(before_cuda, cuda)

    def initialise(
        self, model: nn.Module, names: Iterable[str] | None = None, reset: Callable[[nn.Module], object] | None = None
    ) -> None:
        """Draw the weights of modules again, each under its own name: removing a layer leaves the others' weights equal.

        names: of the modules; None takes all. reset: fills one module's own parameters; None calls its `reset_parameters`.
        Children come before their parents, whose reset may draw again what is inside them (GPT-2's blocks do).
        Parameters that a module fills in its own `__init__` and not in `reset_parameters` are not covered.
        """
        wanted = None if names is None else set(names)
        for name, module in reversed(list(model.named_modules())):
            if wanted is not None and name not in wanted:
                continue
            with self.scope("init", name):
                if reset is not None:
                    reset(module)
                elif callable(fill := getattr(module, "reset_parameters", None)):
                    fill()


class SampleOrder:
    """The k-th sample of a run: the same whatever the batch size, the accumulation or the number of workers.

    Epochs follow each other without a gap, so every optimizer step but the last has the same number of samples.

    ids: int64 [samples], the identity of each training sample in a pool that other arms share. Every id of the pool has its
        own key in every epoch's order; arms that train on different parts of the pool meet their common samples in the
        same relative order.
    """

    def __init__(self, streams: RandomStreams, ids: NDArray[np.int64]) -> None:
        self.streams = streams
        self.ids = ids
        self._orders: dict[int, NDArray[np.int64]] = {}

    def take(self, start: int, count: int) -> list[int]:
        """Return the indices in the training set of samples start .. start + count - 1, counted over all epochs."""
        return [index for _, index in self.epoch_indices(start, count)]

    def epoch_indices(self, start: int, count: int) -> list[tuple[int, int]]:
        """Return the (epoch, index in the training set) of each of these samples."""
        indices: list[tuple[int, int]] = []
        while len(indices) < count:
            epoch, first = divmod(start + len(indices), len(self.ids))
            chosen = self._epoch_order(epoch)[first : first + count - len(indices)]
            indices += [(epoch, index) for index in chosen.tolist()]
        return indices

    def ids_before(self, samples: int) -> Iterator[NDArray[np.int64]]:
        """Yield the ids of the first `samples` samples, in their order, epoch by epoch."""
        for start in range(0, samples, len(self.ids)):
            count = min(len(self.ids), samples - start)
            yield self.ids[self._epoch_order(start // len(self.ids))[:count]]

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            keys = self.streams.generator("order", epoch).random(int(self.ids.max()) + 1)
            # Two at a time: data workers are already in the next epoch while the step is in this one.
            self._orders = {other: order for other, order in self._orders.items() if abs(other - epoch) <= 1}
            self._orders[epoch] = np.argsort(keys[self.ids], kind="stable")
        return self._orders[epoch]

"""Several processes that train one model, with DDP or FSDP2 (`fully_shard`); with one process every operation is trivial."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ablate.errors import LoopError

T = TypeVar("T")

AGREE_EVERY = 8
"""Steps between two agreements of several processes on whether to stop or to save."""


class Ranks:
    """The processes of one run. Each takes its share of every forward pass; counts and norms are those of all processes.

    model: as it is called: plain in one process, wrapped by DDP or `fully_shard` in several.
    Raises LoopError for a plain model in several processes: each of them would train a model of its own.
    """

    def __init__(self, model: nn.Module) -> None:
        together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.size = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0
        self.model = model
        self.sharded = is_sharded(model)
        if together and not self.sharded and not isinstance(model, DistributedDataParallel):
            raise LoopError(
                f"{self.size} processes train {type(model).__name__}, which is not shared between them",
                "wrap it first: DistributedDataParallel(model) or fully_shard(model)",
            )
        # Counts go from host to host and not through the device: agreeing to stop must not wait for a kernel.
        self._hosts = dist.new_group(backend="gloo") if together else None

    @property
    def bare(self) -> nn.Module:
        """The model without its wrapper, with its own parameter names."""
        module = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        assert isinstance(module, nn.Module)
        return module

    @property
    def key(self) -> tuple[int, ...]:
        """Key that makes this process's draws its own; empty where there is one process."""
        return (self.rank,) if self.size > 1 else ()

    @property
    def records(self) -> bool:
        """True in the process that writes the record."""
        return self.rank == 0

    def share(self, chosen: Sequence[T]) -> tuple[list[T], bool]:
        """Return this process's contiguous part of a batch, and whether it counts.

        Where there are fewer samples than processes, one that would have none runs the first sample without counting it:
        every process must take part in every forward and backward pass.
        """
        start, end = (len(chosen) * k // self.size for k in (self.rank, self.rank + 1))
        return (list(chosen[start:end]), True) if end > start else (list(chosen[:1]), False)

    @contextmanager
    def accumulate(self, *, last: bool) -> Iterator[None]:
        """Exchange gradients in the last backward pass of a step only."""
        if self.sharded:
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        no_sync: AbstractContextManager[Any] = nullcontext()
        if isinstance(self.model, DistributedDataParallel) and not last:
            no_sync = self.model.no_sync()
        with no_sync:
            yield

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Sum a tensor on the device over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def sum_counts(self, *counts: int) -> list[int]:
        """Sum numbers that the hosts know over the processes, without the device."""
        if self._hosts is None:
            return list(counts)
        total = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(total, group=self._hosts)
        return [int(count) for count in total]

    def agree(self, reason: str | None, diverged: bool = False) -> tuple[str | None, bool]:
        """Return the reason of the first process that has one, and whether any has diverged: all end at the same step."""
        num_reasons, num_diverged = self.sum_counts(int(reason is not None), int(diverged))
        if num_reasons and self._hosts is not None:
            reason = next(given for given in self.gather(reason) if given is not None)
        return reason, num_diverged > 0

    def agrees_at(self, step: int) -> bool:
        """Return whether the processes agree on stopping and saving after `step` steps; always where there is one."""
        return self.size == 1 or step % AGREE_EVERY == 0

    def gather(self, value: T) -> list[T]:
        """Return the value of each process, on the host, in the order of the processes."""
        if self._hosts is None:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._hosts)
        return values

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self._hosts is not None:
            dist.barrier(group=self._hosts)


# A sharded model or tensor exists only where its module has been imported; importing it to check would cost every process
# half a second.


def is_sharded(model: nn.Module) -> bool:
    """Return whether `fully_shard` was applied to a model."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def is_part(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is a DTensor, of which this process may hold only a part."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and isinstance(tensor, distributed.DTensor)


def local(tensor: Any) -> torch.Tensor:
    """Return the part of a tensor that this process holds."""
    part: torch.Tensor = tensor.to_local() if is_part(tensor) else tensor
    return part


def full(tensor: Any) -> torch.Tensor:
    """Return the whole tensor, gathered where it is sharded; every process must call this."""
    whole: torch.Tensor = tensor.full_tensor() if is_part(tensor) else tensor
    return whole

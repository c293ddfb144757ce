"""Several processes that train one model: torch's DDP, or FSDP2 (`fully_shard`). One process is the same with nothing to do."""

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


class Ranks:
    """The processes of one run. Each takes its share of every forward pass; what is counted or measured is of all of them.

    model: as it will be called: plain in one process, wrapped by DDP or `fully_shard` in several.
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
        # Small facts go from host to host, beside the device: agreeing to stop must not make anybody wait for a kernel.
        self._hosts = dist.new_group(backend="gloo") if together else None

    @property
    def bare(self) -> nn.Module:
        """The model with its own parameter names."""
        module = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        assert isinstance(module, nn.Module)
        return module

    @property
    def key(self) -> tuple[int, ...]:
        """What makes this process's draws its own; nothing in a process that is alone."""
        return (self.rank,) if self.size > 1 else ()

    @property
    def records(self) -> bool:
        """Whether this process writes the record."""
        return self.rank == 0

    def share(self, chosen: Sequence[T]) -> tuple[list[T], bool]:
        """This process's contiguous part of a batch, and whether it counts.

        Where there are fewer samples than processes, one that would have none runs the first sample without counting it:
        every process must take part in every forward and backward pass.
        """
        start, end = (len(chosen) * k // self.size for k in (self.rank, self.rank + 1))
        return (list(chosen[start:end]), True) if end > start else (list(chosen[:1]), False)

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        """Gradients are exchanged in the last backward pass of a step only."""
        if self.sharded:
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        alone: AbstractContextManager[Any] = nullcontext()
        if isinstance(self.model, DistributedDataParallel) and not last:
            alone = self.model.no_sync()
        with alone:
            yield

    def add(self, value: torch.Tensor) -> torch.Tensor:
        """Sum over the processes of a tensor on the device, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    def add_counts(self, *counts: int) -> list[int]:
        """Sums over the processes of numbers that the hosts know; the device is not asked."""
        if self._hosts is None:
            return list(counts)
        total = torch.tensor(counts, dtype=torch.int64)
        dist.all_reduce(total, group=self._hosts)
        return [int(one) for one in total]

    def agree(self, reason: str | None) -> str | None:
        """The reason of the first process that has one: all of them end at the same step."""
        if self._hosts is None or self.add_counts(int(reason is not None)) == [0]:
            return reason
        reasons: list[str | None] = [None] * self.size
        dist.all_gather_object(reasons, reason, group=self._hosts)
        return next(one for one in reasons if one is not None)

    def gather(self, value: T) -> list[T]:
        """What each process has, on its host, in the order of the processes."""
        if self._hosts is None:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._hosts)
        return found

    def wait(self) -> None:
        """Until all processes have come here."""
        if self._hosts is not None:
            dist.barrier(group=self._hosts)


# A sharded model or tensor can only be there when its module has been imported; to import it to ask would cost every process
# half a second.


def is_sharded(model: nn.Module) -> bool:
    """Whether `fully_shard` was done to a model."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def is_part(tensor: torch.Tensor) -> bool:
    """Whether a tensor is a DTensor, of which this process may hold a part only."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and isinstance(tensor, distributed.DTensor)


def local(tensor: Any) -> torch.Tensor:
    """What of a tensor lies in this process."""
    here: torch.Tensor = tensor.to_local() if is_part(tensor) else tensor
    return here


def full(tensor: Any) -> torch.Tensor:
    """The whole tensor, fetched from all processes where it is sharded: all of them must ask."""
    whole: torch.Tensor = tensor.full_tensor() if is_part(tensor) else tensor
    return whole

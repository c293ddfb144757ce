"""A run of several processes: `torchrun -m tests.training.together <folder> <ddp|fsdp>[+noise] [stop at poll]`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ablate import Checkpoints, Streams, train
from ablate.training.train import Result
from tests.training.toy import evaluation, network, objective, points, sample_losses

SETTINGS: dict[str, Any] = {
    "budget": "203 samples",  # the last step has 3 samples in one pass, the last of them in one process alone
    "batch_size": 8,
    "grad_accum_steps": 2,
    "max_grad_norm": 0.5,
    "schedule": "linear",
    "update_ratio": True,
    "precision": "fp32",
    "device": "cpu",
}


NOISE: dict[str, Any] = {"noise_batch_size": 5, "sample_losses": sample_losses}


def together(model: nn.Module, folder: Path, polls: int = 10**9, **more: Any) -> Result:
    """Train; a reason to stop comes at the given poll, in the last process only."""
    count, last = itertools.count(), not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1
    return train(
        model, points(), objective, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True),
        evaluation=evaluation("50 samples", batch_size=33), streams=Streams(seed=0), folder=folder,
        checkpoints=Checkpoints(every="64 samples"),
        stop=lambda: "asked to" if next(count) >= polls and last else None, **SETTINGS, **more,
    )  # fmt: skip


def main(folder: Path, kind: str, polls: int) -> None:
    kind, _, noise = kind.partition("+")
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    model = network(0, dropout=0.0)
    if kind == "ddp":
        model = DistributedDataParallel(model)
    elif kind == "fsdp":
        fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),)))
    try:
        together(model, folder, polls, **(NOISE if noise else {}))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 10**9)

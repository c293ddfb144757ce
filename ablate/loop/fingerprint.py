"""What must be equal between arms, read from the live objects and not from the configuration."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ablate.loop.parallel import full
from ablate.loop.precision import Precision
from ablate.loop.schedule import Schedule

_FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)


def weights_hash(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """sha256 over names, types, shapes and bytes."""
    total = sha256()
    for name, tensor in tensors:
        own = full(tensor.detach()).cpu().contiguous()
        total.update(f"{name}{own.dtype}{tuple(own.shape)}".encode())
        total.update(own.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def init_hashes(model: nn.Module) -> dict[str, str]:
    """Hash of the initial weights of every module that owns some."""
    owners = ((name, list(module.named_parameters(recurse=False))) for name, module in model.named_modules())
    return {name: weights_hash(own)[:16] for name, own in owners if own}


def ids_hash(ids: Iterable[int]) -> str:
    """Hash of sample ids in their order."""
    return sha256(np.asarray(list(ids), dtype=np.int64).tobytes()).hexdigest()[:16]


class OrderHash:
    """Hashes of the first 64, 128, 256, ... sample ids that were fed: runs are compared where both have been."""

    def __init__(self) -> None:
        self.rungs: dict[str, str] = {}
        self._running = sha256()
        self._count = 0

    def add(self, ids: NDArray[np.int64]) -> None:
        """ids: int64 [samples], those that come next."""
        while len(ids):
            rung = max(64, 1 << self._count.bit_length())
            now, ids = ids[: rung - self._count], ids[rung - self._count :]
            self._running.update(now.astype("<i8").tobytes())
            self._count += len(now)
            if self._count == rung:
                self.rungs[str(rung)] = self._running.hexdigest()[:16]


def model_items(model: nn.Module) -> dict[str, Any]:
    """`parameters`, `init` and `dropout` of a fingerprint."""
    named = list(model.named_parameters())
    shapes = "\n".join(f"{name} {tuple(p.shape)}" for name, p in named)
    dropouts = Counter(f"{m.p:g}" for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
    return {
        "parameters": {
            "names": sha256(shapes.encode()).hexdigest()[:16],
            "count": sum(p.numel() for _, p in named),
            "trainable": sum(p.numel() for _, p in named if p.requires_grad),
        },
        "init": init_hashes(model),
        "dropout": dict(sorted(dropouts.items())),
    }


def setting_items(
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *,
    schedule: Schedule,
    clip_norm: float | None,
    model: nn.Module,
) -> dict[str, Any]:
    """`optimizer`, `schedule`, `precision`, `clip_norm` and `environment` of a fingerprint."""
    groups = [
        {k: _plain(v) for k, v in sorted(group.items()) if k not in ("params", "initial_lr")}
        | {"params": len(group["params"])}
        for group in optimizer.param_groups
    ]
    return {
        "optimizer": {"name": type(optimizer).__name__} | {f"group {k}": group for k, group in enumerate(groups)},
        "schedule": {f"{f:.2f}": round(schedule.factor(f), 9) for f in _FRACTIONS},
        "precision": {
            "autocast": "off" if precision.autocast_dtype is None else precision.name,
            "scaler": precision.scaler is not None,
            "tf32": precision.name == "tf32",
            "compiled": model._compiled_call_impl is not None,
        },
        "clip_norm": {"max": clip_norm},
        "environment": environment(precision.device),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """What else can change a number: versions, device, threads, determinism switches."""
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"{platform.machine()} cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "num_threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul": torch.get_float32_matmul_precision(),
        "CUBLAS_WORKSPACE_CONFIG": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item()
    return list(value) if isinstance(value, tuple) else value

"""The fingerprint of a run: what must be equal between arms, read from the live objects and not from the configuration."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules import module as all_modules

from ablate.records.metadata import versions
from ablate.training.distributed import full
from ablate.training.lr_schedule import LRSchedule
from ablate.training.precision import Precision, attention_item

VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
)
"""Environment variables that choose kernels, and so the rounding; not those of speed, memory, logs or threads."""


def environment(device: torch.device) -> dict[str, Any]:
    """Return the environment of this process. An environment variable that is not set is left out."""
    cuda = device.type == "cuda"
    items = {
        "device": torch.cuda.get_device_name(device) if cuda else f"{platform.machine()} cpu",
        "cpu_kernels": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        **{name: version for name, version in versions(("transformers", "tokenizers")).items() if name != "python"},
        "num_threads": torch.get_num_threads(),
        "default_dtype": _dtype(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "float32_matmul": _float32_matmul(),
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    if cuda:
        items |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
        }
    return items


def _float32_matmul() -> str:
    """Return the precision of matrix products in fp32; by the name of torch 2.9 where the older one raises."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return str(torch.backends.cuda.matmul.fp32_precision)


_KINDS = {
    "_forward_pre_hooks": "before forward",
    "_forward_hooks": "after forward",
    "_backward_pre_hooks": "before backward",
    "_backward_hooks": "gradient",
    "_post_accumulate_grad_hooks": "after accumulation",
    "_optimizer_step_pre_hooks": "before step",
    "_optimizer_step_post_hooks": "after step",
    "_global_forward_pre_hooks": "before forward",
    "_global_forward_hooks": "after forward",
    "_global_backward_pre_hooks": "before backward",
    "_global_backward_hooks": "gradient",
}
_OWN = ("ablate", "torch", "transformers", "accelerate", "lightning")
"""Packages whose hooks are part of a model: `train.unpad` and the library versions cover them."""


def foreign_hooks(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, str]:
    """Return {module or parameter: kinds of its hooks}: they can change a gradient, and no config shows them.

    `optimizer` and `every module` (global hooks) are names of their own.
    """
    owners: list[tuple[str, Any]] = [("every module", all_modules), ("optimizer", optimizer)]
    owners += [(name or "model", module) for name, module in model.named_modules()]
    owners += list(model.named_parameters())
    hooks = ((name, sorted(set(_kinds(owner)))) for name, owner in owners)
    return {name: ", ".join(kinds) for name, kinds in hooks if kinds}


def _kinds(owner: Any) -> Iterator[str]:
    for attribute, kind in _KINDS.items():
        hooks = getattr(owner, attribute, None) or {}
        if any(_module_of(hook) not in _OWN for hook in hooks.values()):
            yield kind


def _module_of(hook: Any) -> str:
    """Return the top-level package that a hook was written in."""
    plain = getattr(hook, "func", hook)
    return str(getattr(plain, "__module__", None) or type(plain).__module__).partition(".")[0]


FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Fractions of the budget at which the schedule is read."""

_DROPOUT = re.compile(r"drop(out)?(_p|_prob|_rate)?$")


def weights_hash(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return a sha256 over names, types, shapes and bytes."""
    total = sha256()
    for name, tensor in tensors:
        own = full(tensor.detach()).cpu().contiguous()
        total.update(f"{name}{own.dtype}{tuple(own.shape)}".encode())
        total.update(own.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def init_hashes(model: nn.Module) -> dict[str, str]:
    """Hash the initial weights and buffers of every module that owns some."""
    owners = (
        (name, [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
        for name, module in model.named_modules()
    )
    return {name: weights_hash(own)[:16] for name, own in owners if own}


def ids_hash(ids: Iterable[int]) -> str:
    """Hash sample ids in their order."""
    return sha256(np.asarray(list(ids), dtype=np.int64).tobytes()).hexdigest()[:16]


class OrderHash:
    """Hashes of the first 8, 16, 32, ... sample ids of a run: runs are compared at the largest number that both reached."""

    def __init__(self) -> None:
        self.rungs: dict[str, str] = {}
        self._running = sha256()
        self._count = 0

    def add(self, ids: NDArray[np.int64]) -> None:
        """Add the next ids, int64 [samples]."""
        while len(ids):
            rung = max(8, 1 << self._count.bit_length())
            now, ids = ids[: rung - self._count], ids[rung - self._count :]
            self._running.update(now.astype("<i8").tobytes())
            self._count += len(now)
            if self._count == rung:
                self.rungs[str(rung)] = self._running.hexdigest()[:16]


def model_items(model: nn.Module) -> dict[str, Any]:
    """Return `parameters`, `init` and `dropout` of a fingerprint."""
    named = list(model.named_parameters())
    return {
        "parameters": {
            "count": sum(p.numel() for _, p in named),
            "trainable": sum(p.numel() for _, p in named if p.requires_grad),
            "shapes": {name: "x".join(map(str, p.shape)) for name, p in named},
        },
        "init": init_hashes(model),
        "dropout": dict(_dropouts(model)),
    }


def _dropouts(model: nn.Module) -> Iterator[tuple[str, float]]:
    """Yield (name, probability) of dropout modules, and of plain attributes that a forward pass hands to a function."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield name, module.p
            continue
        for attribute, value in _named_like_dropout(vars(module)):
            yield f"{name}.{attribute}".lstrip("."), value


def _named_like_dropout(values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and _DROPOUT.search(name):
            yield name, value


def setting_items(
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *,
    schedule: LRSchedule,
    max_grad_norm: float | None,
    model: nn.Module,
) -> dict[str, Any]:
    """Return `optimizer`, `schedule`, `precision`, `max_grad_norm`, `hooks` and `environment` of a fingerprint."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [_group(group, names) for group in optimizer.param_groups]
    return {
        "optimizer": {"name": type(optimizer).__name__} | {f"group {k}": group for k, group in enumerate(groups)},
        "schedule": {
            "shape": schedule.shape,
            "warmup": schedule.warmup_ratio,
            "min_lr_ratio": schedule.min_lr_ratio,
        }
        | {f"{f:.2f}": round(schedule.factor(f), 9) for f in FRACTIONS},
        "precision": {
            "autocast": "off" if precision.autocast_dtype is None else precision.name,
            "scaler": precision.scaler is not None,
            "tf32": precision.name == "tf32",
            "compiled": model._compiled_call_impl is not None,
            "matmul": _product_dtype(precision),
            "weights": ", ".join(sorted({_dtype(p.dtype) for p in model.parameters()})),
        }
        | attention_item(),
        "max_grad_norm": {"max": max_grad_norm},
        "hooks": foreign_hooks(model, optimizer),
        "environment": environment(precision.device),
    }


def _group(group: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    """Return a parameter group's settings, and which parameters it holds."""
    held = "\n".join(names.get(id(p), f"none of the model's {tuple(p.shape)}") for p in group["params"])
    settings = {key: _plain(value) for key, value in sorted(group.items()) if key not in ("params", "initial_lr")}
    return settings | {"params": len(group["params"]), "names": sha256(held.encode()).hexdigest()[:16]}


def _product_dtype(precision: Precision) -> str:
    """Return the type of a matrix product in the forward pass, measured and not read from a setting."""
    matrix = torch.ones(1, 1, device=precision.device)
    with torch.no_grad(), precision.autocast():
        return _dtype((matrix @ matrix).dtype)


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item()
    return list(value) if isinstance(value, tuple) else value

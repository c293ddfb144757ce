"""Automatic mixed precision: what autocast runs in, and the gradient scaler that fp16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ablate.errors import LoopError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(typed: str = "auto") -> torch.device:
    """`auto` is the current GPU when there is one."""
    if typed != "auto":
        try:
            device = torch.device(typed)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise LoopError(f"loop.device={typed}: {str(error).splitlines()[0]}", "loop.device=auto") from None
        return device
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


class Precision:
    """name: `fp32`, `bf16`, `fp16` or `auto` (bf16 where the GPU has it, else fp16; fp32 on a CPU)."""

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            name = "fp32" if device.type != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        if name != "fp32" and name not in _DTYPES:
            raise LoopError(f"precision={name!r} is not one of auto, fp32, {', '.join(_DTYPES)}", "precision=auto")
        self.name = name
        self.device = device
        self.scaler: torch.amp.GradScaler | None = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_DTYPES[self.name])

    @property
    def scale(self) -> float:
        return float(self.scaler.get_scale()) if self.scaler else 1.0

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the scaled loss, added to `.grad`."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """After this, and only after this, `.grad` holds the gradient of the loss itself."""
        if self.scaler:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, grad_norm: torch.Tensor) -> torch.Tensor:
        """Step unless a gradient is not finite. Returns whether it was applied: bool [] on `grad_norm`'s device.

        One inf in one gradient makes every weight nan through the clip coefficient, and AdamW's moments for good.
        """
        applied = torch.isfinite(grad_norm)
        if self.scaler:
            self.scaler.step(optimizer)
            self.scaler.update()
        elif grad_norm.device.type == "cuda" and _is_fused(optimizer):
            # The fused kernel skips on its own where found_inf is 1: the host need not wait to know.
            optimizer.found_inf = (~applied).float()  # type: ignore[attr-defined]
            optimizer.step()
        elif bool(applied):
            optimizer.step()
        return applied


def _is_fused(optimizer: torch.optim.Optimizer) -> bool:
    return all(group.get("fused") for group in optimizer.param_groups)

"""Gradient norms, measured once per step with one pass over the gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Grouping = Callable[[str], str]


def by_depth(name: str) -> str:
    """`bert.encoder.layer.3.output.dense.weight` -> `layer.3`; embeddings and heads by the module that holds them."""
    parts = name.split(".")[:-1] or ["model"]
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[max(0, place - 1) : place + 1])
    return next((part for part in parts if "embed" in part), parts[0] if len(parts) < 2 else parts[1])


def by_kind(name: str) -> str:
    """`embedding`, `norm`, `bias` or `weight`."""
    lowered = name.lower()
    if "norm" in lowered:
        return "norm"
    if "embed" in lowered:
        return "embedding"
    return "bias" if lowered.endswith("bias") else "weight"


GROUPINGS: dict[str, Grouping | None] = {"depth": by_depth, "kind": by_kind, "none": None}


class GradNorms:
    """Global and per-group L2 norm of a model's gradients, in fp32.

        norms = GradNorms(model)          # once
        total, groups = norms.measure()   # after backward and unscale, before clipping

    Only parameters that require gradients at construction are looked at.
    """

    def __init__(self, model: nn.Module, grouping: Grouping | None = by_depth) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        group_of = [grouping(name) for name in self.names] if grouping else []
        self.groups = list(dict.fromkeys(group_of))
        self._group_index = torch.tensor([self.groups.index(group) for group in group_of], dtype=torch.long)

    def measure(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(global norm [], group norms [groups]), fp32, on the gradients' device; no host sync.

        The squares of fp16 gradients overflow and the norms of bf16 ones round, so both are read as fp32.
        """
        grads, have = self._present()
        norms = torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32))  # [parameters with a gradient]
        total = torch.linalg.vector_norm(norms)
        if not self.groups:
            return total, norms.new_empty(0)
        # Moved once and kept: a small copy to the device in every step would make the host wait.
        self._group_index = self._group_index.to(norms.device)
        index = self._group_index if len(have) == len(self.parameters) else self._group_index[have]
        squares = norms.new_zeros(len(self.groups)).index_add_(0, index, norms.square())
        return total, squares.sqrt()

    def clip(self, total: torch.Tensor, largest: float | None) -> torch.Tensor:
        """Scale the gradients so that their global norm is at most `largest`. Returns the coefficient, fp32 []; 1 if None."""
        if largest is None:
            return torch.ones_like(total)
        coefficient = torch.clamp(largest / (total + 1e-6), max=1.0)
        torch._foreach_mul_(self._present()[0], coefficient)
        return coefficient

    def scale(self, factor: float) -> None:
        """Multiply every gradient by `factor`."""
        torch._foreach_mul_(self._present()[0], factor)

    def first_non_finite(self) -> str | None:
        """Name of the first parameter whose gradient holds an inf or nan. Waits for the device."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                return name
        return None

    def _present(self) -> tuple[list[torch.Tensor], list[int]]:
        """The gradients that there are, and the places of their parameters."""
        grads = {k: p.grad for k, p in enumerate(self.parameters) if p.grad is not None}
        return list(grads.values()), list(grads)

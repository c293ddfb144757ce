"""Gradient norms, measured once per step with one pass over the gradients."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from ablate.errors import LoopError
from ablate.training.distributed import is_part, local

Grouping = Callable[[str], str]


def by_layer(name: str) -> str:
    """Group by layer: `bert.encoder.layer.3.output.dense.weight` -> `layer.3`; embeddings and heads by their module."""
    parts = name.split(".")[:-1] or ["model"]
    for index, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[max(0, index - 1) : index + 1])
    return next((part for part in parts if "embed" in part), parts[0] if len(parts) < 2 else parts[1])


def by_param_type(name: str) -> str:
    """Group by type: `embedding`, `norm`, `bias` or `weight`."""
    lowered = name.lower()
    if "norm" in lowered or re.search(r"(^|\.)ln_", lowered):  # GPT-2 says ln_1, wte and wpe
        return "norm"
    if "embed" in lowered or re.search(r"(^|\.)w[tp]e\.", lowered):
        return "embedding"
    return "bias" if lowered.endswith("bias") else "weight"


GROUPINGS: dict[str, Grouping | None] = {"layer": by_layer, "param_type": by_param_type, "none": None}


class GradNorms:
    """Global and per-group L2 norm of a model's gradients, in fp32.

        norms = GradNorms(model)          # once
        total, groups = norms.measure()   # after backward and unscale, before clipping

    group_by: parameter name -> its group; None measures the global norm only.
    optimizer: whose parameters are measured; None takes all. A gradient that no step applies is neither zeroed nor unscaled.
    Only parameters that require gradients at construction are measured. Sharded parameters (FSDP2) are measured whole.
    """

    def __init__(
        self, model: nn.Module, group_by: Grouping | None = by_layer, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        owned = None if optimizer is None else {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = [
            (name, p) for name, p in model.named_parameters() if p.requires_grad and (owned is None or id(p) in owned)
        ]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        group_of = [group_by(name) for name in self.names] if group_by else []
        self.groups = list(dict.fromkeys(group_of))
        self.group_index = np.asarray([self.groups.index(group) for group in group_of], dtype=np.int64)
        """Index in `groups` of each parameter's group, [parameters]; empty without groups."""
        self._group_index: torch.Tensor | None = None  # the same on the device of the gradients
        self._sharded: Any = next((p for p in self.parameters if is_part(p)), None)
        self._have: list[int] = []  # indices in `parameters` of those with a gradient, and the same on their device:
        self._indices = torch.empty(0, dtype=torch.int64)

    def measure(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(global norm [], group norms [groups]), fp32, on the gradients' device; no host sync.

        The squares of fp16 gradients overflow and the norms of bf16 ones round, so both are read as fp32.
        """
        total, each = self.measure_each()
        return total, self.by_group(each)

    def measure_each(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(global norm [], norm of each parameter's gradient [parameters], 0 where there is none), fp32; no host sync."""
        norms = self._norms()
        total: torch.Tensor = torch.linalg.vector_norm(norms)
        return total, self.spread(norms)

    def by_group(self, each: torch.Tensor) -> torch.Tensor:
        """Return the norms of the groups [groups] from those of their parameters [parameters]."""
        squares = each.square()
        if self._group_index is None or self._group_index.device != each.device:
            self._group_index = torch.from_numpy(self.group_index).to(each.device)  # once: the copy makes the host wait
        index = self._group_index
        sums: torch.Tensor = each.new_zeros(len(self.groups)).index_add_(0, index, squares[: len(index)])
        return sums.sqrt()

    def clip(self, total: torch.Tensor, max_norm: float | None) -> torch.Tensor:
        """Scale the gradients so that their global norm is at most `max_norm`. Returns the coefficient, fp32 []; 1 if None."""
        if max_norm is None:
            return torch.ones_like(total)
        coefficient = torch.clamp(max_norm / (total + 1e-6), max=1.0)
        # On a CPU reading the coefficient costs nothing, and a product with 1 can be left out: it changes no bit.
        if coefficient.device.type != "cpu" or float(coefficient) != 1.0:
            torch._foreach_mul_(self._present(), coefficient)
        return coefficient

    def scale(self, factor: float) -> None:
        """Multiply every gradient by `factor`."""
        torch._foreach_mul_(self._present(), factor)

    def measured(self) -> list[nn.Parameter]:
        """Return the parameters that had a gradient when it was measured last."""
        return [self.parameters[k] for k in self._have]

    def spread(self, norms: torch.Tensor) -> torch.Tensor:
        """Spread norms of [measured parameters] to [parameters], 0 for the others."""
        if len(self._have) == len(self.parameters):
            return norms
        return norms.new_zeros(len(self.parameters)).index_copy_(0, self._indices, norms)

    def _norms(self) -> torch.Tensor:
        """Return the norm of every gradient, fp32 [parameters with a gradient]."""
        if not (grads := self._present()):
            raise LoopError(
                "no parameter has a gradient after the backward pass", "compute the loss from the model's output"
            )
        return self.whole(torch.stack(torch._foreach_norm(grads, 2, dtype=torch.float32)))

    def whole(self, norms: torch.Tensor) -> torch.Tensor:
        """Return the norms of whole tensors from those of this process's shards: a shard's norm alone is too small."""
        if self._sharded is None:
            return norms
        squares = norms.square()
        for dim, placement in enumerate(self._sharded.placements):
            if placement.is_shard():
                dist.all_reduce(squares, group=self._sharded.device_mesh.get_group(dim))
        return squares.sqrt()

    def _present(self) -> list[torch.Tensor]:
        """Return the gradients, and remember the indices of their parameters in `_have`."""
        grads = [p.grad for p in self.parameters]
        have = [k for k, grad in enumerate(grads) if grad is not None]
        present = [grad for grad in grads if grad is not None]
        if self._sharded is not None:
            present = [local(grad) for grad in present]
        if have and have != self._have:
            # Moved once: a small copy to the device in every step would make the host wait.
            self._have, self._indices = have, torch.tensor(have, device=present[0].device)
        return present


class UpdateRatios:
    """||w_after - w_before|| / ||w_before|| per group of `norms` (of the whole model where it has no groups), fp32.

    About 1e-3 is usual; far above it the step is too large for the weights, far below it they hardly move. It needs a
    copy of the weights (their size once more in memory) and three passes over them, and is measured only on request.
    """

    def __init__(self, norms: GradNorms) -> None:
        self._norms = norms
        self._before: list[torch.Tensor] = []

    def before(self) -> None:
        """Copy the weights; after the gradients were measured, before the step."""
        now = self._weights()
        if not self._before or len(self._before) != len(now):
            self._before = [torch.empty_like(weight) for weight in now]
        torch._foreach_copy_(self._before, now)

    def after(self) -> torch.Tensor:
        """Return the ratios, [groups] or [1]; no host sync."""
        sizes = torch.stack(torch._foreach_norm(self._before, 2, dtype=torch.float32))
        torch._foreach_sub_(self._before, self._weights())
        moved = torch.stack(torch._foreach_norm(self._before, 2, dtype=torch.float32))
        return self._each(moved) / self._each(sizes).clamp_min(torch.finfo(torch.float32).tiny)

    def _each(self, values: torch.Tensor) -> torch.Tensor:
        whole = self._norms.whole(values)
        if not self._norms.groups:
            return whole.square().sum().sqrt().reshape(1)
        return self._norms.by_group(self._norms.spread(whole))

    def _weights(self) -> list[torch.Tensor]:
        return [local(p.detach()) for p in self._norms.measured()]

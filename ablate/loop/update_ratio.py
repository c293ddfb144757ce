"""How far a step moves the weights, relative to their size."""

from __future__ import annotations

import torch

from ablate.loop.grad_norm import GradNorms
from ablate.loop.parallel import local


class UpdateRatios:
    """||w_after - w_before|| / ||w_before|| per group of `norms` (of the whole model where it has no groups), fp32.

    About 1e-3 is usual; far above it the step is too large for the weights, far below it they hardly move. It needs a
    copy of the weights (their size once more in memory) and three passes over them, and is measured only where asked for.
    """

    def __init__(self, norms: GradNorms) -> None:
        self._norms = norms
        self._before: list[torch.Tensor] = []

    def before(self) -> None:
        """Keep the weights; after the gradients were measured, before the step."""
        now = self._weights()
        if not self._before or len(self._before) != len(now):
            self._before = [torch.empty_like(one) for one in now]
        torch._foreach_copy_(self._before, now)

    def after(self) -> torch.Tensor:
        """[groups], or [1]; no host sync."""
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

"""What somebody has hung on the model or the optimizer: it can change a gradient, and stands in no config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as everywhere

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
"""Hooks of these are part of how a model is built, and `loop.unpad` and the library versions tell of them."""


def foreign_hooks(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, str]:
    """{module or parameter: kinds of its hooks}; `optimizer`, and `every module` for hooks that hang on all."""
    owners: list[tuple[str, Any]] = [("every module", everywhere), ("optimizer", optimizer)]
    owners += [(name or "model", module) for name, module in model.named_modules()]
    owners += list(model.named_parameters())
    found = ((name, sorted(set(_kinds(owner)))) for name, owner in owners)
    return {name: ", ".join(kinds) for name, kinds in found if kinds}


def _kinds(owner: Any) -> Iterator[str]:
    for attribute, kind in _KINDS.items():
        hooks = getattr(owner, attribute, None) or {}
        if any(_module_of(hook) not in _OWN for hook in hooks.values()):
            yield kind


def _module_of(hook: Any) -> str:
    """Top name of the module that a hook was written in."""
    plain = getattr(hook, "func", hook)
    return str(getattr(plain, "__module__", None) or type(plain).__module__).partition(".")[0]

"""What a classifier's head is given of each text: its first token, or the mean or the maximum over its tokens.

The head reads the first position of the last layer's output, as in BERT, RoBERTa, DistilBERT or ELECTRA. The mean or the
maximum replaces that position: the head and its weights are unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ablate.errors import ModelError
from ablate.models.module_paths import evaluating, first_line


def pool_tokens(model: nn.Module, pooling: str) -> None:
    """Make the head of `model` read that. pooling: `cls`, `mean` or `max`.

    Raises ModelError where the head does not read the first token alone: then nobody can say what to put where.
    """
    top: Any = model
    base = getattr(top, "base_model", None)
    if base is None or base is top:
        raise _unknown(model, pooling, "it has no encoder of its own below a head")
    _check_reads_first(top, base, pooling)
    if pooling == "cls":
        return
    seen = _Seen()
    base.register_forward_pre_hook(seen.look, with_kwargs=True)
    place = _before_head(base, lambda hidden: _with_first(hidden, pooled(hidden, seen.mask, pooling)))
    place._pooling = pooling


def pooled(hidden: torch.Tensor, mask: torch.Tensor | None, pooling: str) -> torch.Tensor:
    """Pool over tokens: hidden [texts, positions, features], mask [texts, positions], 0 for padding -> [texts, features]."""
    if mask is None:
        return hidden.mean(dim=1) if pooling == "mean" else hidden.amax(dim=1)
    real = (mask != 0)[..., None]
    if pooling == "mean":
        return hidden.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1).clamp(min=1)
    return hidden.masked_fill(~real, torch.finfo(hidden.dtype).min).amax(dim=1)


class _Seen:
    """The mask of the call that is under way: the module before the head is not given it."""

    mask: torch.Tensor | None = None

    def look(self, _base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)


def _with_first(hidden: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    return torch.cat([first.to(hidden.dtype)[:, None], hidden[:, 1:]], dim=1)


def _before_head(base: Any, change: Any) -> Any:
    """Hang `change` between the last layer and what reads it. Returns the module that it hangs on.

    A pooler is part of the base model and reads inside of it; otherwise the head reads what the base model returns.
    """
    pooler = getattr(base, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]))
        return pooler

    def returned(_base: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        output["last_hidden_state"] = change(output["last_hidden_state"])
        return output

    base.register_forward_hook(returned)
    return base


def _check_reads_first(top: Any, base: Any, pooling: str) -> None:
    """Seen in the model: with everything but first tokens blanked out before the head, its logits are the same."""
    before = {id(module): set(module._forward_hooks) | set(module._forward_pre_hooks) for module in base.modules()}
    try:
        with evaluating(top):
            ids = (torch.arange(12, device=top.device).view(2, 6) * 7 + 3) % base.get_input_embeddings().num_embeddings
            call = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            whole = top(**call).logits
            _before_head(base, lambda hidden: _with_first(torch.zeros_like(hidden), hidden[:, 0]))
            blanked = top(**call).logits
    except Exception as error:  # whatever somebody else's model raises
        raise _unknown(top, pooling, first_line(error)) from error
    finally:
        for module in base.modules():
            for hooks in (module._forward_hooks, module._forward_pre_hooks):
                for key in set(hooks) - before[id(module)]:
                    del hooks[key]
    if not torch.allclose(whole, blanked, rtol=1e-4, atol=1e-6):
        raise _unknown(top, pooling, "its head reads more than the first token of a text, or another one")


def _unknown(model: nn.Module, pooling: str, why: str) -> ModelError:
    return ModelError(
        f"model.pooling={pooling}: what {type(model).__name__} reads of a text cannot be replaced: {why}",
        "model.pooling=null",
    )

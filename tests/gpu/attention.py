"""CUDA's kernels of packed attention for the pretended GPU, written out from their documentation, with their backward passes.

[tokens, heads, head_dim], sequences one behind the other. What is dropped follows from the state that the forward call returns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
FLASH_DTYPES = [torch.float16, torch.bfloat16]


def _attend(
    parts: tuple[Tensor, Tensor, Tensor], grad: Tensor | None, cumulative: Tensor, dropout: float, causal: bool, seed: Tensor,
    scale: float | None, window: tuple[int | None, int | None] = (None, None),
) -> list[Tensor]:  # fmt: skip
    """Return [the output], or given its gradient those of query, key and value.

    window: positions to the left and to the right that a query sees beside its own; -1 or None for all.
    """
    dtype, heads = parts[0].dtype, parts[0].shape[1]
    assert all(part.dtype == dtype and part.stride(-1) == 1 for part in parts)
    assert cumulative.dtype == torch.int32
    generator, made = torch.Generator().manual_seed(int(seed.flatten()[0])), []
    for start, end in zip(cumulative.tolist(), cumulative[1:].tolist(), strict=False):
        q, k, v = (part[start:end].transpose(0, 1).float() for part in parts)
        shared = heads // len(k)
        k, v = (part.repeat_interleave(shared, dim=0) for part in (k, v))
        factor = q.shape[-1] ** -0.5 if scale is None else scale
        ahead = torch.arange(end - start) - torch.arange(end - start)[:, None]
        left, right = (end if size is None or size < 0 else size for size in window)
        hidden = (ahead < -left) | (ahead > (0 if causal else right))
        weights = (q @ k.transpose(1, 2) * factor).masked_fill(hidden, -torch.inf).softmax(dim=-1)
        kept = (torch.rand(weights.shape, generator=generator) >= dropout) / (1 - dropout)
        if grad is None:
            made.append(((weights * kept) @ v,))
            continue
        out_grad = grad[start:end].transpose(0, 1).float()
        weights_grad = (out_grad @ v.transpose(1, 2)) * kept
        scores_grad = weights * (weights_grad - (weights_grad * weights).sum(dim=-1, keepdim=True)) * factor
        of_shared = (scores_grad.transpose(1, 2) @ q, (weights * kept).transpose(1, 2) @ out_grad)
        made.append((scores_grad @ k, *(part.unflatten(0, (-1, shared)).sum(dim=1) for part in of_shared)))
    return [torch.cat(own, dim=1).transpose(0, 1).contiguous().to(dtype) for own in zip(*made, strict=True)]


def flash(
    q: Tensor, k: Tensor, v: Tensor, cumulative: Tensor, _: Tensor, longest: int, __: int, dropout: float, causal: bool,
    ___: bool, *, scale: float | None = None, window_size_left: int | None = None, window_size_right: int | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """aten::_flash_attention_forward."""
    assert q.dtype in FLASH_DTYPES
    assert q.shape[-1] % 8 == 0
    assert max(cumulative.diff().tolist()) == longest
    seed = torch.randint(1 << 30, (2,))
    window = window_size_left, window_size_right
    out = _attend((q, k, v), None, cumulative, dropout, causal, seed, scale, window)[0]
    return out, torch.zeros(q.shape[1], len(q)), seed, torch.zeros(0), torch.zeros(0)


def flash_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, _: Tensor, cumulative: Tensor, __: Tensor, ___: int, ____: int,
    dropout: float, causal: bool, seed: Tensor, _____: Tensor, *, scale: float | None = None,
    window_size_left: int | None = None, window_size_right: int | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """aten::_flash_attention_backward."""
    assert grad.dtype == q.dtype
    window = window_size_left, window_size_right
    return tuple(_attend((q, k, v), grad, cumulative, dropout, causal, seed, scale, window))


def efficient(
    q: Tensor, k: Tensor, v: Tensor, bias: None, cumulative: Tensor, _: Tensor, longest: int, __: int, dropout: float,
    kind: int, for_backward: bool = False, *, scale: float | None = None, **_others: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """aten::_efficient_attention_forward."""
    assert for_backward
    assert q.shape == k.shape
    assert max(cumulative.diff().tolist()) == longest
    seed = torch.randint(1 << 30, (2,))
    out = _attend((q[0], k[0], v[0]), None, cumulative, dropout, kind == 1, seed, scale)[0]
    return out[None], torch.zeros(1, q.shape[2], q.shape[1]), seed[0], seed[1], longest, longest


def efficient_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: None, out: Tensor, cumulative: Tensor, _: Tensor, __: int, ___: int,
    ____: Tensor, dropout: float, seed: Tensor, _____: Tensor, kind: int, ______: bool, *, scale: float | None = None,
    **_others: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """aten::_efficient_attention_backward."""
    made = _attend((q[0], k[0], v[0]), grad[0], cumulative, dropout, kind == 1, seed, scale)
    return (*(own[None] for own in made), None)


SUBSTITUTES = {
    aten._flash_attention_forward.default: flash,
    aten._flash_attention_backward.default: flash_backward,
    aten._efficient_attention_forward.default: efficient,
    aten._efficient_attention_backward.default: efficient_backward,
}

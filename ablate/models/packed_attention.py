"""Attention within each sequence of a packed row: where the tokens of a batch stand, and the kernels that read it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, groupby
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ablate.data.batching import Spans
from ablate.errors import ModelError

NAME = "ablate_unpadded"
"""Under which transformers knows `attend`."""


def row_spans(attention_mask: torch.Tensor) -> Spans | None:
    """(first token, number of tokens) of each row of a mask [batch, length]; None if a row is empty or has a hole.

    Waits for the device if the mask is on a device.
    """
    mask = attention_mask.to("cpu") != 0
    counts, first = mask.sum(dim=1), mask.int().argmax(dim=1)
    behind = mask.shape[1] - mask.flip(1).int().argmax(dim=1)
    if bool((behind - first != counts).any()):
        return None
    return list(zip(first.tolist(), counts.tolist(), strict=True))


class Layout:
    """Where the tokens of one batch stand, padded and packed. Sequences are packed longest first.

    spans: (first token, number of tokens) of each row. shape: (rows, columns) of the padded batch.
    """

    def __init__(self, spans: Spans, shape: tuple[int, int], device: torch.device) -> None:
        self.shape, self.device = shape, device
        order = sorted(range(len(spans)), key=lambda row: -spans[row][1])
        self.starts = [row * shape[1] + spans[row][0] for row in order]  # in [rows * columns]
        self.lengths = [spans[row][1] for row in order]
        self.full = sum(self.lengths) == shape[0] * shape[1]
        self.first_only = False
        """Whether only each sequence's first token will be read of the last layer."""
        self.groups = [(len(list(same)), length) for length, same in groupby(self.lengths)]
        self._dropped: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._bands: dict[tuple[int, int, bool], torch.Tensor] = {}

    @cached_property
    def index(self) -> torch.Tensor:
        """Place of each token in the padded batch, int64 [tokens]."""
        return self._send([start + k for start, n in zip(self.starts, self.lengths, strict=True) for k in range(n)])

    @cached_property
    def first_index(self) -> torch.Tensor:
        """Place of each sequence's first token in the padded batch, int64 [rows], rows in packed order."""
        return self._send(self.starts)

    @cached_property
    def dense_index(self) -> torch.Tensor:
        """The same in a batch [rows, longest], rows in packed order, padding on the right. int64 [tokens]."""
        return self._send([row * self.lengths[0] + k for row, n in enumerate(self.lengths) for k in range(n)])

    @cached_property
    def valid(self) -> torch.Tensor:
        """The tokens of that batch, bool [rows, 1, 1, longest]."""
        lengths = self._send(self.lengths)
        return (torch.arange(self.lengths[0], device=self.device) < lengths[:, None])[:, None, None, :]

    @cached_property
    def cumulative(self) -> torch.Tensor:
        """Tokens before each sequence, and of all, int32 [rows + 1]."""
        return self._send([0, *accumulate(self.lengths)], torch.int32)

    def _send(self, values: list[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
        made = torch.tensor(values, dtype=dtype)
        if self.device.type == "cuda":  # from pinned memory the host need not wait
            return made.pin_memory().to(self.device, non_blocking=True)
        return made.to(self.device)

    def drop(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, columns, ...] -> [1, tokens, ...]."""
        return hidden.flatten(0, 1).index_select(0, self.index).unsqueeze(0)

    def keep_first(self, hidden: torch.Tensor) -> torch.Tensor:
        """First tokens of a packed row [1, tokens, ...] or of a full batch [rows, columns, ...]: [1, rows, ...]."""
        index = self.first_index if self.full else self.cumulative[:-1]
        return hidden.flatten(0, 1).index_select(0, index).unsqueeze(0)

    def put_back(self, hidden: torch.Tensor) -> torch.Tensor:
        """[1, tokens, ...], or [1, rows, ...] where only first tokens are left -> [rows, columns, ...], zeros elsewhere."""
        rest = hidden.shape[2:]
        places = hidden.new_zeros(self.shape[0] * self.shape[1], *rest)
        index = self.first_index if self.first_only else self.index
        return places.index_copy(0, index, hidden[0]).view(*self.shape, *rest)

    def drop_all(self, value: Any) -> Any:
        """`drop` for every tensor in `value` with an entry per position, for each row or shared."""
        if isinstance(value, tuple | list):
            return type(value)(self.drop_all(part) for part in value)
        if isinstance(value, dict):
            return {key: self.drop_all(part) for key, part in value.items()}
        if not isinstance(value, torch.Tensor) or value.dim() not in (2, 3):
            return value
        if value.shape[:2] not in (self.shape, (1, self.shape[1])):
            return value
        if id(value) not in self._dropped:  # every layer is handed the same tables; the pair keeps the id in use
            self._dropped[id(value)] = (value, self.drop(value.expand(self.shape[0], *value.shape[1:])))
        return self._dropped[id(value)][1]

    def band(self, length: int, window: int, causal: bool) -> torch.Tensor:
        """Who sees whom in a sequence: nearer than `window`, and not later if causal. bool [length, length]."""
        key = (length, window, causal)
        if key not in self._bands:
            place = torch.arange(length, device=self.device)
            behind = place[:, None] - place
            self._bands[key] = (behind.abs() < window) & (behind >= 0) if causal else behind.abs() < window
        return self._bands[key]


@dataclass(frozen=True, slots=True)
class Attending:
    """window: positions attend to each other below this distance; None: unlimited. scaling: None: head_dim ** -0.5.

    first_only: only the first token of each sequence is a query; the output at other tokens is not read.
    """

    dropout: float
    scaling: float | None
    causal: bool
    window: int | None
    first_only: bool = False


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    unpadded: Layout | None = None,
    last_layer: bool = False,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls for `ablate_unpadded`: [1, heads, tokens, head_dim] -> [1, tokens, heads, head_dim], no weights.

    A full batch stays [batch, heads, length, head_dim]. Without a layout this is transformers' own `sdpa`.
    """
    if unpadded is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **others
        )
    for name in ("softcap", "position_bias", "s_aux"):
        if others.get(name) is not None:
            raise ModelError(
                f"{type(module).__name__} attends with {name!r}, which `unpad` does not do", "leave it padded"
            )
    # `sdpa` takes a module that does not say for causal, unless it is given a mask; the encoders that do not say give one.
    causal: bool = getattr(module, "is_causal", False) if is_causal is None else is_causal
    window = None if sliding_window is None or sliding_window >= unpadded.lengths[0] else sliding_window
    first_only = last_layer and unpadded.first_only and not causal and window is None
    how = Attending(dropout, scaling, causal, window, first_only)
    kernel = _each if unpadded.full else KERNELS[_kernel(query, dropout)]
    if kernel is not _varlen and query.shape[1] != key.shape[1]:
        key, value = (repeat_kv(part, query.shape[1] // part.shape[1]) for part in (key, value))
    if query.device.type != "cpu" or query.dtype not in (torch.bfloat16, torch.float16):
        return kernel(query, key, value, unpadded, how), None
    # torch's fused kernel for the CPU gains nothing from half precision, and its backward pass takes four times as long.
    with torch.autocast("cpu", enabled=False):
        out = kernel(query.float(), key.float(), value.float(), unpadded, how)
    return out.to(query.dtype), None


def pick_kernel(device: str, dtype: torch.dtype, capability: tuple[int, int], head_dim: int, dropout: float) -> str:
    """`each`: one call per length, for the CPU. `varlen`: torch's flash kernel for packed sequences. `dense`: pad this call.

    The flash kernel wants sm80, half precision and heads of a multiple of 8; above 192 its backward pass depends on the card
    (aten/native/transformers/cuda/sdp_utils.cpp). `varlen_attn` has no dropout.
    """
    if device == "cpu":
        return "each"
    fits = dtype in (torch.float16, torch.bfloat16) and head_dim % 8 == 0 and head_dim <= 192 and dropout == 0.0
    return "varlen" if device == "cuda" and capability >= (8, 0) and fits else "dense"


def _kernel(query: torch.Tensor, dropout: float) -> str:
    allowed = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    usable = query.device.type == "cuda" and allowed and _have_varlen()
    capability = torch.cuda.get_device_capability(query.device) if usable else (0, 0)
    return pick_kernel(query.device.type, query.dtype, capability, query.shape[-1], dropout)


@lru_cache
def _have_varlen() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # torch before 2.10
        return False
    return torch.version.hip is None and {"window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)


def _each(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, how: Attending) -> torch.Tensor:
    """One call per distinct length, on views. `split`, because the backward pass of a slice fills a whole tensor."""
    rows, heads = query.shape[:2]
    sizes = [query.shape[2]] if layout.full else [count * length for count, length in layout.groups]
    parts = zip(*(torch.split(part, sizes, dim=2) for part in (query, key, value)), strict=True)
    made = []
    for (count, length), (q, k, v) in zip(layout.groups, parts, strict=True):
        if count > rows:  # [1, heads, count * length, head_dim] -> [count, heads, length, head_dim]
            q, k, v = (part.view(heads, count, length, -1).transpose(0, 1) for part in (q, k, v))
        q = q[:, :, :1] if how.first_only else q
        windowed = how.window is not None and how.window < length
        if how.dropout and q.device.type == "cpu":
            mask = layout.band(length, how.window or length, how.causal) if windowed or how.causal else None
            out = attend_with_dropout(q, k, v, mask, how.dropout, how.scaling)
        else:
            mask = layout.band(length, how.window or length, how.causal) if windowed else None
            out = scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=how.dropout, is_causal=how.causal and mask is None, scale=how.scaling
            )
        if how.first_only:
            out = pad(out, (0, 0, 0, length - 1))
        made.append(out.transpose(1, 2).reshape(rows, -1, heads, value.shape[-1]))
    return made[0] if len(made) == 1 else torch.cat(made, dim=1)


def attend_with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of [rows, heads, length, head_dim] on a CPU, whose fused kernel has no dropout. mask: True where visible.

    16 random bits decide about each weight, a fifth of the time of `bernoulli_`, which took longer than both matrix products.
    The rate is rounded to 1 / 65,536, and the scale is that of the rounded rate, so that the expectation is exact.
    """
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(-2, -1)
    weights = torch.softmax(scores if mask is None else scores.masked_fill(~mask, -torch.inf), dim=-1)
    dropped = round(dropout * 2**16)
    if dropped == 2**16:
        return (weights * 0) @ value
    bits = torch.empty(-(-weights.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: weights.numel()].view(weights.shape) >= dropped - 2**15
    return (weights * kept) @ (value * (2**16 / (2**16 - dropped)))


def _dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, how: Attending) -> torch.Tensor:
    """Padded for this one call: one kernel whatever the lengths, with any precision and with dropout."""
    rows, longest = len(layout.lengths), layout.lengths[0]

    def padded(part: torch.Tensor) -> torch.Tensor:
        tokens = part[0].transpose(0, 1)  # [tokens, heads, head_dim]
        places = tokens.new_zeros(rows * longest, *tokens.shape[1:]).index_copy(0, layout.dense_index, tokens)
        return places.view(rows, longest, *tokens.shape[1:]).transpose(1, 2)

    mask = layout.valid  # padding stands on the right, so that every place sees a token, also when causal
    if how.causal or how.window is not None:
        mask = mask & layout.band(longest, how.window or longest, how.causal)
    out = scaled_dot_product_attention(
        padded(query), padded(key), padded(value), attn_mask=mask, dropout_p=how.dropout, scale=how.scaling
    )
    return out.transpose(1, 2).flatten(0, 1).index_select(0, layout.dense_index).unsqueeze(0)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, how: Attending
) -> torch.Tensor:
    """torch.nn.attention.varlen. Its window (left, right) excludes the position itself; -1: unlimited."""
    from torch.nn.attention import varlen

    left = -1 if how.window is None else how.window - 1
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))  # [tokens, heads, head_dim]
    before, longest = layout.cumulative, layout.lengths[0]
    out = varlen.varlen_attn(
        q, k, v, before, before, longest, longest, scale=how.scaling,
        window_size=(left, 0 if how.causal else left), enable_gqa=q.shape[1] != k.shape[1],
    )  # fmt: skip
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0)


KERNELS = {"each": _each, "dense": _dense, "varlen": _varlen}
AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for the calls that run padded

"""Attention within each sequence of a packed row: where the tokens of a batch stand, and the kernels that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ablate.data.batching import Spans, send, token_positions
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
        return send(token_positions(self.starts, self.lengths), self.device)

    @cached_property
    def first_index(self) -> torch.Tensor:
        """Place of each sequence's first token in the padded batch, int64 [rows], rows in packed order."""
        return send(np.array(self.starts), self.device)

    @cached_property
    def dense_index(self) -> torch.Tensor:
        """The same in a batch [rows, `columns`], rows in packed order, padding on the right. int64 [tokens]."""
        return send(token_positions(np.arange(len(self.lengths)) * self.columns, self.lengths), self.device)

    @cached_property
    def valid(self) -> torch.Tensor:
        """The tokens of that batch, bool [rows, 1, 1, `columns`]."""
        lengths = send(np.array(self.lengths), self.device)
        return (torch.arange(self.columns, device=self.device) < lengths[:, None])[:, None, None, :]

    @property
    def columns(self) -> int:
        """Columns of the batch in which one call attends: few different ones on a GPU, where cuDNN plans for each shape."""
        return -(-self.lengths[0] // 64) * 64 if self.device.type == "cuda" else self.lengths[0]

    @cached_property
    def cumulative(self) -> torch.Tensor:
        """Tokens before each sequence, and of all, int32 [rows + 1]."""
        return send(np.cumsum([0, *self.lengths], dtype=np.int32), self.device)

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
        return places.index_copy(0, index, hidden.squeeze(0)).view(*self.shape, *rest)

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
    if query.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        # As torch's own attention does: rotary tables leave queries and keys in fp32, and the values are in half precision.
        query, key, value = (part.to(torch.get_autocast_dtype("cuda")) for part in (query, key, value))
    kernel = _each if unpadded.full else KERNELS[_kernel(query, how)]
    if kernel is not _flash and query.shape[1] != key.shape[1]:
        key, value = (repeat_kv(part, query.shape[1] // part.shape[1]) for part in (key, value))
    if query.device.type != "cpu" or query.dtype not in (torch.bfloat16, torch.float16):
        return kernel(query, key, value, unpadded, how), None
    # torch's fused kernel for the CPU gains nothing from half precision, and its backward pass takes four times as long.
    with torch.autocast("cpu", enabled=False):
        out = kernel(query.float(), key.float(), value.float(), unpadded, how)
    return out.to(query.dtype), None


def pick_kernel(device: str, dtype: torch.dtype, capability: tuple[int, int], head_dim: int, window: int | None) -> str:
    """`each`: one call per length, for the CPU. `flash`, `efficient`: kernels for packed sequences. `dense`: pad this call.

    Flash wants sm80, half precision and heads of a multiple of 8; above 192 its backward pass depends on the card
    (aten/native/transformers/cuda/sdp_utils.cpp). The other one has no window to both sides.
    """
    if device != "cuda":
        return "each" if device == "cpu" else "dense"
    half = dtype in (torch.float16, torch.bfloat16)
    if capability >= (8, 0) and half and head_dim % 8 == 0 and head_dim <= 192:
        return "flash"
    aligned = head_dim % (8 if half else 4) == 0
    return "efficient" if aligned and window is None and (half or dtype == torch.float32) else "dense"


def _kernel(query: torch.Tensor, how: Attending) -> str:
    """The kernel for a query [1, heads, tokens, head_dim], where torch allows it and it computes what it should."""
    if query.device.type == "cpu":
        return "each"
    allowed: dict[str, Any] = {
        "flash": torch.backends.cuda.flash_sdp_enabled, "efficient": torch.backends.cuda.mem_efficient_sdp_enabled
    }  # fmt: skip
    capability = torch.cuda.get_device_capability(query.device) if query.device.type == "cuda" else (0, 0)
    name = pick_kernel(query.device.type, query.dtype, capability, query.shape[-1], how.window)
    if name == "dense" or torch.version.hip is not None or not allowed[name]():
        return "dense"
    tried = replace(how, dropout=bool(how.dropout) * 0.25, window=how.window and 3, scaling=None, first_only=False)
    return name if is_correct(name, query.device, query.dtype, query.shape[-1], tried) else "dense"


@lru_cache
def is_correct(name: str, device: torch.device, dtype: torch.dtype, head_dim: int, how: Attending) -> bool:
    """Try a kernel of torch's interior forward and backward, once: what it computes, and which weights it drops.

    Compared with the padded call on made-up sequences. Of dropout, whose draws differ, with values of 1: an output is the sum
    of the weights that were kept, 1 in the mean. In a sequence of one token that is one draw, and the gradient of its value
    is the same. Leaves the random state as it was. The host waits for it.
    """
    draw = np.random.Generator(np.random.Philox(0))
    lengths = [150, 67, *[1] * 16]
    layout = Layout([(0, length) for length in lengths], (len(lengths), 150), device)

    def run(kernel: Any, ones: bool, how: Attending) -> list[torch.Tensor]:
        parts = [torch.from_numpy(part).to(device, dtype) for part in numbers]
        parts = [(torch.ones_like(part) if ones and part is parts[2] else part).requires_grad_() for part in parts]
        out = kernel(*parts, layout, how)
        return [made.float().cpu() for made in (out, *torch.autograd.grad(out, parts, torch.ones_like(out)))]

    numbers = draw.normal(size=(3, 1, 4, sum(lengths), head_dim)).astype(np.float32)
    try:
        state = torch.cuda.get_rng_state(device)
        try:
            with torch.enable_grad(), torch.autocast("cuda", enabled=False):
                still = replace(how, dropout=0.0)
                pairs = zip(run(KERNELS[name], False, still), run(_dense, False, still), strict=True)
                worst = max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)
                summed, _, _, gradient = run(KERNELS[name], True, how)
        finally:
            torch.cuda.set_rng_state(state, device)
    except Exception:  # another torch, another card: such a call pads
        return False
    drawn, again = summed.transpose(1, 2)[:, :, 217:], gradient[:, :, 217:]  # [1, heads, 16, head_dim]
    drops = bool((drawn == 0).any()) == (how.dropout > 0) and torch.allclose(drawn, again, rtol=1e-2)
    return worst < 2e-2 and drops and abs(float(summed.mean()) - 1) < 0.05


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
    rows, columns = len(layout.lengths), layout.columns

    def padded(part: torch.Tensor) -> torch.Tensor:
        tokens = part.squeeze(0).transpose(0, 1)  # [tokens, heads, head_dim]
        places = tokens.new_zeros(rows * columns, *tokens.shape[1:]).index_copy(0, layout.dense_index, tokens)
        return places.view(rows, columns, *tokens.shape[1:]).transpose(1, 2)

    mask = layout.valid  # padding stands on the right, so that every place sees a token, also when causal
    if how.causal or how.window is not None:
        mask = mask & layout.band(columns, how.window or columns, how.causal)
    out = scaled_dot_product_attention(
        padded(query), padded(key), padded(value), attn_mask=mask, dropout_p=how.dropout, scale=how.scaling
    )
    return out.transpose(1, 2).flatten(0, 1).index_select(0, layout.dense_index).unsqueeze(0)


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, how: Attending) -> torch.Tensor:
    """The kernel behind torch's `varlen_attn`, which has no dropout. A window excludes the position itself; -1: unlimited."""
    left = -1 if how.window is None else how.window - 1
    q, k, v = (part.squeeze(0).transpose(0, 1) for part in (query, key, value))  # [tokens, heads, head_dim]
    before, longest = layout.cumulative, layout.lengths[0]
    made = torch.ops.aten._flash_attention_forward(
        q, k, v, before, before, longest, longest, how.dropout, how.causal, False, scale=how.scaling,
        window_size_left=left, window_size_right=0 if how.causal else left,
    )  # fmt: skip
    out: torch.Tensor = made[0]
    return out.unsqueeze(0)


def _efficient(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, how: Attending
) -> torch.Tensor:
    """torch's kernel for fp32 and for cards before sm80, as its own jagged tensors call it."""
    q, k, v = (part.transpose(1, 2) for part in (query, key, value))  # [1, tokens, heads, head_dim]
    before, longest = layout.cumulative, layout.lengths[0]
    made = torch.ops.aten._efficient_attention_forward(
        q, k, v, None, before, before, longest, longest, how.dropout, int(how.causal), True, scale=how.scaling
    )
    out: torch.Tensor = made[0]
    return out


KERNELS = {"each": _each, "dense": _dense, "flash": _flash, "efficient": _efficient}
AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for the calls that run padded

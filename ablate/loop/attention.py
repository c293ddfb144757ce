"""Which of torch's kernels compute attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def attention_kernels(name: str) -> Iterator[None]:
    """`auto` leaves the choice to torch; inside `math`, attention is matrix products and a softmax, whatever is faster."""
    if name == "auto":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def attention_item() -> dict[str, str]:
    """What is allowed now, for the fingerprint; nothing where torch may choose."""
    kernels = torch.backends.cuda  # on a CPU too
    fused = kernels.flash_sdp_enabled() or kernels.mem_efficient_sdp_enabled()  # type: ignore[no-untyped-call]
    return {} if fused else {"attention": "math"}

"""Which of torch's kernels compute attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ablate.errors import LoopError


@contextmanager
def attention_kernels(name: str) -> Iterator[None]:
    """`sdpa` leaves the choice to torch; inside `eager`, attention is matrix products and a softmax, whatever is faster."""
    if name == "sdpa":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def attention_item() -> dict[str, str]:
    """What is allowed now, for the fingerprint; nothing where torch may choose."""
    kernels = torch.backends.cuda  # on a CPU too
    fused = kernels.flash_sdp_enabled() or kernels.mem_efficient_sdp_enabled()  # type: ignore[no-untyped-call]
    return {} if fused else {"attention": "eager"}


# Mixed precision: what autocast and the matrix products run in, and the gradient scaler that fp16 needs.

NAMES = ("auto", "fp32", "tf32", "bf16", "fp16")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(typed: str = "auto") -> torch.device:
    """`auto` is the current GPU when there is one."""
    if typed != "auto":
        try:
            device = torch.device(typed)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise LoopError(f"train.device={typed}: {str(error).splitlines()[0]}", "train.device=auto") from None
        return device
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


class Precision:
    """name: `fp32`, `tf32` (fp32 whose matrix products keep 10 bits of the mantissa; CUDA only), `bf16`, `fp16`, or `auto`
    (bf16 where the GPU has it, else fp16; fp32 on a CPU)."""

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            name = "fp32" if device.type != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        if name not in NAMES:
            raise LoopError(f"precision={name!r} is not one of {', '.join(NAMES)}", "precision=auto")
        if name == "tf32" and device.type != "cuda":
            raise LoopError(f"precision=tf32 needs a CUDA GPU, and this run is on {device.type}", "precision=fp32")
        self.name = name
        self.device = device
        self.scaler: torch.amp.GradScaler | None = torch.amp.GradScaler(device.type) if name == "fp16" else None
        self._one = torch.ones((), device=device)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        return _AUTOCAST.get(self.name)

    def autocast(self) -> AbstractContextManager[Any]:
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    @contextmanager
    def matrix_products(self) -> Iterator[None]:
        """fp32 means fp32: TF32 is on inside where it was asked for and nowhere else; outside all is as it was."""
        if self.device.type != "cuda":
            yield
            return
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        before = (products.allow_tf32, convolutions.allow_tf32)
        products.allow_tf32 = convolutions.allow_tf32 = self.name == "tf32"
        try:
            yield
        finally:
            products.allow_tf32, convolutions.allow_tf32 = before

    def scale(self) -> torch.Tensor:
        """The gradient scaler's factor, fp32 [] on the device; 1 without a scaler. No host sync."""
        scaled = self.scaler.scale(self._one) if self.scaler else self._one
        assert isinstance(scaled, torch.Tensor)
        return scaled

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the scaled loss, added to `.grad`."""
        scaled = self.scaler.scale(loss) if self.scaler else loss
        assert isinstance(scaled, torch.Tensor)
        scaled.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """After this, and only after this, `.grad` holds the gradient of the loss itself."""
        if self.scaler:
            self.scaler.unscale_(optimizer)

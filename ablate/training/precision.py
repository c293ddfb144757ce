"""Device, mixed precision and attention kernels of a run, and the gradient scaler that fp16 needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ablate.errors import LoopError
from ablate.training.hardware import bf16_instructions


@contextmanager
def attention_kernels(name: str) -> Iterator[None]:
    """Restrict torch's attention kernels. `sdpa` leaves the choice to torch; `eager` is matrix products and a softmax."""
    if name == "sdpa":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


def attention_item() -> dict[str, str]:
    """Return the attention kernels that are allowed now, for the fingerprint; empty where torch may choose."""
    kernels = torch.backends.cuda  # on a CPU too
    fused = kernels.flash_sdp_enabled() or kernels.mem_efficient_sdp_enabled()  # type: ignore[no-untyped-call]
    return {} if fused else {"attention": "eager"}


NAMES = ("auto", "fp32", "tf32", "bf16", "fp16")
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto", *, gpu: str | None = None) -> torch.device:
    """Return the named device; `auto` is the current GPU where there is one, else the CPU.

    gpu: the only one that this process was given, whatever its number elsewhere. Raises LoopError where torch cannot use it.
    """
    if gpu is not None and name != "cpu":
        if not torch.cuda.is_available():
            raise LoopError(
                f"expected a GPU, {gpu} of this machine, and torch {torch.__version__} finds none",
                "train.device=cpu, or a torch that is built for CUDA",
            )
        return torch.device("cuda", 0)
    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise LoopError(f"train.device={name}: {str(error).splitlines()[0]}", "train.device=auto") from None
        return device
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _of_hardware(device: torch.device) -> str:
    """What `auto` means on a device. Asks for arithmetic in bf16 and not for its emulation."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" and bf16_instructions() else "fp32"


def _tf32_settings() -> list[tuple[Any, str, Any]]:
    """Return (owner, name, value) of the settings as they are, by the names under which they can be read.

    torch 2.9 gave them further names, and raises at the older ones where both no longer agree.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    older = [(products, "allow_tf32"), (convolutions, "allow_tf32")]
    newer = [
        (part, "fp32_precision")
        for part in (products, getattr(convolutions, "conv", None), getattr(convolutions, "rnn", None))
    ]
    try:
        return [(owner, name, getattr(owner, name)) for owner, name in older]
    except RuntimeError:
        return [(owner, name, getattr(owner, name)) for owner, name in newer]


class Precision:
    """Autocast, matrix products and gradient scaling of one run.

    name: `fp32`, `tf32` (fp32 whose matrix products keep 10 bits of the mantissa; CUDA only), `bf16`, `fp16`, or `auto` (bf16
        where the hardware computes in it; else fp16 on a GPU, fp32 on a CPU).
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name == "auto":
            name = _of_hardware(device)
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
    def device_settings(self) -> Iterator[None]:
        """Make the device the current one. Turn TF32 on inside for `tf32`, and off for everything else.

        Outside, the settings are unchanged.
        """
        if self.device.type != "cuda":
            yield
            return
        before = _tf32_settings()
        # The older names: whoever reads the settings inside, by either name, is answered.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.name == "tf32"
        try:
            with torch.cuda.device(self.device):
                yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)

    def scale(self) -> torch.Tensor:
        """Return the gradient scaler's factor, fp32 [] on the device; 1 without a scaler. No host sync."""
        scaled = self.scaler.scale(self._one) if self.scaler else self._one
        assert isinstance(scaled, torch.Tensor)
        return scaled

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of the scaled loss to `.grad`, outside autocast."""
        scaled = self.scaler.scale(loss) if self.scaler else loss
        assert isinstance(scaled, torch.Tensor)
        with torch.autocast(self.device.type, enabled=False) if self.autocast_dtype else nullcontext():
            scaled.backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide `.grad` by the scale: from here on it holds the gradient of the loss itself."""
        if self.scaler:
            self.scaler.unscale_(optimizer)

    def step(
        self, optimizer: torch.optim.Optimizer, grad_norm: torch.Tensor, *, on_device: bool
    ) -> torch.Tensor | bool:
        """Step the optimizer where the gradient is finite: one inf would make every weight nan.

        grad_norm: of the unscaled gradients, [].
        on_device: the fused kernel of the optimizer skips by itself, and the host does not wait for `grad_norm`.
        Returns whether the step was applied, bool [] on the device if `on_device`.
        """
        applied: torch.Tensor | bool = torch.isfinite(grad_norm)
        if not on_device:
            applied = bool(applied)  # read once: each reading waits for the device
        step = partial(self.scaler.step, optimizer) if self.scaler else optimizer.step
        if isinstance(applied, torch.Tensor) and not self.scaler:
            optimizer.found_inf = (~applied).float()  # type: ignore[attr-defined]
            step()
            del optimizer.found_inf  # type: ignore[attr-defined]
        elif applied is not False:  # the scaler skips by itself: it has checked the same gradients
            step()
        if self.scaler:
            self.scaler.update()
        return applied

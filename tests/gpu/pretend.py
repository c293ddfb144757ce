"""A pretended GPU: tensors that say `cuda:0` and compute on the CPU, and a log of what the host would have waited for.

    with pretended() as gpu:
        train(model, ..., device="cuda")
    gpu.waits       # what would have made the host wait for the device, and where
    gpu.meetings    # operations that were given tensors of both
    gpu.calls       # operations of the device by name: their sum is what a host-bound step costs

It proves what the Python side of the GPU path does, and nothing about CUDA. Its limits:
- Waits inside CUDA's kernels and libraries, alignment, memory, streams, graphs and NCCL are not there. An operation is done
  when it returns; only `gpu.work(seconds)` moves the clock by which events and `synchronize` are answered.
- autograd and autocast see a CPU: autocast casts what it casts there, and random numbers are the CPU's.
- The kernels of packed attention are written out from their documentation (`attention.py`).
- A copy counts as pinned where its source was made by `pin_memory`. Two devices are one.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from ablate.training import checkpoint

DEVICE = torch.device("cuda", 0)
READS = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "__array__"}
DATA_DEPENDENT = {
    "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "_local_scalar_dense", "bincount", "equal",
    "is_nonzero", "argwhere",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"}
NO_KERNEL = {
    "view", "t", "transpose", "expand", "slice", "select", "unsqueeze", "squeeze", "detach", "alias", "permute", "unbind",
    "_unsafe_view", "split", "split_with_sizes", "as_strided", "reshape", "_reshape_alias", "chunk", "lift_fresh",
    "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided",
}  # fmt: skip
"""Operations that only make a tensor's outside."""


class Gpu:
    """The log of one pretended GPU. capability, name: as CUDA tells them. strict: raise at a wait, as CUDA can be told to."""

    def __init__(self, capability: tuple[int, int], name: str) -> None:
        self.capability, self.name, self.strict = capability, name, False
        self.waits: list[str] = []
        self.meetings: list[str] = []
        self.calls, self.copies = Counter[str](), Counter[str]()
        self.substitutes: dict[Any, Callable[..., Any]] = {}
        self.pinned: dict[int, torch.Tensor] = {}
        """By address; kept, so that no address is used again."""
        self.host_seconds: float | None = None
        """What the host's clock says, where a test makes it up; it moves on when the host waits."""
        self._busy_until = 0.0

    def wait(self, what: str) -> None:
        """Note a wait of the host."""
        here = [
            f"{f.filename.rpartition('/')[2]}:{f.lineno}"
            for f in traceback.extract_stack()
            if "/torch/" not in f.filename
        ]
        said = f"{what} < {' < '.join(reversed(here[-6:-1]))}"
        self.waits.append(said)
        if self.strict:
            raise RuntimeError(f"called a synchronizing CUDA operation: {said}")

    def work(self, seconds: float) -> None:
        """Give the device something to do that takes as long."""
        self._busy_until = self.now() + seconds

    def now(self) -> float:
        """When the device will have done what it was given."""
        return max(self._host(), self._busy_until)

    def wait_until(self, at: float) -> None:
        """Let the host wait."""
        if self.host_seconds is None:
            time.sleep(max(0.0, at - time.perf_counter()))
        else:
            self.host_seconds = max(self.host_seconds, at)

    def _host(self) -> float:
        return time.perf_counter() if self.host_seconds is None else self.host_seconds

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.pinned

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        self.pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def receive(self, source: torch.Tensor, non_blocking: bool) -> None:
        """Note a copy from the host."""
        kind = "pinned" if self.is_pinned(source) else "pageable"
        self.copies[kind] += 1
        if not (non_blocking and kind == "pinned"):  # from pageable memory CUDA first copies into a buffer of its own
            self.wait(f"copy from {kind} memory")


GPU: Gpu | None = None


class OnGpu(torch.Tensor):
    """A tensor `inner` of the CPU that says it lies on the device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor, requires_grad: bool = False) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=inner.device, requires_grad=requires_grad,
        )  # fmt: skip
        made.inner = inner
        return made

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnGpu({self.inner!r})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if GPU is not None:
            _note(GPU, func, args, kwargs)
        here, named = tree_map(_inner, args), tree_map(_inner, kwargs)
        if func is torch.ops.aten.copy_.default and not isinstance(args[0], OnGpu):
            func(*here, **named)
            return args[0]
        made = (GPU.substitutes.get(func, func) if GPU is not None else func)(*here, **named)
        return return_and_correct_aliasing(func, args, kwargs, tree_map(_outer, made))


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnGpu) else value


def _outer(value: Any) -> Any:
    return OnGpu(value) if isinstance(value, torch.Tensor) and not isinstance(value, OnGpu) else value


def _note(gpu: Gpu, func: Any, args: Any, kwargs: Any) -> None:
    """Log an operation on the device: its call, and what of it would wait or fail."""
    name = func._schema.name.split("::")[1]
    if name not in NO_KERNEL:
        gpu.calls[name] += 1
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    host = [tensor for tensor in tensors if not isinstance(tensor, OnGpu) and tensor.dim()]
    if name == "copy_":
        non_blocking = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        if not isinstance(args[0], OnGpu):
            if not (non_blocking and gpu.is_pinned(args[0])):
                gpu.wait("copy to the host")
        elif not isinstance(args[1], OnGpu):
            gpu.receive(args[1], non_blocking)
    elif host and name in INDEXING:
        gpu.wait(f"{name} by an index of the host")
    elif host and name != "_to_copy":
        gpu.meetings.append(f"{func} with a tensor of the host {[tuple(tensor.shape) for tensor in host]}")
    if name in DATA_DEPENDENT or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        gpu.wait(name)
    if name in INDEXING and any(
        tensor.dtype in (torch.bool, torch.uint8) for tensor in tree_leaves(args[1]) if tensor is not None
    ):
        gpu.wait(f"{name} by a mask")


class Calls(TorchFunctionMode):
    """Python calls that make, move and read tensors: what does not reach an operation as CUDA would see it."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        gpu, kwargs, name = self.gpu, dict(kwargs or {}), getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is not None and name in ("to", "cuda", "cpu"):
            device, dtype, non_blocking, copy = _parse_to(args[1:], kwargs)
            device = {"cuda": DEVICE, "cpu": torch.device("cpu")}.get(name, device)
            if device is not None:
                return self._move(first, device, dtype, non_blocking, copy)
        if first is not None and name in ("pin_memory", "is_pinned"):
            assert not isinstance(first, OnGpu)
            return gpu.pin(first.clone()) if name == "pin_memory" else gpu.is_pinned(first)
        if isinstance(first, OnGpu):
            if name == "numpy":
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if name in READS:
                gpu.wait(name)
                return func(first.inner, *args[1:], **kwargs)
            if name == "data_ptr":
                return first.inner.data_ptr()
            if name == "scaled_dot_product_attention":
                return Attention.apply(*_attention_arguments(*args, **kwargs))
            if func is torch.nn.functional.dropout and kwargs.get("training", True) and kwargs.get("p", 0.5):
                return torch.native_dropout(first, kwargs.get("p", 0.5), True)[0]  # one operation, as on a GPU
        if kwargs.pop("pin_memory", False):
            return gpu.pin(func(*args, **kwargs))
        if torch.device(kwargs.get("device") or "cpu").type == "cuda":
            return self._make(func, name, args, kwargs)
        return func(*args, **kwargs)

    def _make(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """Make a tensor on the device."""
        del kwargs["device"]
        if name in ("tensor", "as_tensor") and not isinstance(args[0], torch.Tensor):
            self.gpu.receive(torch.empty(0), False)
        if name not in NO_KERNEL:
            self.gpu.calls[name] += 1
        requires_grad = kwargs.pop("requires_grad", False)
        made = _outer(func(*tree_map(_inner, args), **tree_map(_inner, kwargs)))
        return made.requires_grad_(requires_grad)

    def _move(self, source: torch.Tensor, device: torch.device, dtype: Any, non_blocking: bool, copy: bool) -> Any:
        there, on = device.type == "cuda", isinstance(source, OnGpu)
        if there == on:
            return source.to(dtype or source.dtype, copy=copy)
        if on:
            self.gpu.wait("copy to the host")
            return _inner(source.detach()).to(dtype or source.dtype, copy=True)
        self.gpu.receive(source, non_blocking)
        moved = OnGpu(source.detach().to(dtype or source.dtype, copy=True))
        return moved.requires_grad_(source.requires_grad) if source.is_leaf else moved


class Attention(torch.autograd.Function):
    """Attention in one operation, and its gradient in another, as on a GPU: a CPU takes ten with a mask or dropout."""

    @staticmethod
    def forward(ctx: Any, *parts: Any) -> Any:
        ctx.inside = [_inner(part).detach() for part in parts[:3]]
        mask, settings = parts[3:]
        for part in ctx.inside:
            part.requires_grad_()
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            ctx.out = torch.nn.functional.scaled_dot_product_attention(*ctx.inside, attn_mask=_inner(mask), **settings)
        assert GPU is not None
        GPU.calls["attention"] += 1
        return OnGpu(ctx.out.detach())

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        assert GPU is not None
        GPU.calls["attention_backward"] += 1
        return (*map(OnGpu, torch.autograd.grad(ctx.out, ctx.inside, _inner(grad))), None, None)


def _attention_arguments(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, *rest: Any, **named: Any
) -> Any:
    """What `Attention` takes, cast as autocast casts it."""
    if torch.is_autocast_enabled("cuda"):
        query, key, value = (part.to(torch.get_autocast_dtype("cuda")) for part in (query, key, value))
    names = dict(zip(("is_causal", "scale", "enable_gqa"), rest, strict=False))
    return query, key, value, attn_mask, {"dropout_p": dropout_p} | names | named


def _parse_to(args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, bool, bool]:
    """(device, dtype, non_blocking, copy) of `Tensor.to` and `Module.to`."""
    device = dtype = None
    flags = [value for value in args if isinstance(value, bool)]
    for value in (*args, kwargs.get("device"), kwargs.get("dtype")):
        if isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, str | torch.device):
            device = torch.device(value)
        elif isinstance(value, torch.Tensor):
            device, dtype = value.device, value.dtype
    return device, dtype, kwargs.get("non_blocking", bool(flags and flags[0])), kwargs.get("copy", False)


def _event(gpu: Gpu) -> type:
    class Event:
        """`torch.cuda.Event` by the clock of the device."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.at: float | None = None

        def record(self, *_: Any) -> None:
            self.at = gpu.now()

        def synchronize(self) -> None:
            gpu.wait_until(self.at or 0.0)

        def elapsed_time(self, other: Event) -> float:
            assert self.at is not None
            assert other.at is not None
            return (other.at - self.at) * 1e3

    return Event


def _cuda(gpu: Gpu) -> dict[str, Any]:
    """What `torch.cuda` answers."""
    properties = SimpleNamespace(
        major=gpu.capability[0],
        minor=gpu.capability[1],
        name=gpu.name,
        total_memory=80 << 30,
        multi_processor_count=132,
    )

    def synchronize(*_: Any) -> None:
        gpu.wait_until(gpu.now())

    def sync_debug_mode(mode: str) -> None:
        gpu.strict = mode == "error"

    def bf16(including_emulation: bool = True) -> bool:
        return including_emulation or gpu.capability >= (8, 0)

    return {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0, "is_initialized": lambda: True,
        "get_device_name": lambda *_: gpu.name, "get_device_capability": lambda *_: gpu.capability,
        "get_device_properties": lambda *_: properties, "is_bf16_supported": bf16, "synchronize": synchronize,
        "max_memory_allocated": lambda *_: 1 << 30, "mem_get_info": lambda *_: (40 << 30, 80 << 30),
        "get_rng_state": lambda *_: torch.get_rng_state(), "set_rng_state": lambda state, *_: torch.set_rng_state(state),
        "manual_seed": torch.manual_seed, "current_stream": lambda *_: None,
        "Event": _event(gpu), "device": lambda *_: nullcontext(), "_lazy_init": lambda: None,
        "set_sync_debug_mode": sync_debug_mode, "is_current_stream_capturing": lambda: False, "set_device": lambda *_: None,
    }  # fmt: skip


@contextmanager
def pretended(capability: tuple[int, int] = (9, 0), name: str = "NVIDIA H100 80GB HBM3") -> Iterator[Gpu]:
    """Inside, there is one GPU, and it is pretended."""
    global GPU
    gpu = GPU = Gpu(capability, name)
    from tests.gpu.attention import SUBSTITUTES

    gpu.substitutes = SUBSTITUTES
    autocast_on, autocast_dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    plain_to, plain_flatten = torch.nn.Module.to, checkpoint._flatten

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, **settings: Any) -> None:
            dtype = dtype or (torch.float16 if device_type == "cuda" else None)
            super().__init__("cpu", dtype=dtype, enabled=enabled, **settings)

    def by_device(lists: Any, with_indices: bool = False) -> Any:
        on = any(isinstance(tensor, OnGpu) for some in lists for tensor in some)
        grouped = torch.utils._foreach_utils._group_tensors_by_device_and_dtype(lists, with_indices)
        return {(DEVICE if on else device, dtype): value for (device, dtype), value in grouped.items()}

    def module_to(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Move nothing that is there already: a real move keeps the identity of parameters, and this one cannot."""
        device, dtype, _, _ = _parse_to(args, kwargs)
        if (
            device is not None
            and dtype is None
            and all(isinstance(p, OnGpu) == (device.type == "cuda") for p in self.parameters())
        ):
            return self
        return plain_to(self, *args, **kwargs)

    def flatten(value: Any, *rest: Any) -> Any:
        """A checkpoint takes plain tensors only, which on a real GPU these are."""
        is_wrapped = isinstance(value, OnGpu)
        return plain_flatten(value.detach().cpu() if is_wrapped else value, *rest)

    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with ExitStack() as stack:
            for key, value in _cuda(gpu).items():
                stack.enter_context(patch.object(torch.cuda, key, value))
            for owner, key, value in (
                (torch, "autocast", Autocast),
                (torch, "is_autocast_enabled", lambda *_: autocast_on("cpu")),
                (torch, "get_autocast_dtype", lambda *_: autocast_dtype("cpu")),
                (torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(by_device)),
                (torch.version, "cuda", "13.0"),
                (torch.nn.Module, "to", module_to),
                (checkpoint, "_flatten", flatten),
            ):
                stack.enter_context(patch.object(owner, key, value))
            stack.enter_context(Calls(gpu))
            yield gpu
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        GPU = None

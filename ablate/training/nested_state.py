"""Nested state as named tensors and plain JSON, and back with every type restored: what a checkpoint holds without pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ablate.errors import LoopError

# In the JSON, a mapping has one key, its kind; a list is a list, and everything else is itself.
_TENSOR, _STRIDES, _FLOAT, _TUPLE, _DICT = "tensor", "strides", "float", "tuple", "dict"


def flatten_state(value: Any, name: str = "") -> tuple[Any, dict[str, torch.Tensor]]:
    """Return (JSON, tensors by name on the host).

    name: of the value, the prefix of every tensor's name, quoted in errors.

    The value holds tensors, numbers, strings, None, and lists, tuples and dicts of them; the keys of a dict are
    strings or whole numbers.
    Raises LoopError naming anything else.
    """
    tensors: dict[str, torch.Tensor] = {}
    plain = _flatten(value, name, tensors)
    return plain, _unshared(tensors)


def restore_state(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return what `flatten_state` was given. Raises KeyError for a missing tensor, ValueError for malformed JSON."""
    if isinstance(value, list):
        return [restore_state(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"tensor": name, "strides": strides}:
            plain = tensors[name]
            return torch.empty_strided(plain.shape, strides, dtype=plain.dtype).copy_(plain)
        case {"tensor": name}:
            return tensors[name]
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(restore_state(item, tensors) for item in items)
        case {"dict": pairs}:
            return {key: restore_state(item, tensors) for key, item in pairs}
    raise ValueError(f"malformed state entry: unknown keys {sorted(value)}")


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    kind = type(value)
    if kind in (torch.Tensor, nn.Parameter):
        return _tensor(value.detach(), name, tensors)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if kind in (list, tuple):
        items = [_flatten(item, _under(name, index), tensors) for index, item in enumerate(value)]
        return items if kind is list else {_TUPLE: items}
    if kind is dict and all(type(key) in (str, int) for key in value):
        return {_DICT: [[key, _flatten(item, _under(name, key), tensors)] for key, item in value.items()]}
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    what = "with keys that are not text" if kind is dict else f"of type {module}{kind.__qualname__}"
    raise LoopError(
        f"{name} is {value!r:.60} {what}, which a checkpoint cannot hold: it holds tensors, numbers, strings, None, and "
        "lists, tuples and dicts of them",
        "float(...) or int(...) for a number, or checkpoints=None",
    )


def _under(name: str, key: str | int) -> str:
    return f"{name}.{key}" if name else str(key)


def _tensor(value: torch.Tensor, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    if value.dtype in (torch.complex128, torch.complex32) or value.is_quantized or value.layout != torch.strided:
        raise LoopError(
            f"{name} is a tensor of {value.dtype}, {value.layout}, which a checkpoint cannot hold", "checkpoints=None"
        )
    tensors[name] = value.cpu().contiguous()
    # The moments of permuted weights (channels last) have the strides of the weights, and fused kernels rely on it.
    permuted = not value.is_contiguous() and torch.empty_like(value).stride() == value.stride()
    return {_TENSOR: name, _STRIDES: list(value.stride())} if permuted else {_TENSOR: name}


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give each tensor its own memory: a safetensors file holds neither two names of one storage nor a part of a larger one."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensors[name] = tensor.clone()
        seen.add(storage.data_ptr())
    return tensors

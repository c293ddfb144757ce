"""Placeholder for a module that an ablation removes: returns outputs of the same form, made of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ablate.errors import ModelError


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call of a module: its input tensor and its output."""

    given: torch.Tensor
    output: Any


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor of the output. dtype: None is the input's.

    dims: for each dimension the input's whose size it has, or ~size where that is always the same.
    """

    dims: tuple[int, ...]
    dtype: torch.dtype | None

    def zeros(self, given: torch.Tensor) -> torch.Tensor:
        sizes = [given.shape[dim] if dim >= 0 else ~dim for dim in self.dims]
        return given.new_zeros(sizes, dtype=self.dtype or given.dtype)


@dataclass(frozen=True, slots=True)
class _Record:
    """A mapping of the output, such as one of transformers' outputs."""

    kind: Any
    parts: dict[str, Any]


class StandIn(nn.Module):
    """Module without weights that returns its input or zeros.

    passing: the first tensor of the output is the input; otherwise it is zeros, as all other tensors are.
    calls: two calls of the original module on inputs of different shapes. Raises ModelError if they do not determine the form
    of the output.
    text: the edit as in the config, for messages.
    """

    def __init__(self, original: nn.Module, *, passing: bool, calls: Sequence[Call], text: str) -> None:
        super().__init__()
        self.kind = "removed" if passing else "zeroed"
        for name, value in vars(original).items():  # callers read plain attributes of a layer, such as `attention_type`
            if not name.startswith("_") and name not in vars(self) and isinstance(value, str | int):
                setattr(self, name, value)
        first, second = calls
        self._passing = passing
        self._form = _form(first.output, second.output, (first.given, second.given), text)
        made = _tensors(first.output)
        if not made:
            raise ModelError(f"{text}: its output has no tensor", "name a module inside or around it")
        if passing:
            _check_passes(first.given, made[0], text)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = subject(args, kwargs)
        return _filled(self._form, given, [given] if self._passing else [])

    def extra_repr(self) -> str:
        return self.kind


def subject(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The tensor that a module works on: its first positional one, or `hidden_states`, or the first keyword that is one."""
    named = [kwargs[name] for name in ("hidden_states",) if name in kwargs]
    found = next((value for value in (*args, *named, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
    if found is None:
        raise ModelError("a module that takes no tensor cannot be replaced", "name the modules inside it")
    return found


def _form(output: Any, again: Any, given: tuple[torch.Tensor, torch.Tensor], text: str) -> Any:
    """The output with a `_Tensor` for every tensor. again, given: the second output, and the inputs of both."""
    if isinstance(output, torch.Tensor):
        return _tensor(output, again, given, text)
    if isinstance(output, Mapping):
        return _Record(type(output), {key: _form(output[key], again[key], given, text) for key in output})
    if isinstance(output, tuple | list):
        return type(output)(_form(*pair, given, text) for pair in zip(output, again, strict=True))
    return output


def _filled(form: Any, given: torch.Tensor, through: list[torch.Tensor]) -> Any:
    """An output of that form. through: what the first tensor of it is, if anything; it is taken out of the list."""
    if isinstance(form, _Tensor):
        return through.pop() if through else form.zeros(given)
    if isinstance(form, _Record):
        return form.kind(**{key: _filled(part, given, through) for key, part in form.parts.items()})
    if isinstance(form, tuple | list):
        return type(form)(_filled(part, given, through) for part in form)
    return form


def _tensors(output: Any) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _tensor(made: torch.Tensor, again: torch.Tensor, given: tuple[torch.Tensor, torch.Tensor], text: str) -> _Tensor:
    """How the shape of an output follows from the input's, from two pairs of them."""
    first, second = given
    dims = []
    for size, other in zip(made.shape, again.shape, strict=True):
        pairs = list(zip(first.shape, second.shape, strict=True))
        if size == other:
            dims.append(~size)
        elif (size, other) in pairs:
            dims.append(pairs.index((size, other)))
        else:
            raise ModelError(
                f"{text}: the shape of its output, {shape(made)}, does not follow from its input's, {shape(first)}",
                "name a module inside or around it",
            )
    return _Tensor(tuple(dims), None if made.dtype == first.dtype else made.dtype)


def _check_passes(given: torch.Tensor, made: torch.Tensor, text: str) -> None:
    if given.shape != made.shape or given.is_floating_point() != made.is_floating_point():
        raise ModelError(
            f"{text}: its input, {shape(given)}, has another shape than its output, {shape(made)}",
            f"{text.replace('remove:', 'zero:')}, or remove a module inside it",
        )


def shape(tensor: torch.Tensor) -> str:
    """In words: float32 [2, 5, 384]."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"

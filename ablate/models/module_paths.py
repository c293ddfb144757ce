"""The ways to write the path of a module: its own, the same from the base model on, and names that every architecture has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from ablate.errors import ModelError, nearest


class Paths:
    """Find modules by path, glob or layer number.

        bert.encoder.layer.0.attention, encoder.layer.0.attention     a module's own path, whole or from the base model on
        encoder.layer.*.attention                                     a glob: `*` is one part of a path, `**` any number
        layers.0, layers.-1, layers.0-2, layers.lower, layers.upper   layers, counted from the embeddings; of an odd number
                                                                      the middle one belongs to `upper`
        layers.0.attention                                            a module inside a layer
        embeddings, head                                              everything before the layers; outside the base model

    layers: the paths of the model's layers, in their order; empty where it has no such list.
    """

    def __init__(self, model: nn.Module) -> None:
        top: Any = model
        base = getattr(top, "base_model", top)
        real = {module: name for name, module in model.named_modules() if name}
        found = layers_of(base) if hasattr(base, "config") else None
        self.model_name = type(model).__name__
        self.layers = [real[layer] for layer in found or ()]
        self._real = list(real.values())
        self._by_spelling = {name: [name] for name in self._real}
        for start in (f"{real[base]}." if base in real else "", ""):
            self._also(start, "")
        for number, layer in enumerate(self.layers):
            self._also(f"{layer}.", f"layers.{number}.")
            self._by_spelling[f"layers.{number}"] = [layer]
        groups = {"embeddings": _embeddings(base, found), "head": _head(top, base)}
        self._by_spelling |= {name: [real[m] for m in modules] for name, modules in groups.items() if modules}

    def find(self, pattern: str, *, key: str) -> list[str]:
        """Return the paths that match, in the model's order. Raises ModelError without a match.

        key: config key of the pattern, for the message.
        """
        patterns = [expanded.split(".") for expanded in self._expand(pattern, key)]
        wanted = {
            path
            for spelling, paths in self._by_spelling.items()
            if any(_matches(spelling.split("."), parts) for parts in patterns)
            for path in paths
        }
        if not wanted:
            raise ModelError(
                f"{key}: {pattern!r} matches no module of {self.model_name}{self._which()}", self._near(pattern)
            )
        return [path for path in self._real if path in wanted]

    def _also(self, start: str, instead: str) -> None:
        """Spell paths that begin with `start` with `instead` as well; a module's own path comes first."""
        for name in self._real:
            if name.startswith(start):
                self._by_spelling.setdefault(instead + name.removeprefix(start), [name])

    def _expand(self, typed: str, key: str) -> Iterator[str]:
        """A path, or a path for each layer that it speaks of."""
        first, _, rest = typed.partition(".")
        numbers, dot, inside = rest.partition(".")
        if first != "layers" or not (asked := self._numbers(numbers)):
            yield typed
            return
        low, high = asked
        if not 0 <= low <= high < len(self.layers):
            raise ModelError(
                f"{key}: {typed!r} matches no module of {self.model_name}{self._which()}", self._near(typed)
            )
        for number in range(low, high + 1):
            yield f"layers.{number}{dot}{inside}"

    def _numbers(self, typed: str) -> tuple[int, int] | None:
        """First and last layer of `3`, `-1`, `0-2`, `lower` or `upper`; None for anything else."""
        count = len(self.layers)
        if typed in ("lower", "upper"):
            return (0, count // 2 - 1) if typed == "lower" else (count // 2, count - 1)
        found = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", typed)
        if found is None:
            return None
        low = int(found[1])
        ends = (low, low if found[2] is None else int(found[2]))
        first, last = (number + count if number < 0 else number for number in ends)
        return first, last

    def _which(self) -> str:
        return f", which has layers 0 to {len(self.layers) - 1}" if self.layers else ", which has no list of layers"

    def _near(self, typed: str) -> str:
        found = nearest(typed, self._by_spelling)
        if found.startswith("did you mean"):
            return found
        short = [name for name in self._by_spelling if "." not in name or re.fullmatch(r"layers\.\d+", name)]
        return f"known: {', '.join(short)}, and every module inside them"


def inside(path: str, outer: str) -> bool:
    """Whether `path` is `outer` or a module in it."""
    return path == outer or path.startswith(f"{outer}.")


def _embeddings(base: nn.Module, layers: Any) -> list[nn.Module]:
    """Return the parts of the base model that embed tokens and positions."""
    return [
        child
        for name, child in base.named_children()
        if layers not in list(child.modules())
        and ("embed" in name or any(isinstance(module, nn.Embedding) for module in child.modules()))
        and next(child.parameters(), None) is not None
    ]


def _head(top: nn.Module, base: nn.Module) -> list[nn.Module]:
    """Return the modules with weights outside the base model."""
    if base is top:
        return []
    return [child for child in top.children() if child is not base and next(child.parameters(), None) is not None]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Part by part; `**` is any number of them."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def layers_of(base: Any) -> Any:
    """The outermost list that has as many modules as the config says layers; None without one."""
    wanted = getattr(base.config, "num_hidden_layers", 0)
    return next((m for m in base.modules() if isinstance(m, nn.ModuleList) and len(m) == wanted > 0), None)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; every module's mode is as it was outside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def first_line(error: Exception) -> str:
    """An error as one line of a sentence."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"

"""Checkpoints: all that a run needs to go on as if it had never stopped, bit for bit on a CPU.

`<run>/checkpoint/step=<n>/` holds `model.safetensors`, `optimizer.safetensors` and `optimizer.json` (moments, settings, the
gradient scaler's state), and `state.json` (counters, the extent of every table, and the set-up that they belong to). Streams
have no state: what they draw is a function of seed and step. A folder appears whole or not at all, and nothing is pickled.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from ablate.errors import LoopError
from ablate.serialization import read_json, write_json
from ablate.training.distributed import Ranks, full, local

# Nested state as named tensors and plain JSON, and back with every type as it was: what a checkpoint holds
# without pickle.

# In the JSON, a mapping has one key, which says what stands there; a list is a list, and the rest is itself.
_TENSOR, _STRIDES, _FLOAT, _TUPLE, _DICT = "tensor", "strides", "float", "tuple", "dict"


def take_apart(value: Any, name: str = "") -> tuple[Any, dict[str, torch.Tensor]]:
    """(JSON, tensors by name on the host). name: of the value; with it begins every tensor's name, and what an error quotes.

    Tensors, numbers, strings, None, and lists, tuples and dicts of them; the keys of a dict are strings or whole numbers.
    Raises LoopError naming anything else.
    """
    tensors: dict[str, torch.Tensor] = {}
    plain = _apart(value, name, tensors)
    return plain, _unshared(tensors)


def put_together(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """What `take_apart` was given. Raises KeyError for a tensor that is missing, ValueError for JSON of another shape."""
    if isinstance(value, list):
        return [put_together(item, tensors) for item in value]
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
            return tuple(put_together(item, tensors) for item in items)
        case {"dict": pairs}:
            return {key: put_together(item, tensors) for key, item in pairs}
    raise ValueError(f"{sorted(value)} says nothing about what stands there")


def _apart(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    kind = type(value)
    if kind in (torch.Tensor, nn.Parameter):
        return _tensor(value.detach(), name, tensors)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if kind in (list, tuple):
        items = [_apart(item, _under(name, place), tensors) for place, item in enumerate(value)]
        return items if kind is list else {_TUPLE: items}
    if kind is dict and all(type(key) in (str, int) for key in value):
        return {_DICT: [[key, _apart(item, _under(name, key), tensors)] for key, item in value.items()]}
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    what = "with keys that are no text" if kind is dict else f"of type {module}{kind.__qualname__}"
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
    # The moments of weights that lie otherwise in memory (channels last) lie as they do, and fused kernels rely on it.
    permuted = not value.is_contiguous() and torch.empty_like(value).stride() == value.stride()
    return {_TENSOR: name, _STRIDES: list(value.stride())} if permuted else {_TENSOR: name}


def _unshared(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each in memory of its own: a file of tensors holds no two names of one piece, and no part of a larger one."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensors[name] = tensor.clone()
        seen.add(storage.data_ptr())
    return tensors


ABSENT = "nothing"

_READABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint. state: what `save` was given."""

    folder: Path
    state: dict[str, Any]

    def load(self, ranks: Ranks, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
        """Put weights, moments and the scaler's state in place. Raises LoopError where a file cannot be read."""
        if (self.folder / "optimizer.pt").exists():
            raise LoopError(
                f"{self.folder} was saved by an earlier version of ablate: optimizer.pt is a pickle, and none is read",
                f"remove {self.folder}: the run then begins again",
            )
        try:
            weights = load_file(self.folder / "model.safetensors")
            rest = put_together(
                read_json(self.folder / "optimizer.json"), load_file(self.folder / "optimizer.safetensors")
            )
            _load_weights(ranks, weights)
            if ranks.sharded:
                from ablate.training import checkpoint as sharded

                sharded.load_optimizer(ranks.bare, optimizer, rest["optimizer"])
            else:
                optimizer.load_state_dict(rest["optimizer"])
        except _READABLE as error:
            raise LoopError(
                f"{self.folder} cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}",
                f"remove {self.folder}: the run then goes on from an older one, or begins again",
            ) from error
        if scaler is not None:
            scaler.load_state_dict(rest["scaler"])


def latest(folder: Path) -> Saved | None:
    """The newest checkpoint of a run folder's `checkpoint/`; None where there is none."""
    found = steps(folder)
    return at(folder, max(found)) if found else None


def at(folder: Path, step: int) -> Saved:
    """The checkpoint after this step. Raises LoopError where there is none that can be read."""
    place = folder / f"step={step}"
    try:
        return Saved(place, read_json(place / "state.json"))
    except (OSError, ValueError) as error:
        raise LoopError(f"{place} cannot be read: {error}", f"remove {place}") from None


def steps(folder: Path) -> dict[int, Path]:
    """{step: folder} of the checkpoints that are there."""
    names = ((re.fullmatch(r"step=(\d+)", path.name), path) for path in folder.glob("step=*"))
    return {int(match[1]): path for match, path in names if match}


def save(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    ranks: Ranks,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    *,
    keep: int | None,
) -> None:
    """Write one checkpoint, and then remove all but the newest `keep` (None: none of them). Every process must call it; the
    first one writes."""
    weights = {
        name: full(tensor).detach().cpu().contiguous() for name, tensor in _unshared_checkpoint(ranks.bare).items()
    }
    rest = {"optimizer": _moments(ranks, optimizer), "scaler": scaler.state_dict() if scaler else None}
    if ranks.records:
        plain, tensors = take_apart(rest)
        part = folder / f".step={step}.{os.getpid()}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(weights, part / "model.safetensors")
        save_file(tensors, part / "optimizer.safetensors")
        write_json(part / "optimizer.json", plain)
        write_json(part / "state.json", state)
        for path in (*part.iterdir(), part):
            _on_disk(path)
        whole = folder / f"step={step}"
        shutil.rmtree(whole, ignore_errors=True)
        part.rename(whole)
        _on_disk(folder)
        for old in sorted(steps(folder))[:-keep] if keep else ():
            shutil.rmtree(folder / f"step={old}")
        for torn in folder.glob(".*.part"):
            shutil.rmtree(torn, ignore_errors=True)
    ranks.wait()


def check_can_hold(optimizer: torch.optim.Optimizer) -> None:
    """Raise LoopError before the first step, not at the first checkpoint, for a setting that none can hold."""
    groups = [{key: item for key, item in group.items() if key != "params"} for group in optimizer.param_groups]
    take_apart(groups, "optimizer.param_groups")


def check_same_setup(saved: Saved, setup: Mapping[str, Any], *, may_differ: Collection[str] = ()) -> None:
    """Raise LoopError naming what differs first between the run that made a checkpoint and this one.

    may_differ: items of the set-up, by name, that were proven not to matter up to there.
    """
    before, now = (
        dict(_leaves({item: value for item, value in one.items() if item not in may_differ}))
        for one in (saved.state["setup"], setup)
    )
    for key in sorted({*before, *now}, key=lambda key: (key not in before, key not in now, key)):
        # As text: 1, 1.0 and true are equal to Python, and are not the same setting.
        if json.dumps(before.get(key, ABSENT)) != json.dumps(now.get(key, ABSENT), default=str):
            raise LoopError(
                f"{saved.folder} was made with {key}={before.get(key, ABSENT)}, and this run has "
                f"{key}={now.get(key, ABSENT)}",
                f"{key}={before[key]} to go on with it, or another folder" if key in before else "another folder",
            )


def _moments(ranks: Ranks, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    if not ranks.sharded:
        return optimizer.state_dict()
    from ablate.training import checkpoint as sharded

    return sharded.optimizer_state(ranks.bare, optimizer)


def _load_weights(ranks: Ranks, weights: dict[str, torch.Tensor]) -> None:
    if ranks.sharded:
        from ablate.training import checkpoint as sharded

        sharded.load_weights(ranks.bare, weights)
        return
    wanted = set(_unshared_checkpoint(ranks.bare))
    if wanted != set(weights):
        odd = sorted(wanted ^ set(weights))[0]
        raise KeyError(f"the model and the checkpoint do not both have {odd}")
    ranks.bare.load_state_dict(weights, strict=False)  # the names that are left out share another name's memory


def _unshared_checkpoint(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state by name, one name for each piece of memory: tied weights are saved once."""
    seen: dict[Any, str] = {}
    state: dict[str, torch.Tensor] = model.state_dict()
    for name, tensor in state.items():
        place = local(tensor).data_ptr()
        seen.setdefault((place, tensor.shape, tensor.stride()) if tensor.numel() and place else name, name)
    return {name: state[name] for name in seen.values()}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        # As JSON gives it back: what was saved is compared with what is asked now.
        yield prefix, list(value) if isinstance(value, tuple) else value


def _on_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# State of a model that FSDP2 shards, put together and taken apart. Imported where there is one: it costs half a
# second.

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Whole moments on the host, in the first process; all processes must ask."""
    return get_optimizer_state_dict(model, optimizer, options=_WHOLE)


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Each process keeps its part of whole moments."""
    set_optimizer_state_dict(model, optimizer, state, options=_WHOLE)


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Each process keeps its part of whole weights."""
    set_model_state_dict(model, dict(weights), options=_WHOLE)

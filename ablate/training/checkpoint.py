"""Checkpoints: everything that a run needs to resume as if it had never stopped, bit for bit on a CPU.

`<run_dir>/checkpoint/step=<n>/` holds `model.safetensors`, `optimizer.safetensors` and `optimizer.json` (moments, settings, the
gradient scaler's state), and `state.json` (counters, the extent of every table, and the set-up that they belong to).
Random streams have no state: their draws are functions of seed and step. A checkpoint appears whole or not at all, and nothing
is pickled.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ablate.errors import LoopError
from ablate.records.layout import RunDir
from ablate.serialization import read_json, write_json
from ablate.training.distributed import Ranks, full, local
from ablate.units import SECONDS, UNITS, parse_interval

ABSENT = "nothing"

_READABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(slots=True)
class Position:
    """Position of a run in its budget: optimizer steps taken, and the samples and real tokens in them."""

    step: int = 0
    samples: int = 0
    tokens: int = 0

    def add(self, *, samples: int, tokens: int) -> None:
        """Move on by one optimizer step."""
        self.step, self.samples, self.tokens = self.step + 1, self.samples + samples, self.tokens + tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoints:
    """When a run is saved, and how many checkpoints stay. A run that `should_stop` ends is saved as well.

    every: `500 steps`, `4096 samples`, `1 epochs`, or by the clock `5 minutes`; None saves only when the run is stopped.
    keep: number of checkpoints that stay, the newest ones.
    keep_final: save once more when the run has finished; otherwise a finished run leaves no checkpoint.
    resume: continue from the newest checkpoint in the run directory, if there is one. False refuses a directory that has one.
    """

    every: str | int | None = "5 minutes"
    keep: int = 1
    keep_final: bool = True
    resume: bool = True


class CheckpointManager:
    """Saves a run when it is due, and restores it from the newest checkpoint of its directory.

    settings: None never saves.
    setup: settings that must be equal for a run to resume from a checkpoint.
    sizes: samples per step and per epoch.
    A damaged checkpoint is removed with a line that says so: the run resumes from the one before it, or begins again.
    Raises LoopError for a checkpoint that was made with another setup, or that `settings` does not ask to resume from, and for
    a setting of the optimizer that no checkpoint can hold.
    """

    def __init__(
        self,
        settings: Checkpoints | None,
        run_dir: str | Path | None,
        setup: Mapping[str, Any],
        *,
        ranks: Ranks,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
        sizes: dict[str, int],
    ) -> None:
        self.settings, self.setup = settings, setup
        self._ranks, self._optimizer, self._scaler = ranks, optimizer, scaler
        self._folder = None if run_dir is None else RunDir(Path(run_dir)).checkpoint
        if (settings is None or not settings.resume) and self._folder is not None and (saved := _steps(self._folder)):
            raise LoopError(
                f"{saved[max(saved)]} is a checkpoint of a run that was begun in this directory",
                "checkpoint=Checkpoints() resumes from it; or another run_dir, or remove it",
            )
        self._newest, state = _newest_whole(self._folder, ranks) if self._folder is not None else (None, {})
        if settings is not None:  # before the first step, not at the first checkpoint
            groups = [{key: item for key, item in group.items() if key != "params"} for group in optimizer.param_groups]
            flatten_state(groups, "optimizer.param_groups")
        if self._newest is not None:
            _check_same_setup(self._newest, state["setup"], setup)
        self.position = Position(**state.get("position", {}))
        self.evaluated_at: int = state.get("evaluated_at", -1)
        self.recorder_state: dict[str, Any] | None = state.get("recorder")
        self._samples, self._seconds = _every(settings, sizes)
        self._last_samples, self._last_time = self.position.samples, time.monotonic()

    def is_due(self, position: Position, *, final: bool) -> bool:
        """Return whether to save now; all processes decide alike. final: after the last step."""
        if self.settings is None:
            return False
        if final:
            return self.settings.keep_final
        if self._samples is not None:
            return position.samples // self._samples > self._last_samples // self._samples
        if self._seconds is None or not self._ranks.agrees_at(position.step):
            return False
        due = time.monotonic() - self._last_time >= self._seconds
        return self._ranks.sum_counts(due) != [0]

    def save(self, position: Position, recorder_state: Mapping[str, Any], *, evaluated_at: int) -> None:
        """Write a checkpoint, then remove all but the newest ones; nothing where there are no settings for it.

        Every process must call this; the first one writes.
        """
        if self.settings is None or self._folder is None:
            return
        ranks = self._ranks
        weights = {name: full(tensor).detach().cpu().contiguous() for name, tensor in _untied_state(ranks.bare).items()}
        rest = {"optimizer": self._optimizer_state(), "scaler": self._scaler.state_dict() if self._scaler else None}
        if ranks.records:
            state = {
                "setup": self.setup, "position": asdict(position), "evaluated_at": evaluated_at,
                "recorder": recorder_state,
            }  # fmt: skip
            _write(self._folder, position.step, state, weights, rest)
            for old in sorted(_steps(self._folder))[: -self.settings.keep]:
                shutil.rmtree(self._folder / f"step={old}")
            for torn in self._folder.glob(".*.part"):
                shutil.rmtree(torn, ignore_errors=True)
        ranks.wait()
        self._last_samples, self._last_time = position.samples, time.monotonic()

    def load(self) -> None:
        """Restore weights, optimizer and scaler. Raises LoopError where they do not fit the model."""
        folder = self._newest
        if folder is None:
            return
        try:
            weights = load_file(folder / "model.safetensors")
            rest = restore_state(read_json(folder / "optimizer.json"), load_file(folder / "optimizer.safetensors"))
            self._restore(weights, rest["optimizer"])
        except _READABLE as error:
            raise LoopError(
                f"{folder} cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}",
                f"remove {folder}: the run then resumes from an older checkpoint, or begins again",
            ) from error
        if self._scaler is not None:
            self._scaler.load_state_dict(rest["scaler"])

    def clear(self) -> None:
        """Remove the checkpoints of a run that has ended for good, unless the final one is kept."""
        final = self.settings is None or self.settings.keep_final
        if not final and self._folder is not None and self._ranks.records:
            shutil.rmtree(self._folder, ignore_errors=True)

    # FSDP2's state functions are imported for a sharded model only: the import takes half a second.

    def _optimizer_state(self) -> dict[str, Any]:
        """Return the whole optimizer state, of a sharded model on the host of the first process."""
        if not self._ranks.sharded:
            return self._optimizer.state_dict()
        from torch.distributed.checkpoint import state_dict as sharded

        options = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return sharded.get_optimizer_state_dict(self._ranks.bare, self._optimizer, options=options)

    def _restore(self, weights: dict[str, torch.Tensor], optimizer: dict[str, Any]) -> None:
        """Load the weights and the optimizer state, or this process's part of them."""
        bare = self._ranks.bare
        if self._ranks.sharded:
            from torch.distributed.checkpoint import state_dict as sharded

            options = sharded.StateDictOptions(full_state_dict=True, cpu_offload=True)
            sharded.set_model_state_dict(bare, dict(weights), options=options)
            sharded.set_optimizer_state_dict(bare, self._optimizer, optimizer, options=options)
            return
        if odd := sorted(set(_untied_state(bare)) ^ set(weights)):
            raise KeyError(f"the model and the checkpoint do not both have {odd[0]}")
        bare.load_state_dict(weights, strict=False)  # the names that are left out share another name's memory
        self._optimizer.load_state_dict(optimizer)


def _newest_whole(folder: Path, ranks: Ranks) -> tuple[Path | None, dict[str, Any]]:
    """Return the newest checkpoint that is not damaged and its `state.json`; remove those that are, and say so."""
    saved = _steps(folder)
    for step in sorted(saved, reverse=True):
        try:
            return saved[step], _checked_state(saved[step])
        except _READABLE as error:
            older = max((other for other in saved if other < step), default=None)
            after = (
                "the run begins again" if older is None else f"the run resumes from step {older}, if that one is whole"
            )
            if ranks.records:
                print(f"{saved[step]} is damaged ({' '.join(str(error).split())}): {after}", flush=True)
        ranks.wait()  # all processes have seen it
        if ranks.records:
            shutil.rmtree(saved[step], ignore_errors=True)
    return None, {}


def _checked_state(folder: Path) -> dict[str, Any]:
    """Return the state of a checkpoint. Raises OSError or ValueError where a file of it, or a table before it, is damaged.

    The tables of the run are hashed as far as they were when the checkpoint was made: its rows must not be lost silently.
    """
    if (folder / "optimizer.pt").exists():
        raise LoopError(
            f"{folder} was saved by an earlier version of ablate: optimizer.pt is a pickle, which is never read",
            f"remove {folder}: the run then begins again",
        )
    state = read_json(folder / "state.json")
    if not isinstance(state, dict) or not isinstance(state.get("files"), dict):
        raise ValueError("state.json does not list its files")
    for name, (size, expected) in state["files"].items():
        if _hash(_file_of(folder, name), size) != expected:
            raise ValueError(f"{name} has other bytes than when it was saved")
    return state


def _file_of(folder: Path, name: str) -> Path:
    """The file of a checkpoint, or a table of its run."""
    return folder.parents[1] / name if name.endswith(".arrow") else folder / name


def _hash(path: Path, size: int) -> str:
    """Return the sha256 of the first `size` bytes of a file. Raises OSError where it is missing."""
    total = sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, 2**20))):
            total.update(block)
            size -= len(block)
    return total.hexdigest()


def _steps(folder: Path) -> dict[int, Path]:
    """Return {step: folder} of all checkpoints."""
    names = ((re.fullmatch(r"step=(\d+)", path.name), path) for path in folder.glob("step=*"))
    return {int(match[1]): path for match, path in names if match}


def _write(
    folder: Path, step: int, state: Mapping[str, Any], weights: dict[str, torch.Tensor], rest: Mapping[str, Any]
) -> None:
    plain, tensors = flatten_state(rest)
    part = folder / f".step={step}.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(weights, part / "model.safetensors")
    save_file(tensors, part / "optimizer.safetensors")
    write_json(part / "optimizer.json", plain)
    sizes = {path.name: path.stat().st_size for path in part.iterdir()}
    sizes |= {f"{name}.arrow": size for name, size in state["recorder"].get("extents", {}).items() if size}
    files = {name: (size, _hash(_file_of(part, name), size)) for name, size in sizes.items()}
    write_json(part / "state.json", {**state, "files": files}, checksum=True)
    for path in (*part.iterdir(), part):
        _on_disk(path)
    whole = folder / f"step={step}"
    shutil.rmtree(whole, ignore_errors=True)
    part.rename(whole)
    _on_disk(folder)


def _check_same_setup(folder: Path, saved: Mapping[str, Any], setup: Mapping[str, Any]) -> None:
    """Raise LoopError naming the first setting that differs between the run that made a checkpoint and this one."""
    before, now = (dict(_leaves(settings)) for settings in (saved, setup))
    for key in sorted({*before, *now}, key=lambda key: (key not in before, key not in now, key)):
        # As text: 1, 1.0 and true are equal to Python, and are not the same setting.
        if json.dumps(before.get(key, ABSENT)) != json.dumps(now.get(key, ABSENT), default=str):
            raise LoopError(
                f"{folder} was made with {key}={before.get(key, ABSENT)}, and this run has {key}={now.get(key, ABSENT)}",
                f"{key}={before[key]} to resume from it, or another run_dir" if key in before else "another run_dir",
            )


def _every(settings: Checkpoints | None, sizes: dict[str, int]) -> tuple[int | None, float | None]:
    """Return the samples, or the seconds, between two checkpoints."""
    if settings is None or settings.every is None:
        return None, None
    interval = parse_interval(settings.every, key="every", units=(*UNITS, *SECONDS))
    return (None, interval.seconds) if interval.seconds is not None else (interval.samples(**sizes), None)


def _untied_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state by name, one name for each storage: tied weights are saved once."""
    seen: dict[Any, str] = {}
    state: dict[str, torch.Tensor] = model.state_dict()
    for name, tensor in state.items():
        address = local(tensor).data_ptr()
        seen.setdefault((address, tensor.shape, tensor.stride()) if tensor.numel() and address else name, name)
    return {name: state[name] for name in seen.values()}


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        # As JSON gives it back: saved settings are compared with current ones.
        yield prefix, list(value) if isinstance(value, tuple) else value


def _on_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Nested state as named tensors and plain JSON, and back with every type restored.

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

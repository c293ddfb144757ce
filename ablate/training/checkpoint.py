"""Checkpoints: everything that a run needs to resume as if it had never stopped, bit for bit on a CPU.

`<run_dir>/checkpoint/step=<n>/` holds `model.safetensors`, `optimizer.safetensors` and `optimizer.json` (moments, settings, the
gradient scaler's state), and `state.json` (counters, the extent of every table, and the set-up that they belong to).
Random streams have no state: their draws are functions of seed and step. A checkpoint appears whole or not at all, and nothing
is pickled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ablate.errors import LoopError
from ablate.serialization import read_json, write_json
from ablate.training.distributed import Ranks, full, local
from ablate.training.nested_state import flatten_state, restore_state

ABSENT = "nothing"

_READABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint. state: what `save` was given."""

    folder: Path
    state: dict[str, Any]

    def load(self, ranks: Ranks, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
        """Restore weights, optimizer and scaler. Raises LoopError where a file cannot be read."""
        if (self.folder / "optimizer.pt").exists():
            raise LoopError(
                f"{self.folder} was saved by an earlier version of ablate: optimizer.pt is a pickle, which is never read",
                f"remove {self.folder}: the run then begins again",
            )
        try:
            weights = load_file(self.folder / "model.safetensors")
            rest = restore_state(
                read_json(self.folder / "optimizer.json"), load_file(self.folder / "optimizer.safetensors")
            )
            _load_weights(ranks, weights)
            if ranks.sharded:
                from ablate.training import sharded_state

                sharded_state.load_optimizer(ranks.bare, optimizer, rest["optimizer"])
            else:
                optimizer.load_state_dict(rest["optimizer"])
        except _READABLE as error:
            raise LoopError(
                f"{self.folder} cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}",
                f"remove {self.folder}: the run then resumes from an older checkpoint, or begins again",
            ) from error
        if scaler is not None:
            scaler.load_state_dict(rest["scaler"])


def latest(folder: Path) -> Saved | None:
    """Return the newest checkpoint in `folder`; None where there is none. Raises LoopError for one that cannot be read."""
    saved = steps(folder)
    if not saved:
        return None
    newest = saved[max(saved)]
    try:
        return Saved(newest, read_json(newest / "state.json"))
    except (OSError, ValueError) as error:
        raise LoopError(f"{newest} cannot be read: {error}", f"remove {newest}") from None


def steps(folder: Path) -> dict[int, Path]:
    """Return {step: folder} of all checkpoints."""
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
    keep: int,
) -> None:
    """Write one checkpoint, then remove all but the newest `keep`. Every process must call this; the first one writes."""
    weights = {name: full(tensor).detach().cpu().contiguous() for name, tensor in _untied_state(ranks.bare).items()}
    rest = {"optimizer": _optimizer_state(ranks, optimizer), "scaler": scaler.state_dict() if scaler else None}
    if ranks.records:
        plain, tensors = flatten_state(rest)
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
        for old in sorted(steps(folder))[:-keep]:
            shutil.rmtree(folder / f"step={old}")
        for torn in folder.glob(".*.part"):
            shutil.rmtree(torn, ignore_errors=True)
    ranks.wait()


def check_can_hold(optimizer: torch.optim.Optimizer) -> None:
    """Raise LoopError before the first step, not at the first checkpoint, for a setting that no checkpoint can hold."""
    groups = [{key: item for key, item in group.items() if key != "params"} for group in optimizer.param_groups]
    flatten_state(groups, "optimizer.param_groups")


def check_same_setup(saved: Saved, setup: Mapping[str, Any]) -> None:
    """Raise LoopError naming the first setting that differs between the run that made a checkpoint and this one."""
    before, now = (dict(_leaves(settings)) for settings in (saved.state["setup"], setup))
    for key in sorted({*before, *now}, key=lambda key: (key not in before, key not in now, key)):
        # As text: 1, 1.0 and true are equal to Python, and are not the same setting.
        if json.dumps(before.get(key, ABSENT)) != json.dumps(now.get(key, ABSENT), default=str):
            raise LoopError(
                f"{saved.folder} was made with {key}={before.get(key, ABSENT)}, and this run has "
                f"{key}={now.get(key, ABSENT)}",
                f"{key}={before[key]} to resume from it, or another run_dir" if key in before else "another run_dir",
            )


def _optimizer_state(ranks: Ranks, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    if not ranks.sharded:
        return optimizer.state_dict()
    from ablate.training import sharded_state

    return sharded_state.optimizer_state(ranks.bare, optimizer)


def _load_weights(ranks: Ranks, weights: dict[str, torch.Tensor]) -> None:
    if ranks.sharded:
        from ablate.training import sharded_state

        sharded_state.load_weights(ranks.bare, weights)
        return
    expected = set(_untied_state(ranks.bare))
    if expected != set(weights):
        odd = sorted(expected ^ set(weights))[0]
        raise KeyError(f"the model and the checkpoint do not both have {odd}")
    ranks.bare.load_state_dict(weights, strict=False)  # the names that are left out share another name's memory


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

"""A task that trains in no time, and that can be told to misbehave: `task.entry_point=tests.runner.tiny:task`.

task.options: do: what, at a step (counted from 1); once: a file that is made then, and where it exists nothing is done.
seconds: to wait at every step. look_seconds: at every batch of an evaluation.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ablate import Evaluation, RandomStreams
from ablate.config.schema import Config
from ablate.tasks.task import Task

Batch = list[torch.Tensor]


def facts(config: Config) -> dict[str, Any]:
    return {"num_train": 64, "num_eval": 16, "data": "tiny"}


def task(config: Config, streams: RandomStreams) -> Task:
    options, calls = config.task.options, [0]
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(80, 8, generator=drawn)
    examples = [(row, int(row.sum() > 0)) for row in x]

    def objective(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, int]:
        calls[0] += 1
        time.sleep(options.get("seconds", 0))
        if calls[0] == options.get("at", 3) and "do" in options:
            _misbehave(options)
        return functional.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])

    def measure(model: nn.Module, batch: Batch) -> Mapping[str, torch.Tensor]:
        time.sleep(options.get("look_seconds", 0))
        return {"loss": functional.cross_entropy(model(batch[0]), batch[1], reduction="none")}

    look = Evaluation(examples[64:], measure, every=config.eval.every, batch_size=2)
    return Task(model=nn.Linear(8, 2), dataset=examples[:64], loss_fn=objective, evaluation=look)


def _misbehave(options: dict[str, Any]) -> None:
    if "once" in options:
        if Path(options["once"]).exists():
            return
        Path(options["once"]).touch()
    _DEEDS[options["do"]]()


def _out_of_memory() -> None:
    raise MemoryError("no room for a tensor")


def _no_network() -> None:
    raise ConnectionResetError("by the hub")


def _tell() -> None:
    print(f"logging in with {os.environ['WANDB_API_KEY']}", flush=True)
    raise RuntimeError(f"the key {os.environ['WANDB_API_KEY']} was refused")


_DEEDS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda: time.sleep(3600),
    "leave": lambda: os._exit(3),
    "exit": lambda: sys.exit(3),
    "out_of_memory": _out_of_memory,
    "no_network": _no_network,
    "tell": _tell,
}

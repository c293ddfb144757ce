"""A run in a process of its own, slow enough to be killed anywhere: `python -m tests.training.killed <folder> <setting>`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ablate import Checkpoints, stop_on_signals
from ablate.records.metadata import RunStatus
from tests.training.toy import evaluation, jitter, loss_fn, network, run

SETTINGS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "lr_schedule": "linear", "max_grad_norm": 0.5},
    "fp16": {"precision": "fp16", "lr_schedule": "cosine", "grad_accum_steps": 2, "batch_size": 4},
    "workers": {"precision": "fp32", "num_workers": 2, "augment": jitter, "grad_accum_steps": 2, "batch_size": 4},
    "bf16": {"precision": "bf16", "update_ratio": True, "grad_accum_steps": 3, "batch_size": 4, "noise_scale": True},
}


def main(
    folder: Path, setting: str, *, pause: float = 0.002, stop: Callable[[], str | None] = lambda: None
) -> RunStatus:
    """Two and a bit epochs, a checkpoint every seventh step, a look every 100 samples."""

    def slowly(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        time.sleep(pause)
        return loss_fn(model, batch)

    torch.set_num_threads(1)
    _, result = run(
        network(0), should_stop=stop, run_dir=folder, loss_fn=slowly, budget="600 samples", flush_every=5,
        evaluation=evaluation("100 samples", batch_size=20), checkpoint=Checkpoints(every="7 steps"),
        **SETTINGS[setting],
    )  # fmt: skip
    return result.status


if __name__ == "__main__":
    with stop_on_signals() as stop:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2], stop=stop).status != "finished")

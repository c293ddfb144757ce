"""A run folder as a run would leave it, written by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ablate.config.schema import Config, DataConfig, TrackerConfig
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, Status, write_value
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter

STEPS = 6


def config(*, log_every: str = "1 steps", mode: str = "offline", name: str = "wandb", **more: Any) -> Config:
    return Config(
        arm="batch_size=64",
        seed=2,
        data=DataConfig(batch_size=64),
        tracker=TrackerConfig(name=name, mode=mode, project="reading", log_every=log_every, **more),
    )


def begin(folder: Path, config: Config) -> RunDir:
    run = RunDir(folder / "reference" / config.arm / f"seed={config.seed}")
    run.path.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(asdict(config)))
    return run


def step(number: int, **changed: Any) -> dict[str, Any]:
    """Loss 1/number, norm = number but 50 at step 3, half a second each; an epoch is 256 samples."""
    return {
        "step": number,
        "epoch": number / 4,
        "samples": 64 * number,
        "tokens": 640 * number,
        "loss": 1 / number,
        "grad_norm": 50.0 if number == 3 else float(number),
        "clip_coefficient": 0.5,
        "applied": True,
        "learning_rate": 1e-3,
        "loss_scale": 1.0,
        "step_seconds": 0.5,
        "group_norms": [1.0],
        "update_ratios": [],
        "micro_samples": 0,
        "micro_grad_norm": None,
    } | changed


def look(number: int, metric: str, total: float, split: str = "held_out") -> dict[str, Any]:
    return {
        "step": number,
        "epoch": number / 4,
        "samples": 64 * number,
        "tokens": 640 * number,
        "train_seconds": 0.5 * number,
        "eval_seconds": 0.1,
        "split": split,
        "metric": metric,
        "sum": total,
        "count": 100,
        "sum_squares": total,
    }


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def finish(run: RunDir, status: Status = "finished") -> None:
    write_value(run, RunStatus(status=status, step=STEPS, message="as made up", throughput={"train_seconds": 3.0}))


def train(run: RunDir) -> None:
    """Six steps, a look before and one after, all on disk at once."""
    with TableWriter(run.trace, TRACE, metadata={"groups": "all"}) as trace, TableWriter(run.evals, EVALS) as evals:
        evals.write(columns([look(0, "loss", 70.0), look(0, "accuracy", 50.0)]))
        trace.write(columns([step(number) for number in range(1, STEPS + 1)]))
        evals.write(columns([look(STEPS, "loss", 40.0), look(STEPS, "accuracy", 90.0)]))

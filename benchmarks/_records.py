"""Made-up records of many runs, as a study leaves them, for what reads a study without training one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Fingerprint, Manifest, RunStatus, write_value
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import write_text

BATCH, NUM_EVALUATIONS = 8, 50
_BLOCK = 1024


def write_records(folder: Path, *, arms: int, seeds: int, steps: int) -> None:
    """`arms` arms that differ in one setting, `seeds` runs of `steps` steps; each run has 50 evaluations and rare spikes."""
    study = StudyDir(folder)
    for place in range(arms):
        name = "baseline" if place == 0 else f"lr={place}e-05"
        for seed in range(seeds):
            _write_run(study.run(name, seed), name, place, seed, steps)


def _write_run(folder: RunDir, arm: str, place: int, seed: int, steps: int) -> None:
    rng = np.random.default_rng([place, seed])
    config = {"optim": {"lr": place * 1e-5 or 1.5e-5}, "data": {"batch_size": BATCH}}
    folder.path.mkdir(parents=True)
    write_text(folder.config, json.dumps({**config, "seed": seed, "arm": arm}))
    digest = digest_of([arm, seed])
    write_value(
        folder,
        Manifest(
            arm=arm,
            seed=seed,
            overrides=config["optim"] if place else {},
            digest=digest,
            device="made up",
            num_threads=1,
            started="2026-01-01T00:00:00+00:00",
            ended="2026-01-01T00:10:00+00:00",
        ),
    )
    items = {
        "init": {"all": digest_of(seed)},
        "optimizer": {"lr": config["optim"]["lr"]},
        "loss_at_start": {"loss": 0.7},
    }
    write_value(folder, Fingerprint(items=items))
    number = np.arange(1, steps + 1)
    fall = np.exp(-5 * number / steps)
    norms = np.exp(0.4 * rng.standard_normal(steps)) * np.where(rng.random(steps) < 5e-4, 30.0, 1.0)
    columns = {
        "step": number,
        "epoch": number / steps,
        "samples": number * BATCH,
        "tokens": np.cumsum(rng.integers(150, 250, steps)),
        "loss": 0.3 + 0.4 * fall + 0.1 * rng.standard_normal(steps),
        "grad_norm": norms,
        "clip_coefficient": np.minimum(1.0, 2.0 / norms),
        "applied": np.ones(steps, dtype=bool),
        "learning_rate": np.full(steps, 1e-5),
        "loss_scale": np.ones(steps),
        "step_seconds": 0.05 + 0.005 * rng.random(steps),
    }
    empty = {"group_norms": [[]], "update_ratios": [[]], "micro_samples": [0], "micro_grad_norm": [None]}
    with TableWriter(folder.trace, TRACE, metadata={"groups": ""}) as table:
        for start in range(0, steps, _BLOCK):
            block: dict[str, Any] = {name: values[start : start + _BLOCK].tolist() for name, values in columns.items()}
            table.write(block | {name: value * len(block["step"]) for name, value in empty.items()})
    evaluations = np.unique(np.linspace(0, steps, NUM_EVALUATIONS + 1).astype(int))
    with TableWriter(folder.evals, EVALS) as table:
        for step in evaluations.tolist():
            value = 0.3 + 0.4 * np.exp(-5 * step / steps) + 0.004 * rng.standard_normal() + 0.002 * place
            table.write(
                {
                    "step": [step],
                    "epoch": [step / steps],
                    "samples": [step * BATCH],
                    "tokens": [step * 200],
                    "train_seconds": [step * 0.05],
                    "eval_seconds": [1.0],
                    "split": ["held_out"],
                    "metric": ["loss"],
                    "sum": [value * 256],
                    "count": [256],
                    "sum_squares": [value**2 * 256 + 1],
                }
            )
    seconds = float(np.sum(columns["step_seconds"]))
    write_value(
        folder,
        RunStatus(
            status="finished",
            step=steps,
            reason="budget",
            message=f"trained for {steps} steps",
            weights_sha256=digest,
            throughput={
                "train_samples_per_second": steps * BATCH / seconds,
                "train_seconds": seconds,
                "eval_seconds": 50.0,
            },
        ),
    )

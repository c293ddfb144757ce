"""What each tracker holds of a run, read with its own library where it has one: {step: {name: value}}, and how often a row
was there."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from ablate.records.layout import RunDir
from ablate.records.reader import read_table
from tests.tracking.wandb_file import read_offline

Rows = dict[int, dict[str, float]]


def expected(run: RunDir) -> Rows:
    """From the tables themselves: every row and every column that is sent."""
    rows: Rows = defaultdict(dict)
    trace = read_table(run.trace)
    groups = (trace.schema.metadata or {}).get(b"groups", b"").decode().split("\n")
    seconds = 0.0
    for row in trace.to_pylist():
        seconds += row["step_seconds"]
        here = rows[row["step"]]
        here |= {name: row[name] for name in ("step", "samples", "tokens", "epoch")} | {"seconds": seconds}
        for name in ("loss", "grad_norm", "clip_coefficient", "learning_rate", "loss_scale", "step_seconds"):
            here[f"train/{name}"] = row[name]
        here["train/skipped_steps"] = 0.0 if row["applied"] else 1.0
        here |= {f"train/group_norm/{group}": norm for group, norm in zip(groups, row["group_norms"], strict=True)}
        here |= {f"train/update_ratio/{i}": ratio for i, ratio in enumerate(row["update_ratios"])}
    for row in read_table(run.evals).to_pylist():
        here = rows[row["step"]]
        for name in ("step", "samples", "tokens", "epoch"):
            here.setdefault(name, row[name])
        here.setdefault("seconds", row["train_seconds"])
        here["eval/seconds"] = row["eval_seconds"]
        split = "" if row["split"] == "held_out" else f"{row['split']}/"
        here[f"eval/{split}{row['metric']}"] = row["sum"] / row["count"]
    return dict(rows)


def of_wandb(run: RunDir) -> tuple[Rows, int]:
    rows = read_offline(run.path).rows()
    return {row["step"]: row for row in rows}, len(rows)


def of_tensorboard(run: RunDir) -> tuple[Rows, int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run.path), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    read.Reload()
    columns = {tag.removeprefix("axis/"): read.Scalars(tag) for tag in read.Tags()["scalars"]}
    step_at = {event.step: int(event.value) for event in columns["step"]}
    rows: Rows = defaultdict(dict)
    for name, events in columns.items():
        for event in events:
            rows[step_at[event.step]][name] = event.value
    return dict(rows), len(columns["step"])


def of_mlflow(run: RunDir) -> tuple[Rows, int]:
    client, (found,) = mlflow_runs(
        run.path.parents[2], f"tags.`mlflow.runName` = '{run.path.parent.name}/{run.path.name}'"
    )
    columns = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    step_at = {one.step: int(one.value) for one in columns["step"]}
    rows: Rows = defaultdict(dict)
    for name, values in columns.items():
        if not name.startswith("throughput/"):
            for one in values:
                rows[step_at[one.step]][name] = one.value
    return dict(rows), len(columns["step"])


OF = {"wandb": of_wandb, "tensorboard": of_tensorboard, "mlflow": of_mlflow}


def mlflow_runs(root: Path, wanted: str = "") -> tuple[Any, list[Any]]:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(root.resolve() / "mlruns").as_uri())
    experiments = [one.experiment_id for one in client.search_experiments()]
    return client, list(client.search_runs(experiments, wanted))


def assert_same(found: Rows, wanted: Rows, *, single: bool = False) -> None:
    """Every row and every column. single: the tracker holds numbers of 32 bits."""
    assert sorted(found) == sorted(wanted)
    for step, row in wanted.items():
        assert set(found[step]) == set(row), step
        names = sorted(row)
        there, here = (np.array([float(one[name]) for name in names]) for one in (found[step], row))
        if single:
            here = here.astype(np.float32).astype(np.float64)
        np.testing.assert_array_equal(there, here, err_msg=f"step {step}: {names}")

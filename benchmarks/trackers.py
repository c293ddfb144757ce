"""What a tracker costs a run that it follows, and how long `ablate sync` takes.

One small model is trained in a process of its own, with each tracker following it (offline) and with none, in turn; ratios
are within a round. The follower's own processor time is reported separately. Then a simulated study is synced
by one worker and by four.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from ablate import train
from ablate.config.schema import Config, TrackerConfig
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, RunStatus, write_value
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.tracking import start
from ablate.tracking.sync import SyncOptions, sync
from benchmarks import _shared

EXAMPLES = """\
  python -m benchmarks.trackers
  python -m benchmarks.trackers --steps 2000 --rounds 1
  python -m benchmarks.trackers --quick
"""
CASES = ("none", "wandb", "tensorboard", "mlflow")
GROUPS = [f"layer.{number}" for number in range(8)]


def main(argv: list[str] | None = None) -> int:
    """Measure and print; with `--child`, be the run."""
    arguments = _arguments(argv)
    if arguments.child:
        return _run(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        rounds = [
            {case: _child(root / f"{number}-{case}", case, arguments.steps) for case in CASES}
            for number in range(arguments.rounds)
        ]
        _make_study(root / "study", arguments.runs, arguments.run_steps)
        syncs = {f"{to}, {n}": _sync(root, to, n) for to in CASES[1:] for n in (1, 4)}
    text, figures = _report(arguments, rounds, syncs)
    _shared.finish(arguments, text, figures)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=20, help="of the study that is synced")
    parser.add_argument("--run-steps", type=int, default=2_000, help="of each of them")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tracker", default="none", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.runs, arguments.run_steps = 200, 1, 2, 50
    return arguments


def _child(folder: Path, tracker: str, steps: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.trackers",
        "--child",
        str(folder),
        "--tracker",
        tracker,
        "--steps",
        str(steps),
    ]
    done = subprocess.run(command, cwd=_shared.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(arguments: argparse.Namespace) -> int:
    """One training with its follower; prints seconds of the training, of waiting for the follower, and of its processor."""
    _shared.be_quiet()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = _config(arguments.tracker)
    run = RunDir(arguments.child / "study" / "baseline" / "seed=0")
    run.path.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(asdict(config)))
    model = torch.nn.Sequential(*[layer for _ in range(8) for layer in (torch.nn.Linear(64, 64), torch.nn.ReLU())])
    examples = [torch.randn(64) for _ in range(512)]

    def loss_fn(model: torch.nn.Module, batch: torch.Tensor) -> Any:
        return model(batch).square().mean(), len(batch)

    began = time.perf_counter()
    follower = start(run, config)
    train(
        model, examples, loss_fn, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4),
        budget=f"{arguments.steps} steps", batch_size=8, run_dir=run.path, device="cpu",
    )  # fmt: skip
    trained = time.perf_counter()
    if follower is not None and not (follower.wait(300) and all(one.returncode == 0 for one in follower.processes)):
        raise SystemExit((run.path / "tracker.log").read_text())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = time.perf_counter() - trained
    print(json.dumps({"train": trained - began, "wait": waited, "follower_cpu": used.ru_utime + used.ru_stime}))
    return 0


def _config(tracker: str) -> Config:
    return Config(
        arm="baseline",
        tracker=TrackerConfig(name=tracker, mode="offline"),
    )


def _make_study(folder: Path, runs: int, steps: int) -> None:
    """Made-up runs, each with a loss and a norm for every step and eight groups."""
    number = list(range(1, steps + 1))
    columns: dict[str, Any] = {
        "step": number,
        "epoch": [n / 1000 for n in number],
        "samples": [8 * n for n in number],
        "tokens": [200 * n for n in number],
        "loss": [1 / n for n in number],
        "grad_norm": [float(n % 7) for n in number],
        "group_norms": [[1.0] * len(GROUPS)] * steps,
        "update_ratios": [[]] * steps,
        "applied": [True] * steps,
        "micro_samples": [0] * steps,
        "micro_grad_norm": [None] * steps,
        **{name: [0.1] * steps for name in ("clip_coefficient", "learning_rate", "loss_scale", "step_seconds")},
    }
    for seed in range(runs):
        run = RunDir(folder / "baseline" / f"seed={seed}")
        run.path.mkdir(parents=True)
        run.config.write_text(yaml.safe_dump({**asdict(_config("none")), "seed": seed}))
        with TableWriter(run.trace, TRACE, metadata={"groups": "\n".join(GROUPS)}) as trace:
            for first in range(0, steps, 64):
                trace.write({name: values[first : first + 64] for name, values in columns.items()})
        with TableWriter(run.evals, EVALS):
            pass
        write_value(run, Manifest(arm="baseline", seed=seed, started="2026-01-01T00:00:00+00:00"))
        write_value(run, RunStatus(status="finished", step=steps))


def _sync(root: Path, to: str, workers: int) -> float:
    """Seconds. What an earlier one has left is removed."""
    shutil.rmtree(root / "mlruns", ignore_errors=True)
    os.environ["WANDB_DATA_DIR"] = str(root / "of-wandb")
    began = time.perf_counter()
    became = [
        one.status for one in sync(root / "study", SyncOptions(to=to, mode="offline", workers=workers, force=True))
    ]
    if set(became) != {"sent"}:
        raise SystemExit(f"{to}: {became}")
    return time.perf_counter() - began


def _report(
    arguments: argparse.Namespace, rounds: list[dict[str, dict[str, float]]], syncs: dict[str, float]
) -> tuple[str, dict[str, Any]]:
    rows = []
    for case in CASES:
        ratio = statistics.median(one[case]["train"] / one["none"]["train"] for one in rounds)
        middle = {key: statistics.median(one[case][key] for one in rounds) for key in ("train", "wait", "follower_cpu")}
        rows.append(
            [case, f"{middle['train']:.2f}", f"{ratio:.3f}", f"{middle['wait']:.2f}", f"{middle['follower_cpu']:.2f}"]
        )
    device = _shared.device_name(torch.device("cpu"))
    lines = [
        "## What a tracker costs",
        "",
        f"On {device}, one thread; 8 layers of 64, {arguments.steps:,} steps, a row for each step, {arguments.rounds} rounds; "
        f"torch {torch.__version__}, wandb, tensorboard and mlflow offline.",
        "",
        _shared.table(["tracker", "training, s", "ratio to none", "wait after it, s", "follower's processor, s"], rows),
        "",
        f"`ablate sync` of {arguments.runs} runs of {arguments.run_steps:,} steps, offline:",
        "",
        _shared.table(["tracker, workers", "seconds"], [[name, f"{seconds:.1f}"] for name, seconds in syncs.items()]),
        "",
    ]
    figures = {
        "benchmark": "trackers",
        "device": device,
        "versions": _shared.versions("wandb", "tensorboard", "mlflow-skinny", "torch-ablate"),
        "arguments": {k: v for k, v in vars(arguments).items() if k not in ("json", "child")},
        "rounds": rounds,
        "sync_seconds": syncs,
    }
    return "\n".join(lines), figures


if __name__ == "__main__":
    sys.exit(main())

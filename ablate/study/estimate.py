"""How long a plan will take: from the throughput of earlier runs, or of a few real steps timed just now."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ablate.config import Config, make_config
from ablate.design.plan import Arm, Plan
from ablate.errors import AblateError
from ablate.record.rundir import RunDir
from ablate.record.values import read_outcome

_TIMED_STEPS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Samples per second of training and of evaluation, at one batch size."""

    batch_size: int
    train: float
    evaluate: float

    def seconds(self, arm: Arm) -> float:
        looked_at = arm.derived["evaluations"] * arm.derived["eval_examples"]
        return arm.derived["samples_seen"] / self.train + looked_at / self.evaluate


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """seconds: of one run, by arm. basis: where the figures come from, in words."""

    seconds: dict[str, float]
    basis: str


def estimate(plan: Plan, root: Path) -> Estimate:
    """Seconds of one run of every arm that trains. Earlier runs under `root` count when model, text and length are equal."""
    arms = [arm for arm in plan.arms if not arm.replayed]
    paces = list(_earlier(root, make_config(plan.baseline.config)))
    if paces:
        basis = f"the throughput of {len(paces)} earlier run{'s' * (len(paces) != 1)} in {root}"
    else:
        paces = [_timed(make_config(plan.baseline.config))]
        basis = f"{_TIMED_STEPS} steps of the baseline and two looks, timed just now"
    return Estimate(seconds={arm.name: _nearest(paces, arm).seconds(arm) for arm in arms}, basis=basis)


def _nearest(paces: Sequence[Pace], arm: Arm) -> Pace:
    size = arm.config["data"]["batch_size"]
    least = min(abs(pace.batch_size - size) for pace in paces)
    same = [pace for pace in paces if abs(pace.batch_size - size) == least]
    return sorted(same, key=lambda pace: pace.train)[len(same) // 2]


def _earlier(root: Path, config: Config) -> Iterator[Pace]:
    for path in sorted(root.glob("*/*/seed=*/config.yaml")):
        run = RunDir(path.parent)
        try:
            there = make_config(yaml.safe_load(path.read_text(encoding="utf-8")))
            outcome = read_outcome(run)
        except (AblateError, OSError, TypeError, yaml.YAMLError):
            continue  # a run of another version, or one that is being written: it just does not count
        if outcome is not None and outcome.status == "finished" and _alike(there, config):
            pace = _pace(there.data.batch_size, outcome.throughput)
            if pace is not None:
                yield pace


def _alike(left: Config, right: Config) -> bool:
    def key(config: Config) -> tuple[Any, ...]:
        data, loop = config.data, config.loop
        return (
            config.task.name,
            replace(config.model, dropout=None),
            data.name,
            data.path,
            data.max_length,
            loop.device,
        )

    return key(left) == key(right)


def _pace(batch_size: int, throughput: dict[str, float]) -> Pace | None:
    train = throughput.get("train_samples_per_second", 0.0)
    evaluate = throughput.get("eval_samples_per_second", 0.0)
    return Pace(batch_size=batch_size, train=train, evaluate=evaluate) if train > 0 and evaluate > 0 else None


def _timed(config: Config) -> Pace:
    """Train a few steps for real, in a folder that is gone afterwards. Raises what the run itself would fail with."""
    import torch

    from ablate.study.worker import execute

    samples = _TIMED_STEPS * config.samples_per_step
    short = replace(
        config,
        loop=replace(config.loop, budget=f"{samples} samples"),
        observe=replace(config.observe, eval_every=f"{samples} samples", eval_spacing="even"),
        tracker=replace(config.tracker, name="none"),
    )
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # as a run has it
    silence = io.StringIO()
    with TemporaryDirectory() as folder, redirect_stdout(silence), redirect_stderr(silence):
        outcome = execute(short, RunDir(Path(folder)), changes={}, digest="")
    pace = _pace(config.data.batch_size, outcome.throughput)
    if pace is None:
        raise AblateError(f"the first steps of the baseline fail: {outcome.sentence}", "ablate, for its whole log")
    return pace

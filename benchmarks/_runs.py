"""Runs of the default model as a study makes them, for the benchmarks of the launcher."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ablate.config.schema import Config, StudyConfig
from ablate.hashing import digest_of
from ablate.runner.subprocess_run import Job


def make_jobs(root: Path, count: int, *, budget: str, num_examples: int, device: str) -> list[Job]:
    """`count` runs of MiniLM on film snippets that differ in their seed; each is evaluated before and after training."""
    jobs = []
    for seed in range(count):
        config = Config(arm="baseline", seed=seed)
        config.train.budget, config.train.device = budget, device
        config.eval.every, config.eval.max_examples = budget, num_examples
        config.study.output_dir = str(root)
        jobs.append(
            Job(
                arm="baseline",
                seed=seed,
                config=asdict(config),
                folder=root / "study" / "baseline" / f"seed={seed}",
                changes={},
                digest=digest_of([budget, seed]),
            )
        )
    return jobs


def run_them(jobs: Sequence[Job], slots: int) -> float:
    """Seconds until all have finished; raises SystemExit where one did not."""
    from ablate.runner.scheduler import run_all

    began = time.perf_counter()
    outcomes = run_all(jobs, StudyConfig(workers=slots, retries=0))
    seconds = time.perf_counter() - began
    failed = [outcome.message for outcome in outcomes if outcome.status != "finished"]
    if failed or len(outcomes) != len(jobs):
        raise SystemExit(f"a run did not finish: {failed[0] if failed else 'no outcome'}")
    return seconds

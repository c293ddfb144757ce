"""Runs in processes of their own: whatever one does, the study knows, and the rest goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ablate import read_trace
from ablate.config.schema import Config, ModelConfig, StudyConfig
from ablate.hashing import digest_of
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_manifest
from ablate.runner.jobs import Job
from ablate.runner.scheduler import run_all

TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def job(root: Path, arm: str = "baseline", seed: int = 0, *, budget: str = "64 samples", **data: Any) -> Job:
    config = Config(model=ModelConfig(init="random", config_overrides=TINY), arm=arm, seed=seed)
    config.data.max_examples, config.eval.max_examples, config.eval.every = 100, 16, "32 samples"
    config.train.budget, config.record.flush_every = budget, 4
    for key, value in data.items():
        setattr(config.data, key, value)
    return Job(
        arm=arm,
        seed=seed,
        config=asdict(config),
        folder=root / "study" / arm / f"seed={seed}",
        changes=data,
        digest=digest_of([arm, seed, budget]),
    )


def go(jobs: Sequence[Job], **study: Any) -> list[RunStatus]:
    """Run them, each once."""
    return run_all(jobs, StudyConfig(**{"workers": 1, "retries": 0, **study}))


@pytest.mark.slow
def test_two_arms_pair_and_a_failed_run_does_not_stop_the_rest(tmp_path: Path) -> None:
    jobs = [job(tmp_path), job(tmp_path, "broken", path="/nowhere.csv"), job(tmp_path, "batch_size=32", batch_size=32)]
    outcomes = go(jobs, workers=2)
    assert [o.status for o in outcomes] == ["finished", "failed", "finished"]
    assert "/nowhere.csv" in outcomes[1].message
    assert "DataError" in (jobs[1].folder / "log.txt").read_text()
    prints = [json.loads((jobs[k].folder / "fingerprint.json").read_text())["items"] for k in (0, 2)]
    for item in ("init", "order", "splits", "eval_set", "environment", "loss_at_start"):
        assert prints[0][item] == prints[1][item], item
    manifest = read_manifest(RunDir(jobs[2].folder))
    assert manifest.overrides == {"batch_size": 32}
    assert manifest.ended
    assert manifest.num_threads == 1


@pytest.mark.slow
def test_runs_side_by_side_equal_runs_one_by_one(tmp_path: Path) -> None:
    def hashes(root: Path, slots: int) -> list[str | None]:
        jobs = [job(root, seed=s) for s in (0, 1)]
        return [o.weights_sha256 for o in go(jobs, workers=slots)]

    assert hashes(tmp_path / "a", 2) == hashes(tmp_path / "b", 1)


def test_a_killed_run_is_recorded_and_its_trace_is_readable(tmp_path: Path) -> None:
    jobs = [job(tmp_path, budget="1000000 samples"), job(tmp_path, "other")]
    seen: dict[str, Any] = {}

    def kill() -> None:
        run = RunDir(jobs[0].folder)
        _until(run.progress.exists)
        seen["running"] = Dataset.from_file(str(run.trace)).num_rows
        os.kill(_pid_of(run), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = go(jobs, workers=2)
    killer.join()
    assert [o.status for o in outcomes] == ["failed", "finished"]
    assert outcomes[0].reason == "SIGKILL"
    assert seen["running"] > 0
    steps = read_trace(jobs[0].folder / "trace.arrow")["step"]
    assert steps.tolist() == list(range(1, len(steps) + 1))
    assert Dataset.from_file(str(jobs[0].folder / "trace.arrow")).num_rows == len(steps)


def test_an_interrupt_lets_runs_end_at_their_next_step(tmp_path: Path) -> None:
    jobs = [job(tmp_path, budget="1000000 samples"), job(tmp_path, "never")]

    def interrupt() -> None:
        _until(RunDir(jobs[0].folder).progress.exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        go(jobs)
    outcome = json.loads((jobs[0].folder / "status.json").read_text())
    assert outcome["status"] == "interrupted"
    assert outcome["throughput"]["train_samples_per_second"] > 0
    assert not (jobs[1].folder / "status.json").exists()


def test_fail_fast_stops_at_the_first_failure(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "broken", path="/nowhere.csv"), job(tmp_path)]
    assert len(go(jobs, fail_fast=True)) == 1


def _pid_of(run: RunDir) -> int:
    return int(json.loads(run.progress.read_text())["pid"])


@pytest.mark.slow
def test_a_killed_study_takes_its_runs_along_and_they_can_start_again(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tests.runner.test_workers import go, job;"
        f"go([job(Path({str(tmp_path)!r}), budget='1000000 samples')])"
    )
    study = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    run = RunDir(tmp_path / "study" / "baseline" / "seed=0")
    _until(run.progress.exists)
    study.kill()
    study.wait()
    _until(run.status.exists)
    assert json.loads(run.status.read_text())["reason"] == "the study's process is gone"
    assert go([job(tmp_path)])[0].status == "finished"


def test_a_run_that_was_killed_goes_on_from_its_checkpoint_and_gives_the_same_bits(tmp_path: Path) -> None:
    """Twice the same job, the second one killed once it has saved something."""
    whole, cut = (job(tmp_path / name, budget="400 samples") for name in ("whole", "cut"))
    for one in (whole, cut):
        one.config["checkpoint"]["every"] = "5 steps"
    expected = go([whole])[0]
    run = RunDir(cut.folder)

    def kill() -> None:
        _until(lambda: run.checkpoint.exists() and any(run.checkpoint.glob("step=*")))
        os.kill(_pid_of(run), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert go([cut])[0].reason == "SIGKILL"
    killer.join()
    outcome = go([cut])[0]
    assert (outcome.status, outcome.weights_sha256) == ("finished", expected.weights_sha256)
    assert outcome.sessions[1]["first_step"] > 1
    assert not run.checkpoint.exists()
    assert len(read_trace(run.trace)) == len(read_trace(RunDir(whole.folder).trace)) == 50


@pytest.mark.slow
def test_what_another_config_has_left_is_cleared_and_not_continued(tmp_path: Path) -> None:
    first, second = job(tmp_path, budget="1000000 samples"), job(tmp_path, budget="64 samples")
    run = RunDir(first.folder)
    threading.Thread(target=lambda: (_until(run.progress.exists), os.kill(os.getpid(), signal.SIGINT))).start()
    with pytest.raises(KeyboardInterrupt):
        go([first])
    assert list(run.checkpoint.glob("step=*"))
    outcome = go([second])[0]
    assert (outcome.status, outcome.step, len(outcome.sessions)) == ("finished", 8, 1)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

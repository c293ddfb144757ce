"""Runs that kill themselves, hang, run out of memory, tell secrets or lose their claim: each is told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ablate.config.schema import Config, StudyConfig, TaskConfig
from ablate.hashing import Planned, digest_of
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_manifest
from ablate.runner import scheduler as workers
from ablate.runner.jobs import Job
from ablate.runner.scheduler import run_all
from ablate.runner.stop import StudyStopped, request_stop


def job(
    root: Path, arm: str = "baseline", *, budget: str = "64 samples", digest: str | None = None, **options: Any
) -> Job:
    config = Config(task=TaskConfig(name="custom", entry_point="tests.runner.tiny:task", options=options), arm=arm)
    config.train.budget, config.eval.every, config.study.output_dir = budget, "32 samples", str(root)
    config.record.flush_every = 4
    return Job(
        arm=arm,
        seed=0,
        config=asdict(config),
        folder=root / "study" / arm / "seed=0",
        changes=options,
        digest=digest or digest_of([arm, budget]),
        planned=Planned(data="tiny"),
    )


def go(*jobs: Job, **study: Any) -> list[RunStatus]:
    return run_all(jobs, StudyConfig(**{"workers": 1, "retries": 0, **study}))


def attempts(job: Job) -> list[str]:
    return [attempt["reason"] for attempt in read_manifest(RunDir(job.folder)).attempts]


@pytest.mark.slow
def test_a_killed_run_is_tried_again_and_gives_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, quiet = job(tmp_path, "killed", do="kill", once=str(tmp_path / "once")), job(tmp_path)
    outcomes = go(killed, quiet, retries=1)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert outcomes[0].weights_sha256 == outcomes[1].weights_sha256
    assert attempts(killed) == ["SIGKILL"]
    assert (
        "killed/seed=0: the run's process ended by SIGKILL; see log.txt; try 2 of 2 follows" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_it_is_tried_so_often_and_no_more(tmp_path: Path) -> None:
    again = job(tmp_path, do="kill")
    assert go(again, retries=2)[0].reason == "SIGKILL"
    assert attempts(again) == ["SIGKILL"] * 2


@pytest.mark.parametrize(
    ("do", "reason", "says"),
    [
        ("out_of_memory", "out of memory", "data.batch_size=4 train.grad_accum_steps=2"),
        ("crash", "SIGSEGV", "ended by SIGSEGV"),
        ("leave", "exit 3", "ended by exit 3"),
    ],
)
@pytest.mark.slow
def test_what_does_not_pass_is_not_tried_again(tmp_path: Path, do: str, reason: str, says: str) -> None:
    failed = job(tmp_path, do=do)
    (outcome,) = go(failed, retries=3)
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert says in outcome.message
    assert attempts(failed) == []
    assert json.loads((failed.folder / "status.json").read_text())["reason"] == reason
    if do == "crash":
        assert "tiny.py" in (failed.folder / "log.txt").read_text()


@pytest.mark.slow
def test_the_network_is_given_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PAUSE_SECONDS", 0.1)
    waits = job(tmp_path, do="no_network", once=str(tmp_path / "once"))
    assert go(waits, retries=1)[0].status == "finished"
    assert attempts(waits) == ["network"]


@pytest.mark.slow
def test_a_run_that_hangs_leaves_its_stack_and_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_GRACE_SECONDS", 1.0)
    hangs = job(tmp_path, do="hang")
    began = time.monotonic()
    (outcome,) = go(hangs, hang_timeout_minutes=0.1)
    assert time.monotonic() - began < 60
    assert (outcome.status, outcome.reason) == ("failed", "hang")
    assert outcome.message.startswith("no sign of life for 0.1 minutes (study.hang_timeout_minutes)")
    log = (hangs.folder / "log.txt").read_text()
    assert "tiny.py" in log
    assert "in objective" in log


@pytest.mark.slow
def test_a_slow_evaluation_is_no_hang(tmp_path: Path) -> None:
    """A look takes eight seconds, in which the run writes nothing, and only asks whether to stop."""
    slow = job(tmp_path, look_seconds=1.0)
    slow.config["eval"]["every"] = "64 samples"
    assert go(slow, hang_timeout_minutes=0.1)[0].status == "finished"


@pytest.mark.slow
def test_secrets_reach_no_file(tmp_path: Path) -> None:
    """Printed, raised, and typed as a value that the run is made with. The processes have the environment of the first one."""
    key = "0123456789abcdef0123456789abcdef01234567"
    code = (
        "from pathlib import Path; from tests.runner.test_misbehaving import go, job;"
        f"told = job(Path({str(tmp_path)!r}), do='tell'); told.changes['typed'] = {key!r}; go(told)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"WANDB_API_KEY": key})
    folder = tmp_path / "study" / "baseline" / "seed=0"
    assert json.loads((folder / "status.json").read_text())["message"] == "RuntimeError: the key *** was refused"
    log = (folder / "log.txt").read_text()
    assert "logging in with ***" in log
    assert "RuntimeError: the key *** was refused" in log
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_a_run_whose_claim_is_another_ones_ends_and_writes_nothing_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another machine has found it silent for too long. When that one is gone in turn, the run is taken back."""
    mine = job(tmp_path, budget="640 samples", seconds=0.05)
    claim, outcome = tmp_path / ".locks" / mine.digest, mine.folder / "status.json"
    seen: dict[str, Any] = {}

    def other() -> None:
        _until((mine.folder / "progress.json").exists)
        value = json.loads(claim.read_text()) | {"host": "elsewhere", "token": "theirs"}
        part = claim.with_name("part")
        part.write_text(json.dumps(value))
        part.replace(claim)
        pid = json.loads((mine.folder / "progress.json").read_text())["pid"]
        _until(lambda: not Path(f"/proc/{pid}").exists())
        seen["outcome"] = outcome.exists()
        time.sleep(1.5)  # the other one works on it
        claim.unlink()

    thread = threading.Thread(target=other)
    thread.start()
    (found,) = go(mine)
    thread.join()
    assert found.status == "finished"
    assert seen == {"outcome": False}
    assert "another process has taken this run over" in capsys.readouterr().out


def test_runs_of_equal_digest_are_made_once(tmp_path: Path) -> None:
    one, other = job(tmp_path, digest="d" * 64), job(tmp_path, "same", digest="d" * 64)
    outcomes = go(one, other, workers=2)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert read_manifest(RunDir(other.folder)).shared_from == "study/baseline/seed=0"


@pytest.mark.parametrize("after_current", [True, False])
@pytest.mark.slow
def test_a_study_that_is_asked_to_stop(tmp_path: Path, after_current: bool) -> None:
    first, second = job(tmp_path, budget="640 samples", seconds=0.05), job(tmp_path, "second")

    def ask() -> None:
        _until((first.folder / "progress.json").exists)
        request_stop(tmp_path / "study", after_current=after_current)

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(StudyStopped, match="ablate stop"):
        go(first, second)
    thread.join()
    status = json.loads((first.folder / "status.json").read_text())["status"]
    assert status == ("finished" if after_current else "interrupted")
    assert not second.folder.exists()
    assert not list((tmp_path / ".locks").iterdir())


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Runs as commands of their own: run simultaneously, ended with their study, and nothing secret in their logs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ablate import cli
from ablate.config.schema import StudyConfig
from ablate.records.metadata import RunStatus
from ablate.runner.jobs import Job
from ablate.runner.scheduler import run_all

SETTINGS = StudyConfig(workers=2, retries=0, hang_timeout_minutes=None)
FINISHED = "; open(os.path.join(sys.argv[2], 'status.json'), 'w').write('{\"status\": \"finished\"}')"


def _jobs(script: str, folder: Path, count: int, arm: str = "baseline") -> list[Job]:
    jobs = []
    for seed in range(count):
        run = folder / "study" / arm / f"seed={seed}"
        command = (sys.executable, "-c", script, str(seed), str(run))
        jobs.append(Job(
            arm=arm, seed=seed, config={}, folder=run, changes={}, digest=f"{arm}{seed}", command=command, external=True
        ))  # fmt: skip
    return jobs


def test_every_run_comes_back_and_a_bad_end_is_told(tmp_path: Path) -> None:
    script = (
        "import os, sys; print('seed', sys.argv[1]); {'1': lambda: sys.exit(3), '2': os.abort}.get(sys.argv[1], int)()"
        f"{FINISHED}"
    )
    jobs = _jobs(script, tmp_path, 4)
    assert [(one.status, one.message) for one in run_all(jobs, SETTINGS)] == [
        ("finished", ""),
        ("failed", "the run's process ended by exit 3; see log.txt"),
        ("failed", "the run's process ended by SIGABRT; see log.txt"),
        ("finished", ""),
    ]
    assert "seed 3" in jobs[3].run.log.read_text()


def test_a_run_that_leaves_no_outcome_has_failed(tmp_path: Path) -> None:
    assert run_all(_jobs("", tmp_path, 1), SETTINGS)[0].message == "the run's process ended by exit 0; see log.txt"


@pytest.mark.slow
def test_an_error_after_a_run_ends_the_running_ones(tmp_path: Path) -> None:
    script = f"import os, sys, time; open(r'{tmp_path}/pid', 'w').write(str(os.getpid())); time.sleep(100)"
    quick = _jobs(f"import os, sys, time; time.sleep(2){FINISHED}", tmp_path, 1, arm="quick")

    def refuse(job: Job, outcome: RunStatus) -> None:
        raise ValueError(f"{job.name} {outcome.status}")

    with pytest.raises(ValueError, match="quick/seed=0 finished"):
        run_all([*_jobs(script, tmp_path, 1), *quick], SETTINGS, on_end=refuse)
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_secrets_of_the_environment_stay_out_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-and-long")
    jobs = _jobs(f"import os, sys; print('key', os.environ['SOME_API_KEY']){FINISHED}", tmp_path, 1)
    assert run_all(jobs, SETTINGS)[0].status == "finished"
    log, until = jobs[0].run.log, time.monotonic() + 10
    while "key ***" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "key ***" in log.read_text()
    assert "s3cr3t" not in log.read_text()


def test_the_keys_of_an_external_study_are_refused_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["-m", "axis=batch_size", "debug=quick", "hydra.sweeper.seeds=3"]) == 2
    said = capsys.readouterr().err
    assert said == "ablate: hydra.sweeper.seeds is for external apps\n  fix: study.seeds=...\n"
    assert not list(tmp_path.iterdir())

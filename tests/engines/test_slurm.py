"""A real Slurm cluster of one machine: the same bits as here, and what becomes of jobs that do not come to their end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import slurm
from tests.engines.equal import STUDY, ablate, differences, kill_owner, started

pytest.importorskip("submitit", reason="pip install 'torch-ablate[slurm]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.why_not() is not None, reason=slurm.why_not() or ""),
    pytest.mark.xdist_group("slurm"),
]

LONG = ["-m", "axis=batch_size", "debug=quick", "study.seeds=1", "train.budget=5000 samples"]


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long study as our own launcher makes it."""
    here = tmp_path_factory.mktemp("undisturbed")
    code, printed = ablate(*LONG, cwd=here)
    assert code == 0, printed
    return here / "runs" / "batch_size"


def test_a_study_through_slurm_equals_the_local_one_bit_for_bit(tmp_path: Path, env: dict[str, str]) -> None:
    assert ablate(*STUDY, cwd=tmp_path / "here")[0] == 0
    code, printed = ablate(*STUDY, "hydra/launcher=submitit_slurm", cwd=tmp_path / "there", env=env)

    assert code == 0, printed
    assert differences(tmp_path / "here/runs/batch_size", tmp_path / "there/runs/batch_size") == []
    # The engine's own files lie in the study, and nothing lies beside it.
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["runs"]
    assert (tmp_path / "there/runs/batch_size/.submitit").is_dir()
    # What a run printed is in its log, as everywhere.
    assert "padding" in (tmp_path / "there/runs/batch_size/baseline/seed=0/log.txt").read_text()


@pytest.mark.long
def test_a_job_whose_time_is_over_is_continued_by_the_same_command(
    tmp_path: Path, env: dict[str, str], undisturbed: Path
) -> None:
    # submitit takes the last ten minutes of a job for its time being over.
    command = [*LONG, "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=9"]
    study = started(*command, cwd=tmp_path, env=env)
    run = tmp_path / "runs/batch_size/baseline/seed=0"
    _wait_for_steps(run)
    _signal("USR2", "baseline", run, env)  # what Slurm sends when the time is nearly over
    printed, _ = study.communicate(timeout=240)

    assert study.returncode == 1
    outcome = json.loads((run / "status.json").read_text())
    assert (outcome["status"], outcome["reason"]) == ("interrupted", "SIGUSR2"), printed
    assert (run / "checkpoint").is_dir()
    assert "timed-out too many times" in printed

    assert ablate(*command, cwd=tmp_path, env=env)[0] == 0
    assert len(json.loads((run / "status.json").read_text())["sessions"]) == 2
    assert differences(undisturbed, tmp_path / "runs/batch_size") == []


@pytest.mark.long
def test_a_preempted_job_is_queued_again_and_goes_on_by_itself(
    tmp_path: Path, env: dict[str, str], undisturbed: Path
) -> None:
    study = started(*LONG, "hydra/launcher=submitit_slurm", cwd=tmp_path, env=env)
    run = tmp_path / "runs/batch_size/baseline/seed=0"
    _wait_for_steps(run)
    _signal("USR2", "baseline", run, env)
    printed, _ = study.communicate(timeout=240)

    assert study.returncode == 0, printed
    assert len(json.loads((run / "status.json").read_text())["sessions"]) == 2
    assert differences(undisturbed, tmp_path / "runs/batch_size") == []


@pytest.mark.long
def test_a_lost_job_ends_neither_the_study_nor_the_other_runs(tmp_path: Path, env: dict[str, str]) -> None:
    study = started(*LONG, "hydra/launcher=submitit_slurm", cwd=tmp_path, env=env)
    run = tmp_path / "runs/batch_size/baseline/seed=0"
    _wait_for_steps(run)
    kill_owner(run)
    printed, _ = study.communicate(timeout=240)

    assert study.returncode == 1
    assert "lost  baseline/seed=0  UncompletedJobError" in printed
    other = json.loads((tmp_path / "runs/batch_size/batch_size=64/seed=0/status.json").read_text())
    assert other["status"] == "finished"
    assert "going, or killed" in " ".join(printed.split())

    assert ablate(*LONG, "hydra/launcher=submitit_slurm", cwd=tmp_path, env=env)[0] == 0


def _wait_for_steps(run: Path) -> None:
    until = time.monotonic() + 90
    while not (run / "progress.json").exists():
        assert time.monotonic() < until, "the run did not begin"
        time.sleep(0.05)


def _signal(name: str, arm: str, run: Path, env: dict[str, str]) -> None:
    """To the process that does the run, as Slurm would do to the job's step."""
    jobs = _asked(["squeue", "-h", "-r", "-t", "R", "-o", "%i"], env).split()
    mine = [job for job in jobs if arm in _overrides(job, run, env)]
    assert len(mine) == 1, (jobs, run)
    _asked(["scancel", f"--signal={name}", mine[0]], env)


def _overrides(job: str, run: Path, env: dict[str, str]) -> str:
    """What the job was handed: its pickle spells it."""
    folder = run.parents[1] / ".submitit" / job
    found = [path.read_bytes() for path in folder.glob("*_submitted.pkl")]
    return found[0].split(b"arm=", 2)[1][:12].decode(errors="replace") if found else ""


def _asked(command: list[str], env: dict[str, str]) -> str:
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout

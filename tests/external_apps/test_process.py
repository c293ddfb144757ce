"""Runs as commands of their own: side by side, ended with their study, and nothing secret in their logs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ablate import cli
from ablate.design.plan import Run
from ablate.runner.foreign_app import run_processes


def _commands(script: str, folder: Path, count: int) -> list[tuple[Run, list[str], Path]]:
    runs = [Run(arm="baseline", seed=seed, digest=str(seed)) for seed in range(count)]
    return [(run, [sys.executable, "-c", script, str(run.seed)], folder / f"{run.seed}/log.txt") for run in runs]


def test_every_run_comes_back_and_a_bad_end_is_told(tmp_path: Path) -> None:
    script = (
        "import os, sys; print('seed', sys.argv[1]); {'1': lambda: sys.exit(3), '2': os.abort}.get(sys.argv[1], int)()"
    )
    ended = {run.seed: why for run, why in run_processes(_commands(script, tmp_path, 4), 2)}
    assert ended == {
        0: None,
        1: "its process ended by exit 3; see log.txt",
        2: "its process ended by SIGABRT; see log.txt",
        3: None,
    }
    assert "seed 3" in (tmp_path / "3/log.txt").read_text()


def test_whoever_stops_asking_ends_the_running_ones(tmp_path: Path) -> None:
    script = f"import os, sys, time; open(r'{tmp_path}/pid', 'w').write(str(os.getpid())); time.sleep(100)"
    quick = (
        Run(arm="quick", seed=0, digest=""),
        [sys.executable, "-c", "import time; time.sleep(2)"],
        tmp_path / "q/log.txt",
    )
    ended = run_processes([*_commands(script, tmp_path, 1), quick], 2)
    assert next(ended)[0].arm == "quick"
    ended.close()  # type: ignore[attr-defined]
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_secrets_of_the_environment_stay_out_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-and-long")
    script = "import os; print('key', os.environ['SOME_API_KEY'])"
    assert [why for _, why in run_processes(_commands(script, tmp_path, 1), 1)] == [None]
    log, until = tmp_path / "0/log.txt", time.monotonic() + 10
    while "key ***" not in log.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "key ***" in log.read_text()
    assert "s3cr3t" not in log.read_text()


def test_the_keys_of_a_foreign_study_are_refused_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["-m", "axis=batch_size", "debug=quick", "hydra.sweeper.seeds=3"]) == 2
    said = capsys.readouterr().err
    assert said == "ablate: hydra.sweeper.seeds is for an app that is not ablate's own\n  fix: study.seeds=...\n"
    assert not list(tmp_path.iterdir())

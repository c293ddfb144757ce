"""The whole chain in processes of its own: real text, real runs, a real kill, and bad data that leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = ["-m", "axis=batch_size,eval_every,placebo", "debug=quick", "eval.every='64 samples'", "study.name=s"]


def shell(here: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(typed), cwd=here, capture_output=True, text=True, timeout=240, check=False)


def _command(typed: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "ablate.cli", *typed]


def outcomes(here: Path) -> dict[str, int]:
    """Run folder -> when its outcome was written."""
    return {p.parent.as_posix(): p.stat().st_mtime_ns for p in (here / "runs").glob("s/*/*/status.json")}


@pytest.mark.slow
def test_a_study_survives_a_kill_and_is_never_run_twice(tmp_path: Path) -> None:
    first = subprocess.Popen(_command((*STUDY, "study.workers=1")), cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not outcomes(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.kill()
    first.wait()
    kept = outcomes(tmp_path)

    second = shell(tmp_path, *STUDY)
    assert second.returncode == 0, second.stdout + second.stderr
    finished = outcomes(tmp_path)
    assert len(finished) == 3 * 2
    done = [run for run in kept if json.loads(Path(run, "status.json").read_text())["status"] == "finished"]
    unchanged = [run for run in done if finished[run] == kept.get(run)]
    assert unchanged
    assert "batch_size 8" in second.stdout
    assert "same training run" in second.stdout
    page = (tmp_path / "runs/s/report.html").read_bytes()

    third = shell(tmp_path, *STUDY)
    assert third.returncode == 0, third.stderr
    assert outcomes(tmp_path) == finished
    assert third.stdout == second.stdout[second.stdout.index(third.stdout[:40]) :]
    assert (tmp_path / "runs/s/report.html").read_bytes() == page


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        pytest.param("", "the file is empty", marks=pytest.mark.slow),
        pytest.param("review,label\na,0\nb,1\n", "data.text_column='text'", marks=pytest.mark.slow),
        pytest.param("text,label\na,1\nb,1\nc,1\nd,1\n", "has the label 1", marks=pytest.mark.slow),
    ],
)
def test_bad_data_exits_with_2_and_leaves_nothing(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "rows.csv").write_text(content)
    before = sorted(tmp_path.iterdir())
    ended = shell(tmp_path, "-m", "axis=batch_size", "data.path=rows.csv", "data.name=mine")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert words in ended.stderr
    assert "fix:" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("files", "words"), [
    (None, "no such folder"), pytest.param(["config.json"], "no weights", marks=pytest.mark.slow),
])  # fmt: skip
def test_bad_models_exit_with_2_and_leave_nothing(tmp_path: Path, files: list[str] | None, words: str) -> None:
    for name in files or []:
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text("{}")
    ended = shell(tmp_path, "-m", "axis=batch_size", "model.name=./model")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert words in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    ended = shell(tmp_path, "-m", "axis=batch_size")
    assert ended.returncode == 2
    assert "no permission" in ended.stderr

"""The follower against the real wandb, offline, and against a broken one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.record.columns import TRACE
from ablate.record.writer import TableWriter
from ablate.study import track
from tests.track.made_up import STEPS, begin, columns, config, finish, step, train
from tests.track.wandb_file import read_offline

SECONDS = 60  # far more than needed; a follower that hangs fails here


def test_offline_writes_a_run_that_can_be_synced(tmp_path: Path) -> None:
    asked = config(log_every="2 steps")
    run = begin(tmp_path, asked)
    follower = track.start(run, asked)
    assert follower is not None
    train(run)
    finish(run)
    assert follower.wait(SECONDS)
    assert follower.process.returncode == 0, (run.path / track.LOG).read_text()

    sent = read_offline(run.path)
    trained = [row for row in sent.history if "train/loss" in row]
    looked = [row for row in sent.history if "eval/loss" in row]
    assert [row["step"] for row in trained] == [2, 4, 6]
    assert [row["train/grad_norm_max"] for row in trained] == [2, 50, 6]
    assert [(row["samples"], row["eval/loss"], row["eval/accuracy"]) for row in looked] == [
        (0, 0.7, 0.5),
        (64 * STEPS, 0.4, 0.9),
    ]
    assert (sent.run.run_group, sent.run.job_type) == ("reference", "batch_size=64")
    assert sent.run.display_name == "batch_size=64/seed=2"
    assert sorted(sent.run.tags) == ["batch_size", "batch_size=64"]
    assert sent.run.project == "reading"
    assert {"step", "samples", "epoch", "seconds"} <= set(sent.metrics)
    assert sent.metrics["train/*"] == sent.metrics["eval/*"] == "samples"
    assert sent.summary["outcome"] == "finished"
    assert sent.exit_code == 0


def test_a_run_that_did_not_finish_is_marked_so(tmp_path: Path) -> None:
    asked = config()
    run = begin(tmp_path, asked)
    train(run)
    finish(run, "diverged")
    follower = track.start(run, asked)
    assert follower is not None
    assert follower.wait(SECONDS)
    sent = read_offline(run.path)
    assert sent.summary["outcome"] == "diverged"
    assert sent.exit_code == 1


@pytest.mark.slow
def test_a_killed_run_is_finished_with_the_rows_it_had_written(tmp_path: Path) -> None:
    """The process that started the follower dies without a word, in the middle of its trace."""
    run = begin(tmp_path, config())
    with TableWriter(run.trace, TRACE) as trace:
        trace.write(columns([step(number) for number in (1, 2, 3)]))
        trace.write(columns([step(4)]))
    run.trace.write_bytes(run.trace.read_bytes()[:-20])  # torn inside the last block
    code = (
        "import sys, pathlib, time\n"
        "from ablate.record.rundir import RunDir\n"
        "from ablate.study import track\n"
        "from tests.track.made_up import config\n"
        "print(track.start(RunDir(pathlib.Path(sys.argv[1])), config()).process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as out:
        follower = int(out.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + SECONDS
    log = run.path / track.LOG
    while "the run was killed" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "sent 3 rows" in log.read_text()
    while _alive(follower) and time.monotonic() < deadline:
        time.sleep(0.1)
    sent = read_offline(run.path)
    assert len(sent.history) == 3
    assert sent.exit_code == 1


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("raise ImportError('this wandb is broken')", "this wandb is broken"),
        (
            "class Settings:\n    def __init__(self, **settings): pass\n"
            "def init(**arguments): raise RuntimeError('the server said no')",
            "the server said no",
        ),
    ],
    ids=["cannot be imported", "cannot start"],
)
def test_a_broken_wandb_leaves_the_run_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path, source: str, complaint: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "wandb.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "broken"), str(repo)]))
    asked = config()
    run = begin(tmp_path, asked)
    follower = track.start(run, asked)
    assert follower is not None
    train(run)
    finish(run)
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != track.LOG}
    assert follower.wait(SECONDS)
    assert complaint in (run.path / track.LOG).read_text()
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != track.LOG} == before


def test_a_server_that_cannot_be_reached_without_a_login_is_written_to_the_log(tmp_path: Path) -> None:
    asked = config(mode="online")
    run = begin(tmp_path, asked)
    train(run)
    finish(run)
    follower = track.start(run, asked)
    assert follower is not None
    assert follower.wait(SECONDS)
    assert follower.process.returncode == 1
    assert "wandb login" in (run.path / track.LOG).read_text()


def test_a_follower_that_cannot_be_started_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = config()
    run = begin(tmp_path, asked)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    assert track.start(run, asked) is None
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert "W&B is off for this run" in line


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

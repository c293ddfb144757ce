"""The follower of each tracker against its real library, offline, and against a broken one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate import tracking as track
from ablate.config.schema import TrackerConfig
from ablate.errors import AblateError
from ablate.records.layout import RunDir
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import write_json
from ablate.tracking.backends import BACKENDS
from ablate.tracking.sync import SyncOptions, sync
from ablate.tracking.wandb import upload_offline
from tests.tracking.made_up import STEPS, begin, columns, config, finish, look, step, train
from tests.tracking.read_back import OF, assert_same, expected, mlflow_runs
from tests.tracking.wandb_file import read_offline

SECONDS = 60  # far more than needed; a follower that hangs fails here
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _data_of_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "of-wandb"))


@pytest.mark.slow
def test_offline_writes_a_run_that_can_be_synced(tmp_path: Path) -> None:
    asked = config(log_every="2 steps", x_axis="epoch")
    run = begin(tmp_path, asked)
    follower = track.start(run, asked)
    assert follower is not None
    train(run)
    finish(run)
    assert follower.wait(SECONDS)
    assert [one.returncode for one in follower.processes] == [0], (run.path / track.LOG).read_text()

    sent = read_offline(run.path)
    trained = [row for row in sent.history if "train/loss" in row]
    looked = [row for row in sent.history if "eval/loss" in row]
    assert [row["step"] for row in trained] == [row["_step"] for row in trained] == [2, 4, 6]
    assert [row["train/grad_norm_max"] for row in trained] == [2, 50, 6]
    assert [(row["samples"], row["eval/loss"], row["eval/accuracy"]) for row in looked] == [
        (0, 0.7, 0.5),
        (64 * STEPS, 0.4, 0.9),
    ]
    assert (sent.run.run_group, sent.run.job_type) == ("reference", "batch_size=64")
    assert sent.run.display_name == "batch_size=64/seed=2"
    assert sorted(sent.run.tags) == ["batch_size", "batch_size=64"]
    assert sent.run.project == "reading"
    assert {"step", "samples", "tokens", "epoch", "seconds"} <= set(sent.metrics)
    assert sent.metrics["train/*"] == sent.metrics["eval/*"] == "epoch"
    assert sent.summary["status"] == "finished"
    assert sent.exit_code == 0


@pytest.mark.slow
def test_two_trackers_follow_two_runs_at_once(tmp_path: Path) -> None:
    """Four processes; the two of MLflow both need the experiment and the parent, and make one of each."""
    asked = config(name="tensorboard+mlflow")
    runs = [begin(tmp_path / str(number), asked) for number in range(2)]
    runs[1].path.parents[1].rename(tmp_path / "0" / "other")
    runs[1] = RunDir(tmp_path / "0" / "other" / "batch_size=64" / "seed=2")
    followers = [track.start(run, asked) for run in runs]
    for run in runs:
        train(run)
        finish(run, "diverged")
    for follower in followers:
        assert follower is not None
        assert len(follower.processes) == 2
        assert follower.wait(SECONDS)
        assert [one.returncode for one in follower.processes] == [0, 0], (runs[0].path / track.LOG).read_text()
    client, found = mlflow_runs(tmp_path / "0")
    assert len(client.search_experiments()) == 2  # MLflow's own default is one
    assert sorted(run.info.run_name for run in found) == ["batch_size=64/seed=2"] * 2 + ["other", "reference"]
    assert {run.info.status for run in found if "arm" in run.data.tags} == {"FAILED"}
    assert_same(OF["tensorboard"](runs[0])[0], expected(runs[0]), single=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKENDS)
def test_a_run_that_goes_on_has_no_row_twice(tmp_path: Path, name: str) -> None:
    """Stopped after step 4 of which step 4 is lost; the follower is there before the new process cuts the trace off."""
    asked = config(name=name)
    run = begin(tmp_path, asked)
    with TableWriter(run.trace, TRACE, metadata={"groups": "all"}) as trace, TableWriter(run.evals, EVALS) as evals:
        evals.write(columns([look(0, "loss", 70.0)]))
        trace.write(columns([step(number) for number in (1, 2, 3)]))
        kept, looked = run.trace.stat().st_size, run.evals.stat().st_size
        trace.write(columns([step(4)]))
    finish(run, "interrupted")
    follower = track.start(run, asked)
    assert follower is not None
    assert follower.wait(SECONDS)
    assert OF[name](run)[1] == 5

    run.status.unlink()
    follower = track.start(run, asked)
    assert follower is not None
    time.sleep(1.0)  # it is up, and waits
    with (
        TableWriter(run.trace, TRACE, metadata={"groups": "all"}, resume_at=kept) as trace,
        TableWriter(run.evals, EVALS, resume_at=looked) as evals,
    ):
        trace.write(columns([step(4), step(5)]))
        trace.write(columns([step(6)]))
        write_json(run.progress, {"pid": os.getpid()})
        evals.write(columns([look(6, "loss", 40.0)]))
    finish(run)
    assert follower.wait(SECONDS)
    found, number = OF[name](run)
    assert number == STEPS + 1, (run.path / track.LOG).read_text()
    assert_same(found, expected(run), single=name == "tensorboard")


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKENDS)
def test_a_follower_that_was_killed_is_made_good_by_sync(tmp_path: Path, name: str) -> None:
    asked = config(name=name)
    run = begin(tmp_path, asked)
    follower = track.start(run, asked)
    assert follower is not None
    with TableWriter(run.trace, TRACE, metadata={"groups": "all"}) as trace, TableWriter(run.evals, EVALS) as evals:
        evals.write(columns([look(0, "loss", 70.0)]))
        trace.write(columns([step(number) for number in (1, 2, 3, 4)]))
        _until(lambda: ": " in (run.path / track.LOG).read_text().partition("follows")[2])  # it has begun the run
        follower.processes[0].kill()
        assert follower.wait(SECONDS)
        trace.write(columns([step(number) for number in (5, 6)]))
        evals.write(columns([look(6, "loss", 40.0)]))
    finish(run)
    write_json(run.manifest, {"arm": "batch_size=64", "seed": 2})
    (became,) = sync(run.path.parents[1], SyncOptions(mode="offline", workers=1))
    assert became.status == "sent", became.message
    found, number = OF[name](run)
    assert number == STEPS + 1
    assert_same(found, expected(run), single=name == "tensorboard")


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
        "from ablate.records.layout import RunDir\n"
        "from ablate import tracking as track\n"
        "from tests.tracking.made_up import config\n"
        "print(track.start(RunDir(pathlib.Path(sys.argv[1])), config()).processes[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as out:
        follower = int(out.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    log = run.path / track.LOG
    _until(lambda: "the run was killed" in log.read_text())
    assert "wandb: sent 3 rows" in log.read_text()
    _until(lambda: not _alive(follower))
    sent = read_offline(run.path)
    assert len(sent.history) == 3
    assert sent.exit_code == 1
    assert not list(run.path.glob("*.synced.json")), "it may go on"


@pytest.mark.parametrize("name", BACKENDS)
def test_a_broken_library_leaves_the_run_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: Path, name: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{BACKENDS[name].package}.py").write_text(f"raise ImportError('this {name} is broken')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "broken"), str(repo)]))
    asked = config(name=name)
    run = begin(tmp_path, asked)
    follower = track.start(run, asked)
    assert follower is not None
    train(run)
    finish(run)
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != track.LOG}
    assert follower.wait(SECONDS)
    assert f"this {name} is broken" in (run.path / track.LOG).read_text()
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != track.LOG} == before


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [("wandb", {}, "wandb login"), ("mlflow", {"uri": "http://127.0.0.1:9"}, "127.0.0.1")],
)
@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_written_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, more: dict[str, str], complaint: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    asked = config(mode="online", name=name, **more)
    run = begin(tmp_path, asked)
    train(run)
    finish(run)
    follower = track.start(run, asked)
    assert follower is not None
    assert follower.wait(SECONDS)
    assert follower.processes[0].returncode == 1
    assert complaint in (run.path / track.LOG).read_text()
    assert not list(run.path.glob("*.synced.json"))


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


@pytest.mark.slow
def test_wandbs_own_command_that_sends_nothing_is_a_failure(tmp_path: Path) -> None:
    """It exits with 0 where it is not logged in; a run that it has sent has its mark."""
    kept = tmp_path / "offline-run-20260101_000000-abc"
    kept.mkdir()
    (kept / "run-abc.wandb").write_bytes(b":W&B\x00\x00\x00")
    with pytest.raises(AblateError, match="`wandb sync` has not sent offline-run-20260101_000000-abc: "):
        upload_offline(kept, TrackerConfig())
    (kept / "run-abc.wandb.synced").touch()
    upload_offline(kept, TrackerConfig())


def _until(done: object) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""What a killed process, a damaged file, a dead tracker or another's folder leaves: the same command heals it, and says so."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.config.schema import TrackerConfig
from ablate.design.plan import read_plan, write_plan
from ablate.errors import RecordError, StudyError
from ablate.records.interim import read_interims, remove_damaged, write_interim
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import RunStatus, damage, read_manifest, read_status, write_value
from ablate.runner.failures import server_lost
from ablate.runner.freeze import freeze, pending, settled
from ablate.runner.locks import Locks
from ablate.runner.processes import end_orphans
from ablate.runner.reuse import has_result, holds_result, stored
from ablate.runner.run_study import _clean
from ablate.runner.status import study_state
from tests.damage import DAMAGE
from tests.synthetic import write_study

FILES = ("config.yaml", "fingerprint.json", "trace.arrow", "evals.arrow", "status.json", "manifest.json")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "study"
    plan = write_study(folder, arms=("batch_size=64",), seeds=2)
    write_plan(plan, folder)
    for run in StudyDir(folder).runs():
        outcome = read_status(run)
        assert outcome is not None
        write_value(run, outcome)  # with the hashes of its files
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_of_a_finished_run_costs_that_run_and_is_named(
    what: str, name: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, run = read_plan(study), RunDir(study / "baseline/seed=0")
    assert pending(plan, study) == []
    DAMAGE[what](run.path / name)
    assert [one.name for one in pending(plan, study)] == ["baseline/seed=0"]
    assert not holds_result(run, next(one.digest for one in plan.runs if one.name == "baseline/seed=0"))
    with Locks(study.parent) as locks:
        _clean(plan, study, locks)
    gone = name == "status.json" and what == "missing"  # as of a run that has not ended
    assert ("baseline/seed=0 is made again: " in capsys.readouterr().out) == (not gone)
    readings = {(one.arm, one.seed): one for one in analyse(study).runs}
    assert readings["baseline", 0].status in (("running",) if gone else ("unreadable", "missing"))
    assert sum(one.status == "finished" for one in readings.values()) == 3
    state = next(one for one in study_state(study).runs if one.name == "baseline/seed=0")
    assert state.state == ("interrupted" if gone else "waiting")


def test_a_table_without_hashes_that_was_cut_has_no_result(study: Path) -> None:
    run = RunDir(study / "baseline/seed=0")
    outcome = read_status(run)
    assert outcome is not None
    DAMAGE["cut"](run.evals)
    assert damage(run, replace(outcome, files={})) == "evals.arrow was cut off"


def test_a_trace_that_ends_at_another_step_than_its_status_is_unreadable(study: Path) -> None:
    run = RunDir(study / "baseline/seed=0")
    outcome = read_status(run)
    assert outcome is not None
    write_value(run, replace(outcome, step=outcome.step + 1))
    reading = next(one for one in analyse(study).runs if (one.arm, one.seed) == ("baseline", 0))
    assert reading.status == "unreadable"
    assert f"ends at step {outcome.step}, and its run finished after {outcome.step + 1}" in reading.sentence


def test_a_file_list_names_no_other_files(study: Path) -> None:
    run = RunDir(study / "baseline/seed=0")
    outcome = read_status(run)
    assert outcome is not None
    assert damage(run, replace(outcome, files={"../../../mine": "0" * 64})) == "../../../mine is missing"


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_plan_is_written_again_by_the_command_that_made_its_runs(
    what: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read_plan(study)
    DAMAGE[what](study / "plan.json")
    assert freeze(plan, study).digest == plan.digest
    assert read_plan(study) == plan
    if what != "missing":
        assert "was damaged; all runs there are of this command" in capsys.readouterr().out


def test_a_damaged_plan_of_other_runs_is_not_replaced(study: Path) -> None:
    plan = read_plan(study)
    other = replace(plan, runs=tuple(replace(run, digest="e" * 64) for run in plan.runs))
    DAMAGE["cut"](study / "plan.json")
    with pytest.raises(StudyError, match="cannot be read as a plan"):
        settled(other, study)


@pytest.mark.parametrize("what", ["cut", "emptied", "one bit"])
def test_a_damaged_interim_analysis_is_removed_and_named(what: str, study: Path) -> None:
    result = {"plan": "p", "seeds": 5, "stops": {}, "level": 0.01, "made": "now"}
    write_interim(study, result)
    assert read_interims(study, [5], "p") == [result]
    DAMAGE[what](study / "interim-5.json")
    with pytest.raises(RecordError, match="the study's command makes it again"):
        read_interims(study, [5], "p")
    assert remove_damaged(study, [5]) == ["interim-5.json"]
    assert read_interims(study, [5], "p") == []


def test_an_edited_status_is_noticed(study: Path) -> None:
    run = RunDir(study / "baseline/seed=0")
    value = json.loads(run.status.read_text())
    run.status.write_text(json.dumps(value | {"step": value["step"] + 1}))
    with pytest.raises(RecordError, match="it was damaged or edited: its checksum does not match"):
        read_status(run)
    assert not has_result(run)
    assert stored(run)[2]


# ---- litter ---------------------------------------------------------------------------------------------------------


def test_what_killed_processes_left_is_removed(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, run = read_plan(study), RunDir(study / "baseline/seed=0")
    part = run.path / ".trace.arrow.1.abc.part"
    part.touch()
    with tempfile.TemporaryDirectory() as temporary, Locks(study.parent) as locks:
        monkeypatch.setattr(tempfile, "tempdir", temporary)
        pools = [Path(temporary) / f"pymp-{name}" for name in ("dead", "living", "empty")]
        for pool in pools:
            pool.mkdir()
        servers = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for server, pool in zip(servers, pools, strict=False):
            server.bind(str(pool / "listener"))
            server.listen()
        servers[0].close()
        lock = locks.acquire("mine")
        assert lock is not None
        dead = json.loads(lock.path.read_text()) | {"pid": 2**22, "started": "1", "token": "b" * 32}
        (locks.folder / ".left").write_text(json.dumps(dead))
        _clean(plan, study, locks)
        locks.remove_litter()
        assert not part.exists()
        assert not (locks.folder / ".left").exists()
        assert lock.path.exists()
        assert [pool.name for pool in pools if pool.exists()] == ["pymp-living", "pymp-empty"]
        servers[1].close()


def test_the_parts_of_a_living_run_stay(study: Path) -> None:
    plan = read_plan(study)
    part = study / "baseline/seed=0/.status.json.1.abc.part"
    part.touch()
    with Locks(study.parent) as locks:
        locks.acquire(next(run.digest for run in plan.runs if run.name == "baseline/seed=0"))
        _clean(plan, study, locks)
    assert part.exists()


def test_a_run_that_was_killed_or_stopped_is_shown_as_interrupted(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RunDir(study / "baseline/seed=0").status.unlink()
    write_value(
        RunDir(study / "baseline/seed=1"), RunStatus(status="interrupted", reason="SIGTERM", message="was stopped")
    )
    states = {one.name: (one.state, one.sentence) for one in study_state(study).runs}
    assert states["baseline/seed=0"] == ("interrupted", "its process was killed and left no outcome")
    assert states["baseline/seed=1"] == ("interrupted", "was stopped")
    assert cli.main(["status", str(study)]) == 0
    assert "2 interrupted" in capsys.readouterr().out


# ---- the server of the runs -------------------------------------------------------------------------------------------


def test_orphans_are_asked_to_end_and_then_killed() -> None:
    code = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        from ablate.runner.locks import started_at

        end_orphans({process.pid: started_at(process.pid) or "", os.getpid(): "another time"}, grace=0.2)
        assert process.wait(5) == -signal.SIGKILL


def test_killed_is_told_from_out_of_memory() -> None:
    assert "out-of-memory killer ended the process that starts the runs" in server_lost(oom_killed=True).message
    assert "something outside of the study" in server_lost(oom_killed=False).message


@pytest.mark.slow
def test_runs_survive_the_end_of_their_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server is killed while two runs train: they are ended, and made again by another server, in the same command."""
    monkeypatch.chdir(tmp_path)
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            if len(list(tmp_path.glob("runs/*/*/*/trace.arrow"))) == 2:
                pid = forkserver._forkserver._forkserver_pid
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    typed = ["data.batch_size=8,16", "study.seeds=1", "study.workers=2", "debug=quick", "train.budget=64 steps"]
    code = cli.main(["-m", *typed, "tracker=none", "study.confirm_above_hours=null"])
    thread.join()
    said = " ".join(capsys.readouterr().out.split())
    assert killed
    assert code == 0, said
    named = said.count("something outside of the study ended the process that starts the runs")
    assert named in (1, 2), said  # a short run may have ended by itself meanwhile, and its result is kept
    (folder,) = (tmp_path / "runs").glob("[!.]*")
    ended_before: list[str] = []
    for run in StudyDir(folder).runs():
        outcome = read_status(run)
        assert outcome is not None
        assert outcome.status == "finished"
        ended_before += [one["reason"] for one in read_manifest(run).attempts]
    assert ended_before == ["server lost"] * named


# ---- trackers ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tracker_that_does_not_answer_has_a_deadline_that_its_log_tells(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from ablate.tracking import follower as module

    run = RunDir(study / "baseline/seed=0")
    code = (
        "import sys; from ablate.tracking import follower; follower._END_TIMEOUT_SECONDS = 2; "
        "follower._FAILED_END_SECONDS = 1; sys.exit(follower.main(sys.argv[1:]))"
    )
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()  # accepts, and never answers
        tracker = TrackerConfig(name="mlflow", uri=f"http://127.0.0.1:{server.getsockname()[1]}")
        typed = module.command("run", run.path, "mlflow", "online", tracker, parent=os.getpid())
        typed["args"] = [sys.executable, "-P", "-c", code, *typed["args"][4:]]
        began = time.monotonic()
        with (run.path / module.LOG).open("ab") as log:
            done = subprocess.run(**typed, stdout=log, stderr=subprocess.STDOUT, timeout=60, check=False)
    assert done.returncode == 1
    assert time.monotonic() - began < 30
    said = (run.path / module.LOG).read_text()
    assert "the tracker took more than 2 s after the end; `ablate sync` sends the rest" in said


def test_a_run_does_not_wait_for_its_tracker() -> None:
    import inspect

    from ablate.runner import worker

    assert ".wait(" not in inspect.getsource(worker)


# ---- folders of others -------------------------------------------------------------------------------------------------


@pytest.fixture
def read_only(study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file system that is only read; the tests may run as root, whom no permission stops."""

    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("ablate.report.build.write_text", "ablate.analysis.analyse.write_json", "ablate.serialization.write_text",
                 "ablate.runner.stop.write_json"):  # fmt: skip
        monkeypatch.setattr(name, refuse)
    return study


def test_what_can_be_shown_of_a_folder_that_is_only_read_is_shown(
    read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(read_only)]) == 0
    said = capsys.readouterr()
    assert "batch_size" in said.out
    assert f"the report was not written into {read_only}: Read-only file system" in said.err
    assert cli.main(["methods", str(read_only)]) == 0
    said = capsys.readouterr()
    assert "seeds" in said.out
    assert f"methods.tex was not written into {read_only}: Read-only file system" in said.err
    assert cli.main(["stop", str(read_only)]) == 2
    assert capsys.readouterr().err.endswith(".stop: Read-only file system\n")


def test_a_file_that_may_not_be_read_is_a_sentence(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("ablate.report.figures.write_figures", lambda _, folder, *__: refuse(folder))
    assert cli.main(["figures", str(study)]) == 2
    said = capsys.readouterr().err
    assert said == f"ablate: {study}: Permission denied\n  fix: a copy of the folder that you may read and write\n"
    shutil.rmtree(study / "batch_size=64")
    monkeypatch.setattr("ablate.records.run_files.RunDir.leads_out", lambda run: refuse(run.path))
    assert {one.status for one in analyse(study).runs} == {"unreadable", "missing"}

"""Canaries around a folder that was received: nothing of it is executed, and no file outside is removed, written or sent."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import ablate
from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.config.schema import TrackerConfig
from ablate.errors import AblateError, ConfigError, RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_manifest, read_status, write_value
from ablate.records.schema import TRACE
from ablate.records.writer import TableWriter
from ablate.runner.locks import Locks
from ablate.runner.log_capture import captured, log_for_child
from ablate.runner.processes import _safe_path, _working_folder_last
from ablate.runner.reuse import EqualRun, copy_run, publish
from ablate.runner.worker import execute
from ablate.serialization import read_json
from ablate.tracking.follower import _start
from ablate.tracking.sync import SyncOptions, sync
from tests.synthetic import write_study

PAYLOAD = "from pathlib import Path\nPath({!r}).write_text('ran')\ndef f(record): return 1.0\n"
METRIC = "payload_of_a_canary:f"
READING = (
    ["report"], ["report", "--json"], ["table"], ["methods"], ["figures", "--only", "forest"], ["power"], ["bundle"],
    ["resample"], ["status"],
)  # fmt: skip


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study in the working directory, as it is after an archive was unpacked there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    write_study(tmp_path / "study", arms=("batch_size=64",), seeds=2)
    return tmp_path / "study"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(read_json(path) | changes))  # without its checksum, as its author would


# ---- execution -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(received: Path, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "payload_of_a_canary.py").write_text(PAYLOAD.format(str(tmp_path / "canary")))
    edit(received / "plan.json", metric=METRIC)
    yield received
    sys.modules.pop("payload_of_a_canary", None)


@pytest.mark.parametrize("verb", READING, ids=" ".join)
def test_no_reading_verb_runs_the_metric_that_a_plan_names(
    verb: list[str], hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main([verb[0], str(hostile), *verb[1:]])
    said = capsys.readouterr()
    assert not (tmp_path / "canary").exists()
    assert code in (0, 1, 2)
    if verb[0] in ("report", "bundle"):
        assert METRIC in said.out + said.err
        assert "--run-custom-metric" in said.out + said.err


def test_neither_do_python_nor_compare(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = ablate.load(hostile)
    assert study.runs[METRIC].isna().all()
    assert analyse(hostile).metric == METRIC
    runs = [str(hostile / "baseline" / f"seed={seed}") for seed in (0, 1)]
    for verb in ("compare", "diff"):
        cli.main([verb, *runs])
    assert not (tmp_path / "canary").exists()
    assert (ablate.load(hostile, run_custom_metric=True).runs[METRIC] == 1.0).all()
    assert (tmp_path / "canary").exists()


def test_a_reader_who_asks_for_it_gets_it(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["table", str(hostile), "--run-custom-metric"]) == 0
    assert (tmp_path / "canary").exists()


SHADOWED = ("secrets", "yaml", "torch", "socket", "multiprocessing", "selectors")


def test_a_process_of_ours_imports_no_library_from_the_working_directory(tmp_path: Path) -> None:
    """As in the server of the runs: `python -c`, whose path begins with the working directory."""
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the canary of the working directory')")
    code = "import secrets, socket, selectors, multiprocessing.forkserver, yaml, ablate.serialization"
    shadowed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "canary" in shadowed.stderr, "the premise"
    with _safe_path():
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PYTHONSAFEPATH" not in os.environ


@pytest.mark.slow
def test_a_run_survives_files_that_are_named_as_libraries_are(tmp_path: Path) -> None:
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close(); raise SystemExit(3)")
    typed = ["ablate", "debug=quick", "tracker=none", "train.budget=2 steps"]
    program = f"import sys; sys.argv = {typed!r}; from ablate.cli import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "canary").exists()


def test_the_working_directory_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/usr/lib"])
    _working_folder_last()
    assert sys.path == ["/usr/lib", "", str(tmp_path)]


# ---- deletion and overwriting ----------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine" / "diary"
    path.parent.mkdir()
    path.write_text("of mine")
    return path


def lock_file(**changes: Any) -> str:
    owner = {"host": "elsewhere", "boot": "", "pids": "", "pid": 1, "started": "", "token": "a" * 32}
    return json.dumps(owner | changes)


LOCKS = {
    "a token that goes up": lock_file(token="/../../../mine/diary"),
    "a token that is a path": lock_file(token="x/../../mine/diary"),
    "a huge pid": lock_file(pid=10**30),
    "a negative pid": lock_file(pid=-1),
    "numbers for texts": lock_file(token=7, host=1),
    "brackets": "[" * 4000,
    "long": "x" * 10**6,
}


@pytest.mark.parametrize("what", LOCKS)
def test_a_lock_names_no_file(what: str, tmp_path: Path, mine: Path) -> None:
    locks = Locks(tmp_path / "root", stale_seconds=0)
    locks.folder.mkdir(parents=True)
    (locks.folder / "run").write_text(LOCKS[what])
    os.utime(locks.folder / "run", (0, 0))
    assert locks.holder("run") is None
    lock = locks.acquire("run")
    assert lock is not None
    locks.release(lock)
    assert mine.read_text() == "of mine"
    assert [path.name for path in mine.parent.iterdir()] == ["diary"]


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_a_lock_that_is_no_file_is_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    locks.folder.mkdir()
    make(locks.folder / "run")
    assert locks.holder("run") is None
    locks.acquire("run")


def test_no_name_of_a_lock_leads_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the name of a lock"):
        Locks(tmp_path).acquire("../x")


MANIFESTS: dict[str, dict[str, Any]] = {
    "a digest that goes up": {"digest": "../../../mine/diary"},
    "a code digest": {"code_digest": "../x"},
    "a source file that goes up": {"code": {"../../mine/diary": "0" * 64}},
    "a device as source file": {"imported": {"/dev/zero": "0" * 64}},
    "a time without a zone": {"started": "2026-01-01T00:00:00"},
    "a session without one": {"sessions": [{"started": "2026-01-01T00:00:00"}]},
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_manifest_names_no_file_and_has_times_with_a_zone(what: str, received: Path, mine: Path) -> None:
    edit(received / "baseline/seed=0/manifest.json", **MANIFESTS[what])
    with pytest.raises(RecordError, match="expected "):
        read_manifest(RunDir(received / "baseline/seed=0"))
    run = next(run for run in analyse(received).runs if (run.arm, run.seed) == ("baseline", 0))
    assert run.status == "unreadable"


@pytest.mark.parametrize("digest", ["../../mine/diary", "/etc/passwd", "a.b", "x" * 200])
def test_a_plan_has_hashes_for_digests(
    digest: str, received: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = json.loads((received / "plan.json").read_text())
    plan["runs"][0]["digest"] = digest
    (received / "plan.json").write_text(json.dumps(plan))
    for verb in ("report", "status", "stop", "retry"):
        assert cli.main([verb, str(received)]) == 2
        assert "expected a hash, got" in capsys.readouterr().err
    assert mine.read_text() == "of mine"


def test_a_log_that_is_a_link_is_not_written(tmp_path: Path, mine: Path) -> None:
    log = tmp_path / "log.txt"
    log.symlink_to(mine)
    for opened in (captured(log), log_for_child(log, "head")):
        with pytest.raises(OSError, match="expected a regular file to write, got a link"), opened:
            pass
    with pytest.raises(OSError, match="expected a regular file"):
        TableWriter(log, TRACE)
    assert mine.read_text() == "of mine"


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.txt")
    with pytest.raises(OSError, match="expected a regular file"), captured(tmp_path / "log.txt"):
        pass


LINKS = {
    "the run": lambda run: run,
    "its arm": lambda run: run.parent,
    "its log": lambda run: run / "log.txt",
    "its checkpoint": lambda run: run / "checkpoint",
}


@pytest.mark.parametrize("what", LINKS)
def test_no_writer_follows_a_link_in_a_run_folder(what: str, received: Path, mine: Path) -> None:
    run = RunDir(received / "baseline/seed=0")
    (mine.parent / "checkpoint").mkdir()
    link, other = LINKS[what](run.path), RunDir(received / "baseline/seed=1")
    equal = EqualRun(
        run=other, manifest=read_manifest(other), outcome=RunStatus(status="finished"), origin="a/b/seed=0"
    )
    config = json.loads(other.config.read_text())
    if link.exists():
        link.rename(received.parent / "aside")
    target = mine.parent if link.suffix != ".txt" else mine
    if what == "its arm":
        (mine.parent / "seed=0").mkdir()
    link.symlink_to(target)
    before = {path: path.read_bytes() for path in mine.parent.rglob("*") if path.is_file()}
    folders = sorted(mine.parent.rglob("*"))
    for write in (
        lambda: execute(ablate.Config(), run, changes={}, digest="d"),
        lambda: copy_run(equal, run, config, {}),
        lambda: run.check_own(),
    ):
        with pytest.raises(RecordError, match="expected a run folder of its own, got a link that leads out"):
            write()
    assert cli.main(["retry", str(received), "baseline/seed=0"]) == 2
    assert {path: path.read_bytes() for path in mine.parent.rglob("*") if path.is_file()} == before
    assert sorted(mine.parent.rglob("*")) == folders


@pytest.mark.parametrize("name", [".locks", ".digests"])
def test_the_folders_of_a_root_are_no_links(name: str, received: Path, mine: Path) -> None:
    root = received.parent
    (root / name).symlink_to(mine.parent)
    finished, run = RunStatus(status="finished"), RunDir(received / "baseline/seed=0")
    use = {".locks": lambda: Locks(root), ".digests": lambda: publish(run, "d" * 64, finished, root=root)}[name]
    with pytest.raises(RecordError, match="expected a folder, got a link"):
        use()
    assert [path.name for path in mine.parent.iterdir()] == ["diary"]


@pytest.mark.parametrize("name", ["tracker.log", "wandb"])
def test_a_follower_is_not_started_into_a_link(
    name: str, received: Path, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(received / "baseline/seed=0")
    (run.path / name).symlink_to(mine if name == "tracker.log" else mine.parent)
    assert _start("run", run.path, TrackerConfig(name="wandb", mode="offline")) is None
    assert "is off for this run" in capsys.readouterr().out
    assert mine.read_text() == "of mine"


# ---- sending ---------------------------------------------------------------------------------------------------------


class Server:
    """A loopback server that counts the requests with credentials."""

    def __enter__(self) -> Server:
        self.credentials: list[str] = []
        seen = self.credentials

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization", "none"))
                self.send_error(403)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        self._http = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.uri = f"http://127.0.0.1:{self._http.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def tracked(folder: Path, **tracker: Any) -> None:
    for path in folder.glob("*/*/config.yaml"):
        value = json.loads(path.read_text()) | {"tracker": asdict(TrackerConfig(**tracker))}
        path.write_text(json.dumps(value))


@pytest.mark.parametrize("how", ["as in the study", "--to alone"])
def test_an_address_in_a_received_folder_gets_no_credentials(
    how: str, received: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with Server() as server:
        tracked(received, name="mlflow", uri=server.uri)
        options = SyncOptions(workers=1, to="mlflow" if how == "--to alone" else None)
        with pytest.raises(ConfigError, match=f"--uri {server.uri}") as refused:
            list(sync(received, options))
        assert f"ablate sync {received} --uri {server.uri}, if that is where" in (refused.value.fix or "")
        assert server.credentials == []


@pytest.mark.slow
def test_an_address_that_was_typed_gets_them(received: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The premise of the test above: the server would have got them."""
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Server() as server:
        list(sync(received, SyncOptions(workers=4, to="mlflow", uri=server.uri)))
        assert f"Basic {base64.b64encode(b'me:correct-horse').decode()}" in server.credentials


def test_an_entity_in_a_received_folder_must_be_typed(received: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    tracked(received, name="wandb", entity="them")
    with pytest.raises(ConfigError, match="--entity them, and a folder may come from anybody"):
        list(sync(received, SyncOptions(workers=1)))


def test_wandb_settings_in_the_working_directory_name_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ablate.tracking.wandb import _check_server

    monkeypatch.chdir(tmp_path)
    _check_server()
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").write_text("[default]\nbase_url = http://evil\n")
    with pytest.raises(AblateError, match="names the server http://evil, which would receive your login"):
        _check_server()
    monkeypatch.setenv("WANDB_BASE_URL", "http://evil")
    _check_server()


# ---- values of the right type and impossible ---------------------------------------------------------------------------


def test_a_throughput_without_end_is_no_number_of_a_run(received: Path) -> None:
    run = RunDir(received / "baseline/seed=0")
    for value in ("inf", "nan", -1):
        edit(run.status, throughput={"train_seconds": value})
        with pytest.raises(RecordError, match=r"throughput\.train_seconds: expected a number from 0, got"):
            read_status(run)
    write_value(run, RunStatus(status="finished", step=-1))
    with pytest.raises(RecordError, match="step: expected a number from 0, got -1"):
        read_status(run)

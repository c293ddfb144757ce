"""`ablate bundle`: one archive that holds a study's evidence, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate import cli
from ablate.archive.bundle import write_bundle
from ablate.archive.manifest import hash_of
from ablate.archive.verify import verify
from ablate.errors import StudyError
from tests.archive.tampering import Files, files_of
from tests.synthetic import write_study


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    """A copy of the study, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "runs" / "study"))


def test_it_holds_plan_records_report_and_list_and_nothing_else(sent: Files) -> None:
    of_a_run = {
        "config.yaml",
        "manifest.json",
        "fingerprint.json",
        "trace.arrow",
        "evals.arrow",
        "status.json",
        "log.txt",
    }
    runs = [f"{arm}/seed={seed}" for arm in ("baseline", "batch_size=64") for seed in (0, 1)]
    report = {"analysis.json", "report.html", "report.md", "table.tex"}
    wanted = {f"{run}/{name}" for run in runs for name in of_a_run} | {"plan.json", "bundle.json", "lock.txt"}
    assert wanted | report <= sent.keys()
    assert all(name.count("/") == 0 for name in sent.keys() - wanted)
    assert "numpy==" in sent["lock.txt"].decode()


def test_it_unpacks_with_any_tar_into_one_folder_that_reads_as_a_study(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    assert cli.main(["report", str(tmp_path / "study")]) == 0


def test_the_same_study_gives_the_same_bytes_wherever_and_whenever(finished: Path, mine: Path, archive: Path) -> None:
    for number, path in enumerate(sorted(mine.rglob("*"), reverse=True)):
        os.utime(path, (number, number))
        path.chmod(0o700)
    made = write_bundle(mine, mine.parent / "again.tar")
    assert (mine.parent / "again.tar").read_bytes() == archive.read_bytes()
    assert made.sha256 == hash_of(archive)
    with tarfile.open(archive) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in tar} == {
            (0, 0, 0, "", 0o644)
        }


def test_a_study_is_read_and_not_changed(finished: Path, mine: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    write_bundle(mine, mine.parent / "study.tar")
    assert {path: path.stat().st_mtime_ns for path in mine.rglob("*")} == before


def test_checkpoints_stay_out_and_their_size_is_said(
    mine: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = mine / "baseline/seed=0/checkpoint/step=8"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"x" * 3_000_000)
    (mine / "baseline/seed=0/tracker.log").write_text("W&B said this")
    assert cli.main(["bundle", str(mine), "--out", str(mine.parent / "study.tar")]) == 0
    said = capsys.readouterr().out
    assert "left out: checkpoints of 1 run, 2.9 MiB" in said
    assert hash_of(archive) in said
    assert (mine.parent / "study.tar").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("ending", ["running", "missing"])
def test_a_study_that_is_not_at_its_end_is_refused_unless_asked(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "runs" / "study"
    write_study(folder, arms=("batch_size=64",), seeds=2, **{ending: [("baseline", 1)]})  # type: ignore[arg-type]
    with pytest.raises(
        StudyError, match=rf"expected a finished study, got .* with baseline/seed=1 \({ending}\)"
    ) as refused:
        write_bundle(folder, tmp_path / "study.tar")
    assert "--allow-incomplete" in (refused.value.fix or "")
    assert not (tmp_path / "study.tar").exists()
    made = write_bundle(folder, tmp_path / "study.tar", allow_incomplete=True)
    assert not made.complete
    found = {check.name: check for check in verify(made.path).checks}
    assert found["report"].findings == ()
    assert found["files"].status == "passed"


def test_a_run_that_failed_is_evidence_too(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(
        folder, arms=("batch_size=64",), seeds=2, failed=[("batch_size=64", 1)], diverged=[("batch_size=64", 0)]
    )
    made = write_bundle(folder, tmp_path / "study.tar")
    assert made.complete
    assert made.runs == 4


def test_a_broken_run_names_no_folder_of_this_machine(mine: Path, tmp_path: Path) -> None:
    (mine / "baseline/seed=0/trace.arrow").write_bytes(b"no table")
    with pytest.raises(StudyError, match="expected a finished study"):
        write_bundle(mine, tmp_path / "a.tar")
    write_bundle(mine, tmp_path / "a.tar", allow_incomplete=True)
    sentence = next(run["sentence"] for run in json.loads(files_of(tmp_path / "a.tar")["analysis.json"])["runs"])
    assert sentence.startswith("study/baseline/seed=0: trace.arrow was cut off")


def test_runs_without_a_plan_are_bundled_with_what_was_asked_of_them(mine: Path, tmp_path: Path) -> None:
    (mine / "plan.json").unlink()
    code = cli.main(["bundle", str(mine), "--out", str(tmp_path / "a.tar"), "--metric", "eval_accuracy"])
    assert code == 0
    found = verify(tmp_path / "a.tar")
    assert {check.name: check.findings for check in found.checks if check.name in ("files", "report", "plan")} == {
        "files": (),
        "report": (),
        "plan": (),
    }
    assert any("without a plan" in line for line in found.limitations)
    assert json.loads(files_of(tmp_path / "a.tar")["analysis.json"])["metric"] == "eval_accuracy"


def test_another_file_in_its_place_is_not_replaced(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = mine.parent / "study.tar"
    write_bundle(mine, out)
    assert not write_bundle(mine, out).fresh
    out.write_bytes(b"something else")
    assert cli.main(["bundle", str(mine), "--out", str(out)]) == 2
    assert "exists and is a different file\n  fix: --out" in capsys.readouterr().err
    assert out.read_bytes() == b"something else"
    assert sorted(path.name for path in out.parent.iterdir()) == ["study", "study.tar"]


def test_a_full_disk_leaves_nothing_behind(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(mine))

    monkeypatch.setattr("ablate.archive.bundle.os.fsync", full)
    assert cli.main(["bundle", str(mine), "--out", str(mine.parent / "study.tar")]) == 1
    assert "is full" in capsys.readouterr().err
    assert [path.name for path in mine.parent.iterdir()] == ["study"]


def links(folder: Path) -> Iterator[tuple[str, Any]]:
    yield "a run", lambda: swap(folder / "baseline/seed=0", folder.parent / "elsewhere")
    yield "a file", lambda: swap(folder / "baseline/seed=0/log.txt", folder.parent / "elsewhere")


def swap(path: Path, target: Path) -> None:
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("what", ["a run", "a file"])
def test_a_link_is_not_followed_into_the_archive(mine: Path, what: str) -> None:
    dict(links(mine))[what]()
    with pytest.raises(StudyError, match="got a link or special file"):
        write_bundle(mine, mine.parent / "study.tar", allow_incomplete=True)


def test_a_secret_in_a_record_is_not_given_away(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "baseline/seed=1/log.txt").write_text("one line\nlogged in with hunter2hunter2\n")
    write_bundle(mine, mine.parent / "before.tar")
    monkeypatch.setenv("MY_API_TOKEN", "hunter2hunter2")
    with pytest.raises(StudyError, match=r"line 2 of .*baseline/seed=1/log.txt contains the value") as refused:
        write_bundle(mine, mine.parent / "study.tar")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("out", "says"),
    [("no/such/folder.tar", "does not exist"), (".", "expected a file name, got the directory")],
    ids=["nowhere", "folder"],
)
def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(
    mine: Path, monkeypatch: pytest.MonkeyPatch, out: str, says: str
) -> None:
    monkeypatch.chdir(mine.parent)
    with pytest.raises(StudyError, match=says):
        write_bundle(mine, Path(out))


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bundle", str(tmp_path)]) == 2
    assert "is not a study folder" in capsys.readouterr().err

"""Runs of equal digest are made once under one root; whatever is taken over says where it comes from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import PACKAGES, Manifest, RunStatus, read_manifest, read_status, versions, write_value
from ablate.runner.reuse import EqualRun, copy_run, find_equal, holds_result, publish
from ablate.serialization import write_json, write_text

DIGEST = "d" * 64


def made(root: Path, study: str = "first", *, digest: str = DIGEST, status: Any = "finished", **more: Any) -> RunDir:
    run = StudyDir(root / study).run("baseline", 0)
    write_text(run.trace, "rows")
    write_text(run.evals, "looks")
    write_text(run.log, "words")
    write_text(run.progress, "{}")
    write_text(run.config, "seed: 0")
    write_text(run.checkpoint / "step=1" / "state.json", "{}")
    manifest = {"arm": "baseline", "seed": 0, "digest": digest, "versions": versions(PACKAGES)} | more
    write_value(run, Manifest(**manifest))
    outcome = RunStatus(status=status, step=3, weights_sha256="w")
    write_value(run, outcome)
    publish(run, digest, outcome, root=root)
    return run


def test_what_came_to_a_result_is_found_by_its_digest(tmp_path: Path) -> None:
    run = made(tmp_path)
    found = find_equal(tmp_path, DIGEST)
    assert found is not None
    assert (found.run, found.origin, found.study) == (run, "first/baseline/seed=0", "first")
    assert find_equal(tmp_path, "e" * 64) is None
    assert find_equal(tmp_path / "elsewhere", DIGEST) is None


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_no_result_is_not_found(tmp_path: Path, status: str) -> None:
    made(tmp_path, status=status)
    assert find_equal(tmp_path, DIGEST) is None


def test_a_run_outside_the_root_or_without_a_digest_is_not_listed(tmp_path: Path) -> None:
    run = made(tmp_path / "here", digest="")
    publish(run, DIGEST, RunStatus(status="finished"), root=tmp_path / "there")
    assert not (tmp_path / "there").exists()
    assert not (tmp_path / "here" / ".digests").exists()


def spoil(what: str, run: RunDir, entry: Path) -> None:
    if what == "gone":
        run.status.unlink()
    elif what == "no result any more":
        write_value(run, RunStatus(status="failed"))
    elif what == "another run by now":
        write_value(run, Manifest(arm="baseline", seed=0, digest="e" * 64, versions=versions(PACKAGES)))
    elif what == "torn manifest":
        run.manifest.write_text('{"arm": ')
    elif what == "strange manifest":
        run.manifest.write_text('{"what": 1}')
    elif what == "torn entry":
        entry.write_text('{"run": "fi')
    elif what == "entry of another kind":
        entry.write_text("[1, 2]")
    elif what == "way out":
        entry.write_text('{"run": "../first/baseline/seed=0"}')
    elif what == "absolute":
        entry.write_text(json.dumps({"run": str(run.path)}))
    elif what == "other library":
        write_value(run, Manifest(arm="a", seed=0, digest=DIGEST, versions=versions(PACKAGES) | {"torch": "1.0"}))
    elif what == "other device":
        write_value(run, Manifest(arm="a", seed=0, digest=DIGEST, versions=versions(PACKAGES), device="NVIDIA X"))
    elif what == "changed import":
        write_value(
            run, Manifest(arm="a", seed=0, digest=DIGEST, versions=versions(PACKAGES), imported={"gone.py": "1"})
        )


@pytest.mark.parametrize(
    "what",
    ["gone", "no result any more", "another run by now", "torn manifest", "strange manifest", "torn entry", "way out",
     "entry of another kind", "absolute", "other library", "other device", "changed import"],
)  # fmt: skip
def test_the_index_is_only_a_hint(tmp_path: Path, what: str) -> None:
    run = made(tmp_path)
    assert find_equal(tmp_path, DIGEST) is not None
    spoil(what, run, tmp_path / ".digests" / DIGEST)
    assert find_equal(tmp_path, DIGEST) is None


def taken(tmp_path: Path, study: str = "second", **more: Any) -> tuple[RunDir, RunDir]:
    run = made(tmp_path, **more)
    found = find_equal(tmp_path, DIGEST)
    assert isinstance(found, EqualRun)
    into = StudyDir(tmp_path / study).run("lr=1", 0)
    copy_run(found, into, {"arm": "lr=1", "seed": 0, "optim": {"lr": 1.0}}, {"optim.lr": 1.0})
    return run, into


def test_what_is_taken_is_the_record_with_the_new_studys_names(tmp_path: Path) -> None:
    run, into = taken(tmp_path)
    for name in ("trace", "evals", "log"):
        assert getattr(into, name).read_text() == getattr(run, name).read_text()
    before, after = read_status(run), read_status(into)
    assert before is not None
    assert after is not None
    assert replace(after, files={}) == replace(before, files={})
    manifest = read_manifest(into)
    assert (manifest.arm, manifest.overrides, manifest.digest) == ("lr=1", {"optim.lr": 1.0}, DIGEST)
    assert manifest.shared_from == "first/baseline/seed=0"
    assert read_manifest(run).shared_from is None
    config = yaml.safe_load(into.config.read_text())
    assert (config["arm"], config["optim"]["lr"]) == ("lr=1", 1.0)
    assert holds_result(into, DIGEST)
    assert not into.checkpoint.exists()
    assert not into.progress.exists()
    assert [path.name for path in into.path.iterdir() if path.name.endswith(".part")] == []


def test_a_copy_stays_as_it_is_whatever_becomes_of_the_other(tmp_path: Path) -> None:
    run, into = taken(tmp_path)
    with run.trace.open("r+") as file:
        file.write("XXXX")
    assert into.trace.read_text() == "rows"


def test_a_copy_of_a_copy_names_the_first(tmp_path: Path) -> None:
    _, into = taken(tmp_path)
    outcome = read_status(into)
    assert outcome is not None
    publish(into, DIGEST, outcome, root=tmp_path)
    found = find_equal(tmp_path, DIGEST)
    assert found is not None
    assert (found.run.path, found.origin) == (into.path, "first/baseline/seed=0")


def test_links_in_a_run_are_not_followed(tmp_path: Path) -> None:
    run = made(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (run.path / "more.arrow").symlink_to(secret)
    found = find_equal(tmp_path, DIGEST)
    assert found is not None
    into = StudyDir(tmp_path / "second").run("baseline", 0)
    copy_run(found, into, {"arm": "baseline", "seed": 0}, {})
    assert not (into.path / "more.arrow").exists()


def test_an_earlier_try_in_its_place_is_replaced_whole(tmp_path: Path) -> None:
    into = StudyDir(tmp_path / "second").run("lr=1", 0)
    write_json(into.status, {"status": "failed"})
    write_text(into.trace, "half")
    write_text(into.checkpoint / "step=2" / "state.json", "{}")
    taken(tmp_path)
    assert into.trace.read_text() == "rows"
    assert not into.checkpoint.exists()

"""Two single runs: what differs by type and value, what came out, and what may be concluded of it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from ablate.analysis.run_comparison import Comparison, RunDiff, compare_runs, diff_runs
from ablate.errors import RecordError, StudyError
from ablate.records.layout import RunDir, StudyDir
from ablate.records.run_files import open_run
from ablate.serialization import read_json
from tests.synthetic import write_study

HERE = ("baseline", 0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "x"
    write_study(
        folder, arms=("batch_size=64", "learning_rate=0.0001", "rerun"), seeds=3, diverged=[("batch_size=64", 2)]
    )
    return folder


def run(study: Path, arm: str, seed: int) -> RunDir:
    return StudyDir(study).run(arm, seed)


def named(study: Path, *pairs: tuple[str, int]) -> tuple[str, str]:
    first, second = (str(run(study, arm, seed).path) for arm, seed in pairs)
    return first, second


def diff(study: Path, first: tuple[str, int], second: tuple[str, int]) -> RunDiff:
    return diff_runs(run(study, *first), run(study, *second), named(study, first, second))


def compare(study: Path, first: tuple[str, int], second: tuple[str, int]) -> Comparison:
    return compare_runs(run(study, *first), run(study, *second), named(study, first, second))


def test_one_key_differs_and_the_rest_is_named_as_equal(study: Path) -> None:
    found = diff(study, HERE, ("batch_size=64", 0))
    assert [(one.key, one.first, one.second) for one in found.moved] == [("data.batch_size", 8, 64)]
    assert not found.same
    assert {"init", "splits", "eval_set", "optimizer", "parameters"} <= set(found.equal)
    assert (*found.data, *found.environment, *found.code, *found.unknown) == ()


def test_the_seed_and_what_follows_from_it_differ_between_seeds(study: Path) -> None:
    found = diff(study, HERE, ("baseline", 1))
    assert [one.key for one in found.config] == ["seed"]
    assert found.moved == ()
    assert {one.key.partition(".")[0] for one in found.fingerprint} >= {"init", "order"}


def test_a_run_equals_itself_and_its_repeat_in_all_that_counts(study: Path) -> None:
    assert diff(study, HERE, HERE).same
    repeat = diff(study, HERE, ("rerun", 0))
    assert repeat.same
    assert [(one.key, one.counts) for one in repeat.config] == [("rerun", False)]


def test_a_value_of_another_type_is_another_value(study: Path, tmp_path: Path) -> None:
    other = RunDir(shutil.copytree(run(study, *HERE).path, tmp_path / "baseline" / "seed=0"))
    config = read_json(other.config)
    config["optim"]["warmup_ratio"] = 0
    config["train"]["max_grad_norm"] = True
    other.config.write_text(json.dumps(config))
    found = diff_runs(run(study, *HERE), other, ("a", "b"))
    assert [(one.key, one.first, one.second) for one in found.moved] == [
        ("optim.warmup_ratio", 0.0, 0),
        ("train.max_grad_norm", 1.0, True),
    ]


def test_what_changes_no_result_is_told_apart(study: Path, tmp_path: Path) -> None:
    other = RunDir(shutil.copytree(run(study, *HERE).path, tmp_path / "baseline" / "seed=0"))
    config = read_json(other.config)
    config["tracker"]["log_every"] = "7 steps"
    config["study"]["name"] = "another"
    other.config.write_text(json.dumps(config))
    found = diff_runs(run(study, *HERE), other, ("a", "b"))
    assert [(one.key, one.counts) for one in found.config] == [("tracker.log_every", False)]
    assert found.same


def test_code_environment_and_data_are_compared(study: Path, tmp_path: Path) -> None:
    other = RunDir(shutil.copytree(run(study, *HERE).path, tmp_path / "baseline" / "seed=0"))
    manifests = {}
    for place, more in ((run(study, *HERE), "1"), (other, "2")):
        manifest = read_json(place.manifest)
        manifest |= {"code": {"a.py": "same", "b.py": more}, "data": f"pool{more}", "git": f"commit{more}"}
        manifest["versions"]["torch"] = f"{more}.0"
        manifests[more] = RunDir(tmp_path / more / "baseline" / "seed=0")
        shutil.copytree(place.path, manifests[more].path)
        manifests[more].manifest.write_text(json.dumps(manifest))
    found = diff_runs(manifests["1"], manifests["2"], ("a", "b"))
    assert [one.key for one in found.code] == ["b.py"]
    assert [one.key for one in found.data] == ["pool"]
    assert [(one.key, one.counts) for one in found.environment] == [("git", False), ("versions.torch", True)]
    said = " ".join(compare_runs(manifests["1"], manifests["2"], ("a", "b")).says)
    assert "final weights differ" not in said


def test_outcomes_stand_side_by_side_with_their_difference(study: Path) -> None:
    found = compare(study, HERE, ("batch_size=64", 0))
    loss = next(one for one in found.outcomes if one.info.name == "eval_loss")
    assert loss.first is not None
    assert loss.second is not None
    assert loss.difference == pytest.approx(loss.second - loss.first)
    assert [curve.name for curve in found.curves] == ["eval loss", "train loss", "grad norm"]
    assert len(found.curves[2].first[0]) == 128
    assert len(found.curves[2].second[0]) == 16


def test_runs_of_unequal_seeds_prove_nothing(study: Path) -> None:
    said = compare(study, HERE, ("batch_size=64", 1)).says
    assert said[0].startswith("The seeds are unequal (0 and 1): two single runs show nothing about a cause.")


def test_one_seed_and_one_key_say_something_of_this_seed_and_how_many_would_decide(study: Path) -> None:
    found = compare(study, HERE, ("learning_rate=0.0001", 0))
    said = " ".join(found.says)
    assert "One seed, and optim.lr (5e-05 -> 0.0001) differs" in said
    assert "Another seed may show the opposite" in said
    assert found.seeds_needed is not None
    assert f"About {max(found.seeds_needed, 2)} seeds would decide whether eval_loss differs by 0.01" in said
    assert f"ablate report {study}" in said


def test_several_keys_are_not_told_apart_and_bisect_is_named(study: Path, tmp_path: Path) -> None:
    other = RunDir(shutil.copytree(run(study, "batch_size=64", 0).path, tmp_path / "elsewhere" / "seed=0"))
    config = read_json(other.config)
    config["optim"]["lr"] = 0.5
    other.config.write_text(json.dumps(config))
    found = compare_runs(run(study, *HERE), other, (str(run(study, *HERE).path), str(other.path)))
    said = " ".join(found.says)
    assert "2 keys differ (data.batch_size and optim.lr)" in said
    assert f"ablate attribute {run(study, *HERE).path} {other.path} study.seeds=5" in said
    assert "at least 5 (fewer are LOW POWER)" in said
    assert found.seeds_needed is None


def test_equal_weights_say_that_nothing_touched_the_training(study: Path) -> None:
    assert compare(study, HERE, ("rerun", 0)).says == (
        "The same weights, bit for bit: none of the differences changed the training.",
    )


def test_equal_runs_with_other_weights_are_nondeterminism(study: Path, tmp_path: Path) -> None:
    other = RunDir(shutil.copytree(run(study, *HERE).path, tmp_path / "baseline" / "seed=0"))
    outcome = read_json(other.status)
    other.status.write_text(json.dumps(outcome | {"weights_sha256": "f" * 64}))
    (said,) = compare_runs(run(study, *HERE), other, ("a", "b")).says
    assert "this is nondeterminism" in said


def test_a_run_that_diverged_has_no_outcome_and_is_named(study: Path) -> None:
    found = compare(study, ("baseline", 2), ("batch_size=64", 2))
    assert all(one.second is None and one.difference is None for one in found.outcomes)
    assert any("batch_size=64/seed=2 (diverged)" in text for text in found.says)


def test_a_run_without_fingerprint_or_config_is_compared_as_far_as_it_goes(study: Path, tmp_path: Path) -> None:
    other = RunDir(shutil.copytree(run(study, *HERE).path, tmp_path / "baseline" / "seed=0"))
    other.fingerprint.unlink()
    other.config.write_text("{unclosed")
    found = diff_runs(run(study, *HERE), other, ("a", "b"))
    assert any(text.startswith("config:") for text in found.unknown)
    assert any(text.startswith("fingerprint:") for text in found.unknown)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_run_is_read_from_an_archive_of_its_study_as_from_its_folder(study: Path, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"all.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(study.rglob("*")):
                zipped.write(path, path.relative_to(study.parent))
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(study, arcname=study.name)
    with open_run(f"{archive}/batch_size=64/seed=0") as laid:
        assert diff_runs(laid, run(study, "batch_size=64", 0), ("a", "b")).same
        place = laid.path
    assert not place.exists()
    with pytest.raises(StudyError, match="holds 10 runs, expected one") as error, open_run(str(archive)):
        pass
    assert error.value.fix == f"{archive}/baseline/seed=0"
    with pytest.raises(StudyError) as error, open_run(f"{archive}/baselin/seed=0"):
        pass
    assert "baseline/seed=0" in (error.value.fix or "")


def test_links_and_ways_out_of_an_archive_are_not_followed(study: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    archive = tmp_path / "bad.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("run/seed=0/manifest.json")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
        tar.add(run(study, *HERE).manifest, arcname="../../run/seed=1/manifest.json")
    with pytest.raises(StudyError, match="holds no run"), open_run(str(archive)):
        pass


@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_a_name_that_begins_at_the_root_is_not_followed(study: Path, tmp_path: Path, ending: str) -> None:
    """Joined to a folder such a name would replace it: `/elsewhere/manifest.json` would be written there."""
    archive, content = tmp_path / f"bad.{ending}", run(study, *HERE).manifest.read_bytes()
    if ending == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("/elsewhere/manifest.json", content)
    else:
        with tarfile.open(archive, "w") as tar:
            member = tarfile.TarInfo("/elsewhere/manifest.json")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with pytest.raises(StudyError, match="holds no run"), open_run(str(archive)):
        pass
    assert not Path("/elsewhere").exists()


@pytest.mark.parametrize("nonsense", ["nowhere", "file.txt", "torn.tar", "torn.zip", ""])
def test_what_is_no_run_is_quoted(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nonsense: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file.txt", "torn.tar", "torn.zip"):
        (tmp_path / name).write_bytes(b"\x1f\x8b nothing")
    with pytest.raises((StudyError, RecordError)) as error, open_run(nonsense):
        pass
    assert nonsense in error.value.problem
    assert error.value.fix


def test_a_study_folder_is_told_from_a_run(study: Path) -> None:
    with pytest.raises(StudyError, match="holds 10 runs, expected one") as error, open_run(str(study)):
        pass
    assert error.value.fix == str(run(study, *HERE).path)
    with open_run(str(study / "rerun")) as only:
        assert only.path == run(study, "rerun", 0).path

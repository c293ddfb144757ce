"""A finished study at each tracker, sent by `ablate sync` and read back row by row; and what becomes of it the second time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ablate.config.schema import TrackerConfig
from ablate.records.layout import RunDir, StudyDir
from ablate.report import build_report
from ablate.serialization import read_json
from ablate.tracking.backends import BACKENDS
from ablate.tracking.describe import COLUMNS, describe_run, describe_study
from ablate.tracking.rows import AXES, EVAL, TRAIN
from ablate.tracking.sync import SyncOptions, SyncResult, sync
from tests.synthetic import write_study
from tests.tracking.read_back import OF, assert_same, expected, mlflow_runs
from tests.tracking.wandb_file import read_offline

pytestmark = pytest.mark.slow

SECRET = "hunter2-is-not-for-W&B"


@dataclass
class Sent:
    folder: Path
    became: dict[str, list[SyncResult]]

    @property
    def runs(self) -> list[RunDir]:
        return list(StudyDir(self.folder).runs())


def go(folder: Path, **asked: object) -> list[SyncResult]:
    return list(sync(folder, SyncOptions(**{"mode": "offline", "workers": 1, **asked})))


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sent]:
    """Two arms at two seeds, one run without an outcome, one whose config cannot be read; a secret stands in every config."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            patch.setenv(name, str(root / "of-wandb"))
        write_study(root / "made", arms=["batch_size=64"], seeds=2)
        study = StudyDir(root / "made")
        patch.setenv("SOME_API_KEY", SECRET)
        build_report(study.path)
        for run in study.runs():
            config = yaml.safe_load(run.config.read_text())
            run.config.write_text(yaml.safe_dump(config | {"data": config["data"] | {"text_column": SECRET}}))
        study.run("batch_size=64", 1).config.write_text("[not a config")
        study.run("baseline", 1).status.unlink()
        yield Sent(study.path, {to: go(study.path, to=to) for to in BACKENDS})


@pytest.mark.parametrize("to", BACKENDS)
def test_each_run_is_reported_and_one_failure_does_not_keep_the_others(sent: Sent, to: str) -> None:
    became = {one.name: one for one in sent.became[to]}
    assert {name: one.status for name, one in became.items()} == {
        "baseline/seed=0": "sent",
        "baseline/seed=1": "not finished",
        "batch_size=64/seed=0": "sent",
        "batch_size=64/seed=1": "failed",
        "study": "sent",
    }
    assert "config.yaml cannot be read" in became["batch_size=64/seed=1"].message


@pytest.mark.parametrize("name", ["baseline/seed=0", "batch_size=64/seed=0"])
@pytest.mark.parametrize("to", BACKENDS)
def test_what_was_sent_is_the_trace_row_by_row(sent: Sent, to: str, name: str) -> None:
    run = RunDir(sent.folder / name)
    wanted = expected(run)
    found, number = OF[to](run)
    assert len(wanted) > 10
    assert number == len(wanted), "a row is there twice, or is missing"
    assert_same(found, wanted, single=to == "tensorboard")


def test_every_name_that_was_sent_is_in_the_table_of_names(sent: Sent) -> None:
    found, _ = OF["wandb"](sent.runs[0])
    known = (*AXES, *TRAIN, *EVAL)
    for name in {name for row in found.values() for name in row}:
        assert any(name == one or ("<" in one and name.startswith(one.partition("<")[0])) for one in known), name


def test_wandb_has_the_whole_trace_as_an_artifact_where_it_lies(sent: Sent) -> None:
    run = sent.runs[0]
    files = read_offline(run.path).artifacts["trace"]
    assert files == {"trace.arrow": run.trace.resolve(), "evals.arrow": run.evals.resolve()}


def test_wandb_has_the_contrasts_the_sentences_and_the_page(sent: Sent) -> None:
    uploaded = read_offline(sent.folder)
    analysis = read_json(StudyDir(sent.folder).analysis)
    table = uploaded.table("contrasts")
    assert len(table) == len(analysis["contrasts"]) > 10
    for row, contrast in zip(table, analysis["contrasts"], strict=True):
        assert tuple(row) == COLUMNS
        for name in ("arm", "metric", "verdict", "effect", "low", "high", "sentence"):
            assert row[name] == contrast[name]
    assert uploaded.summary["conclusions"] == "\n".join(analysis["conclusions"])
    assert uploaded.summary["verdict/batch_size=64"] == analysis["contrasts"][0]["verdict"]
    assert uploaded.summary["effect/batch_size=64"] == analysis["contrasts"][0]["effect"]
    (page,) = uploaded.folder.glob("files/media/html/*.html")
    assert page.read_bytes() == (sent.folder / "report.html").read_bytes()
    assert set(uploaded.artifacts["report"]) >= {"report.html", "analysis.json", "plan.json"}
    assert (uploaded.run.run_group, uploaded.run.job_type, uploaded.exit_code) == ("made", "study", 0)


def test_tensorboard_has_the_arms_side_by_side_with_what_they_move(sent: Sent) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    moved = {}
    for run in sent.runs:
        if (files := list(run.path.glob("events.out.tfevents.*"))) and run.status.exists():
            read = EventAccumulator(str(run.path)).Reload()
            content = read.PluginTagToContent("hparams")["_hparams_/session_start_info"]
            hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
            moved[f"{run.path.parent.name}/{run.path.name}"] = hparams["data.batch_size"].number_value
            assert len(files) == 1
    assert moved == {"baseline/seed=0": 8, "batch_size=64/seed=0": 64}
    read = EventAccumulator(str(sent.folder / "contrasts")).Reload()
    (text,) = read.Tensors("contrasts/text_summary")
    assert "batch_size 8 -> 64 raises it" in text.tensor_proto.string_val[0].decode()


def test_tensorboards_time_is_training_time(sent: Sent) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = sent.runs[0]
    losses = EventAccumulator(str(run.path)).Reload().Scalars("train/loss")
    wanted = expected(run)
    assert losses[-1].wall_time - losses[0].wall_time == pytest.approx(wanted[128]["seconds"] - wanted[1]["seconds"])
    assert [event.step for event in losses[:3]] == [8, 16, 24]


def test_mlflow_has_one_parent_with_the_page_and_a_child_for_each_run(sent: Sent) -> None:
    client, runs = mlflow_runs(sent.folder.parent)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    tags = {run.info.run_name: run.data.tags for run in children}
    assert sorted(tags) == ["baseline/seed=0", "batch_size=64/seed=0"]
    told = {name: tags["batch_size=64/seed=0"][name] for name in ("study", "arm", "axis", "level", "seed", "status")}
    assert told == {
        "study": "made", "arm": "batch_size=64", "axis": "batch_size", "level": "64", "seed": "0", "status": "finished",
    }  # fmt: skip
    child = next(run for run in children if run.info.run_name == "batch_size=64/seed=0")
    assert child.data.params["data.batch_size"] == child.data.params["varied/data.batch_size"] == "64"
    assert child.info.status == parent.info.status == "FINISHED"
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert (
        parent.data.metrics["effect/batch_size_64"]
        == read_json(sent.folder / "analysis.json")["contrasts"][0]["effect"]
    )
    assert "| batch_size=64 | eval_loss |" in parent.data.tags["mlflow.note.content"]


def test_no_secret_is_in_anything_that_was_written(sent: Sent) -> None:
    written = [path for path in sent.folder.parent.rglob("*") if path.is_file() and path.name != "config.yaml"]
    assert len(written) > 40
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert read_offline(sent.runs[0].path).config["data"]["text_column"] == "***"


def test_a_page_with_a_secret_in_it_stays_here(sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sent.folder, tmp_path / "made", ignore=shutil.ignore_patterns("seed=*", "wandb"))
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    with (tmp_path / "made" / "report.html").open("a") as page:
        page.write(SECRET)
    told = describe_study(tmp_path / "made", TrackerConfig(name="wandb"), "offline")
    assert told.page is None
    assert [file.name for file in told.files] == ["analysis.json", "report.md", "table.tex", "plan.json"]


@pytest.mark.parametrize("to", BACKENDS)
def test_the_second_time_nothing_is_sent_but_what_failed(sent: Sent, to: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in sent.folder.parent.rglob("*") if "wandb" in path.parts}
    became = {one.name: one.status for one in go(sent.folder, to=to)}
    there = {name for name, status in became.items() if status == "already sent"}
    assert there == {"baseline/seed=0", "batch_size=64/seed=0", "study"}
    assert became["batch_size=64/seed=1"] == "failed"
    assert {path: path.stat().st_mtime_ns for path in sent.folder.parent.rglob("*") if "wandb" in path.parts} == before


def test_a_run_that_was_made_anew_is_due_again(sent: Sent, tmp_path: Path) -> None:
    shutil.copytree(sent.folder, tmp_path / "made", ignore=shutil.ignore_patterns("wandb", "seed=1"))
    run = RunDir(tmp_path / "made" / "batch_size=64" / "seed=0")
    run.status.write_text(run.status.read_text().replace("trained for", "trained again for"))
    became = {one.name: one.status for one in go(tmp_path / "made", to="tensorboard", workers=2)}
    assert became["batch_size=64/seed=0"] == "sent"
    assert became["baseline/seed=0"] == "already sent"


def test_ids_are_the_same_wherever_a_run_lies_and_differ_between_runs(sent: Sent, tmp_path: Path) -> None:
    shutil.copytree(sent.folder, tmp_path / "made", ignore=shutil.ignore_patterns("wandb"))
    here = [describe_run(run, "offline").id for run in sent.runs if run.path.name == "seed=0"]
    there = [describe_run(run, "offline").id for run in StudyDir(tmp_path / "made").runs() if run.path.name == "seed=0"]
    assert here == there
    assert len(set(here)) == len(here) == 2

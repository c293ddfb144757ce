"""What `ablate sync` refuses before anything is sent, and how its lines and its exit code read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate import cli
from ablate.config.schema import TrackerConfig
from ablate.errors import ConfigError, RecordError, StudyError
from ablate.serialization import write_json
from ablate.tracking.describe import describe_study
from ablate.tracking.follower import command
from ablate.tracking.sync import SyncOptions, sync
from tests.tracking.made_up import begin, config, finish, train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a study with one run that has ended."""
    run = begin(tmp_path, config(name="none"))
    train(run)
    finish(run)
    write_json(run.manifest, {"arm": "batch_size=64", "seed": 2})
    return run.path.parents[1]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"expected a study directory, got .* without runs"):
        list(sync(tmp_path, SyncOptions(to="wandb")))


@pytest.mark.parametrize(
    ("asked", "problem", "fix"),
    [
        ({}, "was run without a tracker, so --to is required", "--to wandb"),
        ({"to": "wnadb"}, "expected wandb, tensorboard, mlflow, got 'wnadb'; did you mean 'wandb'?", "--to wandb"),
        ({"to": "wandb+"}, "expected wandb, tensorboard, mlflow, got ''", "--to wandb"),
        ({"to": "wandb", "mode": "online"}, "not logged in to W&B", "wandb login"),
        ({"to": "mlflow", "uri": "https://me:secret@host"}, "holds a user and a password", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_what_cannot_be_sent_is_refused(folder: Path, asked: dict[str, str], problem: str, fix: str) -> None:
    with pytest.raises(ConfigError) as error:
        list(sync(folder, SyncOptions(**asked)))
    assert problem in error.value.problem
    assert fix in (error.value.fix or "")


def test_a_package_that_is_missing_is_refused_with_what_to_type(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.tracking.backends.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match="MLflow requires the package mlflow, which is not installed") as error:
        list(sync(folder, SyncOptions(to="mlflow")))
    assert error.value.fix == "pip install 'torch-ablate[mlflow]'"


def test_an_analysis_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "analysis.json").write_text("{}")
    with pytest.raises(RecordError, match="cannot be read"):
        describe_study(tmp_path, TrackerConfig(name="wandb"), "offline")


@pytest.mark.parametrize("to", ["[tensorboard]", "tensorboard+mlflow", "[tensorboard, mlflow]"])
def test_several_trackers_are_named_as_in_a_study(folder: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ablate.tracking.sync._send", lambda what, path, *, name, tracker, options: (name, tracker.name)
    )
    sent = list(sync(folder, SyncOptions(to=to)))
    names = to.strip("[]").replace(", ", "+")
    assert sent == [(name, names) for name in names.split("+")]


def test_a_module_of_the_working_directory_does_not_shadow_a_library(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yaml", "secrets", "tensorboard"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the study was imported')")
    monkeypatch.chdir(folder)
    assert [result.status for result in sync(folder, SyncOptions(to="tensorboard"))] == ["sent"]


def test_the_address_of_a_tracker_is_not_on_the_command_line(folder: Path) -> None:
    tracker = TrackerConfig(name="mlflow", uri="https://lab/?token=hunter2")
    assert "hunter2" not in " ".join(command("study", folder, "mlflow", "online", tracker, parent=0)["args"])


def test_lines_and_exit_code_say_what_became_of_each_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["sync", str(folder), "--to", "tensorboard", "--workers", "2"]
    assert cli.main(typed) == 0
    assert capsys.readouterr().out == "sent         tensorboard batch_size=64/seed=2: 7 rows\n1 sent\n"
    assert cli.main(typed) == 0
    assert capsys.readouterr().out == "already sent tensorboard batch_size=64/seed=2\n1 already sent\n"
    (folder / "batch_size=64" / "seed=2" / "config.yaml").write_text("nonsense")
    assert cli.main([*typed, "--force"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("failed       tensorboard batch_size=64/seed=2: ")
    assert out.endswith("1 failed\n")
    assert cli.main(["sync", str(folder), "--to", "tensorborad"]) == 2
    assert "did you mean 'tensorboard'?" in capsys.readouterr().err

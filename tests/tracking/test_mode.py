"""When a tracker is on, and the one line when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablate import tracking as track
from ablate.config.schema import TrackerConfig
from ablate.errors import ConfigError
from ablate.planning.compose import with_open_key
from ablate.tracking.backends import mode_of
from ablate.tracking.mlflow import store_uri
from tests.tracking.made_up import begin, config


def wandb(mode: str) -> TrackerConfig:
    return TrackerConfig(name="wandb", mode=mode)


def test_not_logged_in_is_off_and_says_how_to_turn_it_on() -> None:
    assert mode_of("wandb", wandb("auto")) is None
    line = track.notice(wandb("auto"))
    assert line is not None
    assert "\n" not in line
    for part in ("not logged in", "wandb login", "WANDB_API_KEY", "tracker.mode=offline"):
        assert part in line


def test_the_run_says_it_once_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = config(mode="auto")
    run = begin(tmp_path, asked)
    assert track.start(run, asked) is None
    assert capsys.readouterr().out.count("W&B is off") == 1
    assert not (run.path / track.LOG).exists()


@pytest.mark.parametrize("tracker", [TrackerConfig(), wandb("off")])
def test_turned_off_on_purpose_is_silent(tracker: TrackerConfig) -> None:
    assert mode_of("wandb", tracker) is None
    assert track.notice(tracker) is None


def test_a_key_in_the_environment_is_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert mode_of("wandb", wandb("auto")) == "online"
    assert track.notice(wandb("auto")) is None


def test_netrc_is_a_login_for_its_own_server_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine wandb.example.org login user password " + "k" * 40 + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert mode_of("wandb", wandb("auto")) is None
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert mode_of("wandb", wandb("auto")) == "online"


def test_the_settings_file_of_wandb_is_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("[default]\napi_key = " + "k" * 40 + "\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    assert mode_of("wandb", wandb("auto")) == "online"


@pytest.mark.parametrize("text", ["not an ini file", "machine only"])
def test_broken_credential_files_mean_not_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    for name in ("settings", "netrc"):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert mode_of("wandb", wandb("auto")) is None


@pytest.mark.parametrize(("asked", "mode"), [("offline", "offline"), ("dryrun", "offline"), ("disabled", None)])
def test_the_environment_of_wandb_decides_in_auto_mode(
    monkeypatch: pytest.MonkeyPatch, asked: str, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", asked)
    assert mode_of("wandb", wandb("auto")) == mode
    assert mode_of("wandb", wandb("online")) == "online"
    assert mode_of("wandb", wandb("offline")) == "offline"


def test_disabled_by_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "WANDB_MODE=disabled" in (track.notice(wandb("auto")) or "")


def test_the_run_never_imports_a_tracker() -> None:
    code = (
        "import sys; import ablate.tracking.follower, ablate.tracking.sync\n"
        "import ablate.tracking.wandb, ablate.tracking.tensorboard, ablate.tracking.mlflow\n"
        "print([name for name in ('wandb', 'tensorboard', 'mlflow', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_only_wandb_needs_a_login(name: str) -> None:
    assert track.notice(TrackerConfig(name=name)) is None
    assert mode_of(name, TrackerConfig(name=name)) == "online"
    assert mode_of(name, TrackerConfig(name=name, mode="offline")) == "offline"
    assert mode_of(name, TrackerConfig(name=name, mode="off")) is None


@pytest.mark.parametrize(
    ("name", "what_to_type"),
    [
        ("wandb", "pip install wandb"),
        ("tensorboard", "pip install 'torch-ablate[tensorboard]'"),
        ("mlflow", "pip install 'torch-ablate[mlflow]'"),
    ],
)
def test_a_package_that_is_missing_is_one_line_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, what_to_type: str
) -> None:
    monkeypatch.setattr("ablate.tracking.backends.find_spec", lambda package: None)
    asked = config(name=name)
    assert track.start(begin(tmp_path, asked), asked) is None
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert f"is not installed; {what_to_type}" in line


def test_of_two_trackers_each_says_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.tracking.backends.find_spec", lambda package: None if package == "mlflow" else package)
    said = track.notice(TrackerConfig(name="wandb+mlflow")) or ""
    assert [line.partition(" is off")[0] for line in said.splitlines()] == ["W&B", "MLflow"]


@pytest.mark.parametrize(
    ("typed", "problem", "fix"),
    [
        ({"name": "wnadb"}, "tracker.name='wnadb' is not one of none, wandb, tensorboard, mlflow", "tracker.name="),
        ({"name": "wandb+none"}, "each tracker once", "tracker.name=wandb"),
        ({"name": "mlflow+wandb+mlflow"}, "each tracker once", "tracker.name=mlflow+wandb"),
        ({"x_axis": "sample"}, "tracker.x_axis='sample' is not one of", "tracker.x_axis=samples"),
        ({"name": "wandb+mlflow", "x_axis": "epoch"}, "mlflow has whole numbers there", "tracker.x_axis=samples"),
        ({"uri": "https://me:secret@host/x"}, "holds a user and a password", "MLFLOW_TRACKING_USERNAME"),
    ],
)
def test_nonsense_is_refused_with_what_to_type(typed: dict[str, str], problem: str, fix: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrackerConfig(**typed)
    assert problem in error.value.problem
    assert fix in (error.value.fix or "")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("typed", ["tracker=[wandb,mlflow]", "tracker=[wandb, mlflow]", "tracker.name=wandb+mlflow"])
def test_several_trackers_are_one_name(typed: str) -> None:
    """Of several files of a group Hydra lets the last one win."""
    assert with_open_key(typed) == "tracker.name=wandb+mlflow"
    assert TrackerConfig(name="wandb+mlflow").names == ("wandb", "mlflow")
    assert TrackerConfig().names == ()


def test_without_a_server_mlflow_has_files_beside_the_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = (tmp_path / "mlruns").as_uri()
    assert store_uri(TrackerConfig(name="mlflow"), "online", tmp_path) == files
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other")
    assert store_uri(TrackerConfig(name="mlflow"), "online", tmp_path) == "http://other"
    assert store_uri(TrackerConfig(name="mlflow", uri="http://lab"), "online", tmp_path) == "http://lab"
    assert store_uri(TrackerConfig(name="mlflow", uri="http://lab"), "offline", tmp_path) == files

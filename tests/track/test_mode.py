"""When W&B is on, and the one line when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ablate.config import TrackerConfig
from ablate.study import track
from tests.track.made_up import begin, config


def wandb(mode: str) -> TrackerConfig:
    return TrackerConfig(name="wandb", mode=mode)


def test_not_logged_in_is_off_and_says_how_to_turn_it_on() -> None:
    assert track.wandb_mode(wandb("auto")) is None
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
    assert track.wandb_mode(tracker) is None
    assert track.notice(tracker) is None


def test_a_key_in_the_environment_is_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert track.wandb_mode(wandb("auto")) == "online"
    assert track.notice(wandb("auto")) is None


def test_netrc_is_a_login_for_its_own_server_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine wandb.example.org login user password " + "k" * 40 + "\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert track.wandb_mode(wandb("auto")) is None
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert track.wandb_mode(wandb("auto")) == "online"


def test_the_settings_file_of_wandb_is_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("[default]\napi_key = " + "k" * 40 + "\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    assert track.wandb_mode(wandb("auto")) == "online"


@pytest.mark.parametrize("text", ["not an ini file", "machine only"])
def test_broken_credential_files_mean_not_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    for name in ("settings", "netrc"):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert track.wandb_mode(wandb("auto")) is None


@pytest.mark.parametrize(("asked", "mode"), [("offline", "offline"), ("dryrun", "offline"), ("disabled", None)])
def test_the_environment_of_wandb_decides_in_auto_mode(
    monkeypatch: pytest.MonkeyPatch, asked: str, mode: str | None
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", asked)
    assert track.wandb_mode(wandb("auto")) == mode
    assert track.wandb_mode(wandb("online")) == "online"
    assert track.wandb_mode(wandb("offline")) == "offline"


def test_disabled_by_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "WANDB_MODE=disabled" in (track.notice(wandb("auto")) or "")


def test_the_run_never_imports_wandb() -> None:
    code = "import sys; import ablate.study.track, ablate.study.follow; print('wandb' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

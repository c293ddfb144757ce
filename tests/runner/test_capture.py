"""What a run prints is in its log, and secrets of the environment are nowhere."""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, write_value
from ablate.redact import Hider, redact, secrets
from ablate.runner.log_capture import captured
from ablate.serialization import write_json

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret but the planted one."""
    for name in list(os.environ):
        if any(part in name.upper() for part in ("KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.mark.parametrize(
    "name",
    [
        "WANDB_API_KEY",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "PGPASSWORD",
        "DB_PASSWD",
        "MY_CREDENTIALS",
        "gh_token",
        "DEPLOY_KEYS",
    ],
)
def test_names_that_look_secret(name: str, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct-horse")
    assert redact("it is correct-horse, is it?") == "it is ***, is it?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "parallelism"), ("HF_TOKEN_PATH", "/root/token"), ("KEYBOARD", "qwertzuiop"),
        ("PWD", "/home/somebody"), ("OLDPWD", "/home/somebody"), ("API_KEY", "short"),
    ],
)  # fmt: skip
def test_names_and_values_that_do_not(name: str, value: str, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert redact(f"it is {value}") == f"it is {value}"


def test_a_secret_is_found_as_json_and_as_html_spell_it(
    tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", 'ümläut "quoted" \\ & more')
    assert len(secrets()) == 2
    write_json(tmp_path / "x.json", {"said": secrets()}, hide=True)
    assert json.loads((tmp_path / "x.json").read_text()) == {"said": ["***", "***"]}
    assert redact("<p>ümläut &quot;quoted&quot; \\ &amp; more</p>") == "<p>***</p>"


def test_an_outcome_does_not_hold_one(tmp_path: Path, alone: None) -> None:
    write_value(RunDir(tmp_path), RunStatus(status="failed", message=f"RuntimeError: the key {KEY} was refused"))
    assert "the key *** was refused" in (tmp_path / "status.json").read_text()


@pytest.mark.parametrize("size", [1, 2, 7, 39, 1000])
def test_a_secret_that_comes_in_pieces_is_found(size: int) -> None:
    hider, text = Hider([KEY, "0123456789abxxxx"]), f"before {KEY}{KEY[:20]} after 0123456789abxxxx {KEY[:12]}".encode()
    pieces = [text[k : k + size] for k in range(0, len(text), size)]
    assert b"".join(hider.pass_on(piece) for piece in [*pieces, b""]).decode() == (
        f"before ***{KEY[:20]} after *** {KEY[:12]}"
    )


def test_nothing_else_is_kept_waiting() -> None:
    hider = Hider([KEY])
    assert hider.pass_on(b"step 1, and 012") == b"step 1, and "
    assert hider.pass_on(b"!") == b"012!"


@pytest.mark.parametrize("planted", [True, False])
def test_the_log_has_what_python_and_children_print(
    tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    if not planted:
        monkeypatch.delenv("WANDB_API_KEY")
    log = tmp_path / "log.txt"
    log.write_text("of an earlier try\n")
    with captured(log):
        os.write(2, f"from C: {KEY}\n".encode())
        subprocess.run([sys.executable, "-c", f"print('from a child: {KEY}')"], check=True)
    os.write(1, b"")
    shown = "***" if planted else KEY
    assert log.read_text() == f"of an earlier try\nfrom C: {shown}\nfrom a child: {shown}\n"


def test_stacks_land_in_the_log_past_the_pipe(tmp_path: Path, alone: None) -> None:
    log = tmp_path / "log.txt"
    with captured(log) as file:
        faulthandler.dump_traceback(file)
        assert "test_stacks_land_in_the_log_past_the_pipe" in log.read_text()

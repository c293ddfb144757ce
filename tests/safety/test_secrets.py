"""A secret is in nothing that leaves the process, however it is spelt: 20 spellings, in every artefact and on every screen."""

from __future__ import annotations

import base64
import html
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import yaml

from ablate import cli
from ablate.redact import ARGUMENT_SECRETS, Hider, hide_secrets_of, redact, secrets, shown, visible
from ablate.report.latex_text import tex
from ablate.report.markdown import _md
from tests.synthetic import write_study

SECRET = "p@ss/wörd 'one' \"two\" <3> \\4 _5_ {6} 100% #7"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"

SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": repr,
    "repr twice": lambda text: repr(repr(text)),
    "ascii": ascii,
    "json": json.dumps,
    "json as it is": lambda text: json.dumps(text, ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps(text)),
    "html": html.escape,
    "html by number": lambda text: "".join(one if one.isalnum() and one.isascii() else f"&#{ord(one)};" for one in text),
    "html by hex": lambda text: "".join(one if one.isalnum() and one.isascii() else f"&#x{ord(one):x};" for one in text),
    "address": quote,
    "address, all": lambda text: quote(text, safe=""),
    "address, small": lambda text: quote(text, safe="").lower(),
    "address twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "shell": shlex.quote,
    "yaml": lambda text: yaml.safe_dump({"x": text}),
    "yaml, quoted": lambda text: yaml.safe_dump({"x": text}, default_style='"'),
    "yaml, folded": lambda text: yaml.safe_dump({"x": f"before it {text}"}, width=20),
    "latex": tex,
    "markdown": _md,
    "unicode": lambda text: text.encode("unicode_escape").decode(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 with a name": lambda text: base64.b64encode(f"me:{text}".encode()).decode(),
}  # fmt: skip
PARTS = ("p@ss", "wörd", "\\4", "_5_", "{6}", "100%", "MIIEvQIBADANBgkq")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MY_PASSWORD", ARGUMENT_SECRETS):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("how", SPELLINGS)
def test_every_spelling_is_hidden(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", SECRET.lower())
    spelt = SPELLINGS[how](SECRET.lower())
    said = redact(f"it is {spelt}, is it?")
    assert "***" in said
    assert not [part for part in ("ss", "rd", "one", "two", "100") if part in said], said
    hider = Hider(secrets())
    data = f"it is {spelt}, is it?".encode()
    assert (
        b"".join([*(hider.pass_on(data[k : k + 3]) for k in range(0, len(data), 3)), hider.pass_on(b"")]).decode()
        == said
    )


@pytest.mark.parametrize("how", ["plain", "json", "repr", "address, all"])
def test_each_line_of_a_key_is_a_secret(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_KEY", KEY)
    assert "MIIE" not in redact(SPELLINGS[how](KEY))
    assert redact("line hkiG9w0BAQEFAASC of it") == "line *** of it"


@pytest.mark.parametrize(
    ("name", "value", "hidden"),
    [
        ("GH_PAT", "github_pat_11ABC", "github_pat_11ABC"),
        ("SENTRY_DSN", "https://0a1b2c3d@sentry.io/1", "https://0a1b2c3d@sentry.io/1"),
        ("DATABASE_URL", "postgres://me:hunter2hunter2@db/x", "hunter2hunter2"),
        ("DATABASE_URL", "postgres://me:hunter%2F2hunter@db/x", "hunter/2hunter"),
        ("STORE", "Endpoint=https;AccountKey=abc+def/ghi==;Suffix=x", "abc+def/ghi=="),
        ("SQL_CONNECTION_STRING", "Server=db;Uid=me;Pwd=correct-horse", "correct-horse"),
        ("TRACKER", "https://host/?token=0123456789ab", "0123456789ab"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/T0/B0/xyz", "https://hooks.slack.com/T0/B0/xyz"),
    ],
)  # fmt: skip
def test_secrets_in_addresses_and_connection_strings(
    name: str, value: str, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert redact(f"it is {hidden}!") == "it is ***!"


def test_an_address_that_was_typed_keeps_host_and_path_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ARGUMENT_SECRETS, "")
    assert redact("at https://me:pw@host/x?a=1&api_key=short") == "at https://***@host/x?a=1&api_key=***"
    hide_secrets_of(["tracker.uri=https://me:correct-horse@host/?token=0123456789ab", "study.seeds=2"])
    assert redact("correct-horse and 0123456789ab") == "*** and ***"


def test_what_is_not_seen_is_shown_by_its_code() -> None:
    assert visible("a\x1b[31mb\x9bc\u202ed\u200be\r\ttab\nline") == "a\\x1b[31mb\\x9bc\\u202ed\\u200be\\r\ttab\nline"
    assert visible("ümläut → ✓ 模型") == "ümläut → ✓ 模型"
    assert shown("\ud800") == "\\ud800"


def test_no_artefact_and_no_screen_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "Zq7_x-9/k'Lm\"4&<w>"
    monkeypatch.setenv("MY_PASSWORD", secret)
    folder = tmp_path / "study"
    write_study(folder, arms=("batch_size=64",), seeds=2)
    plan = json.loads((folder / "plan.json").read_text())
    plan["question"] = f"Why {secret}?"
    plan["command"] = f"ablate -m study.question='{secret}' tracker.uri=https://me:hunter2@host"
    plan["notes"] = [secret]
    (folder / "plan.json").write_text(json.dumps(plan))
    status = folder / "baseline/seed=0/status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"status": "failed", "message": secret}))
    typed = (folder / "plan.json", status)
    capsys.readouterr()
    for verb, *more in (
        ["report"], ["report", "--json"], ["table"], ["table", "--format", "latex"], ["table", "--format", "csv"], ["methods"],
        ["status"], ["status", "--json"], ["resample"], ["power"],
    ):  # fmt: skip
        cli.main([verb, str(folder), *more])
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert "Zq7" not in text, verb
            assert "hunter2" not in text, verb
    for file in folder.rglob("*"):
        if file.is_file() and file not in typed:
            assert b"Zq7" not in file.read_bytes(), file
            assert b"hunter2" not in file.read_bytes(), file

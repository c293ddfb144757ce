"""What a shell offers where the cursor is; the bash script in a real bash, with a real tab key."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.cli import VERBS
from ablate.cli.completion import SCRIPTS, candidates
from ablate.config import conf_dir
from ablate.serialization import write_text


@pytest.fixture
def studies(here: Path) -> Path:
    """Two studies with a run each, a run by itself, and an archive."""
    for name in ("first", "second"):
        write_text(here / "runs" / name / "plan.json", "{}")
        write_text(here / "runs" / name / "batch_size=64" / "seed=0" / "manifest.json", "{}")
    write_text(here / "runs" / "single" / "baseline" / "seed=0" / "manifest.json", "{}")
    write_text(here / "bundle.tar", "")
    write_text(here / "notes.txt", "")
    return here


def offered(line: str) -> list[str]:
    return candidates(line, VERBS)


def test_every_verb_is_offered_first() -> None:
    assert set(VERBS) <= set(offered("ablate "))
    assert offered("ablate rep") == ["report"]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_options_come_from_the_verbs_own_help(verb: str) -> None:
    found = offered(f"ablate {verb} --")
    assert "--help" in found
    assert all(option.startswith("--") for option in found)


def test_json_is_offered_where_it_is_understood() -> None:
    assert "--json" in offered("ablate report runs/x --j")
    assert offered("ablate stop --j") == []


def test_axes_groups_and_keys_complete_one_behind_the_other() -> None:
    every = sorted(f"axis={file.stem}" for file in (conf_dir() / "axis").glob("*.yaml"))
    assert offered("ablate -m axis=") == every
    assert offered("ablate -m axis=batch_size,dropo") == ["axis=batch_size,dropout"]
    assert "axis=dropout,dropout" not in offered("ablate -m axis=dropout,")
    assert offered("ablate plan data.batch") == ["data.batch_size="]
    assert "model=minilm" in offered("ablate model=min")
    assert offered("ablate report axis=") == []


def test_folders_of_studies_and_of_runs(studies: Path) -> None:
    assert offered("ablate report ") == ["runs/first", "runs/second"]
    assert offered("ablate report runs/f") == ["runs/first"]
    assert offered("ablate compare runs/first/") == ["runs/first/batch_size=64/"]
    assert offered("ablate compare runs/first/batch_size=64/") == ["runs/first/batch_size=64/seed=0"]
    assert offered("ablate diff b") == ["bundle.tar"]
    assert offered("ablate completion ") == ["bash", "fish", "zsh"]


@pytest.mark.parametrize(
    "line", ["", "ablate 'unclosed", "ablate nonsense /no/such/", "ablate report /proc/1/fd/", "ablate \x00"]
)
def test_nonsense_offers_nothing_and_breaks_nothing(line: str) -> None:
    assert isinstance(offered(line), list)


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_each_shell_gets_its_script_and_asks_through_words(ablate, shell: str) -> None:
    code, out, _ = ablate("completion", shell)
    assert code == 0
    assert out == SCRIPTS[shell]
    assert "ablate completion --words" in out


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_a_shell_that_is_installed_takes_its_script(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[shell], encoding="utf-8")
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell_and_none_are_refused(ablate) -> None:
    assert ablate("completion", "tcsh")[0] == 2
    assert ablate("completion")[0] == 2


def tabbed(bash: int, typed: str, wanted: str) -> str:
    """What the terminal shows after these keys; waits until `wanted` is there."""
    os.write(bash, typed.encode())
    shown, end = "", time.monotonic() + 20
    while wanted not in shown and time.monotonic() < end:
        if select.select([bash], [], [], 0.2)[0]:
            shown += os.read(bash, 4096).decode(errors="replace")
    return shown


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_tab_key_completes_in_a_real_bash(studies: Path, tmp_path: Path, repo: Path) -> None:
    program = tmp_path / "bin" / "ablate"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ablate.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (studies / "rc").write_text('PS1="$ "\neval "$(ablate completion bash)"\necho ready\n', encoding="utf-8")
    kept = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(repo),
        "TERM": "dumb",
        "HOME": str(studies),
    }
    process, bash = pty.fork()
    if process == 0:
        os.chdir(studies)
        os.execvpe("bash", ["bash", "--noprofile", "--rcfile", "rc", "-i"], kept)
    try:
        assert "ready" in tabbed(bash, "", "ready")
        assert "ablate report runs/first " in tabbed(bash, "ablate repor\truns/f\t", "runs/first ")
        assert "axis=batch_size,dropout " in tabbed(bash, "\x15ablate -m axis=batch_size,dropo\t", "dropout ")
        assert "data.batch_size=" in tabbed(bash, "\x15ablate -m data.batch\t", "batch_size=")
        assert "seed=0 " in tabbed(bash, "\x15ablate compare runs/first/b\t\t", "seed=0 ")
    finally:
        os.write(bash, b"\x15exit\n")
        os.waitpid(process, 0)
        os.close(bash)

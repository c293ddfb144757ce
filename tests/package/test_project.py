"""The project's own files agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest


def make(repo: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As typed in a shell, also where these tests were themselves started by make."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=30, env=plain)


@pytest.fixture
def project(repo: Path) -> dict[str, Any]:
    return tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def pins(repo: Path) -> dict[str, str]:
    lines = (repo / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_direct_dependency_is_pinned(project: dict[str, Any], pins: dict[str, str]) -> None:
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[<>=]", one)[0] for one in wanted}
    assert names == set(pins)


def test_the_demo_packages_have_one_version(project: dict[str, Any], pins: dict[str, str]) -> None:
    for one in project["optional-dependencies"]["demo"]:
        name, _, version = one.partition("==")
        assert pins[name] == version


def test_make_help_lists_every_target(repo: Path) -> None:
    done = make(repo, "help")
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  (\S+)", done.stdout, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted([*phony.split(), "ablate-<axis>"])


@pytest.mark.parametrize(("target", "command"), [
    ("study", "ablate -m study=reference"),
    ("ablate-batch_size", "ablate -m axis=batch_size"),
    ("axes", "ablate axes"),
])  # fmt: skip
def test_a_target_installs_first_and_runs_its_command_last(
    repo: Path, tmp_path: Path, target: str, command: str
) -> None:
    done = make(repo, "--dry-run", f"VENV={tmp_path}/venv", target)
    lines = done.stdout.splitlines()
    assert any("--constraint constraints.txt --editable ." in line for line in lines)
    assert lines[-1].rstrip().endswith(command)


def test_make_says_which_python_it_needs(repo: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\ncase $1 in --version) echo Python 3.9.2;; *) exit 1;; esac\n")
    old.chmod(0o755)
    done = make(repo, f"PYTHON={old}", f"VENV={tmp_path}/venv", "study")
    assert done.returncode == 2
    assert "Python 3.11 or later is needed" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not (tmp_path / "venv").exists()

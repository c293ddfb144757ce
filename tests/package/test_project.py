"""The project's own files agree with each other."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml


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
    ("ablate-batch_size", 'ablate -m axis=batch_size "$@"'),
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


def test_citation_and_changelog_name_the_version(repo: Path, project: dict[str, Any]) -> None:
    cited = yaml.safe_load((repo / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors", "type"} <= set(cited)
    changes = (repo / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[([^\]]+)\]", changes, re.MULTILINE)[0] == project["version"]


def test_a_commit_is_checked_by_the_tools_of_make_lint_and_nothing_is_fetched(repo: Path) -> None:
    hooks = yaml.safe_load((repo / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [one["repo"] for one in hooks] == ["local"]
    run = {" ".join(hook["entry"].removeprefix(".venv/bin/").split()[:2]) for hook in hooks[0]["hooks"]}
    text = (repo / "Makefile").read_text(encoding="utf-8")
    linted = re.findall(r"^\t\$\(BIN\)/(.*)$", text[text.index("\nlint:") : text.index("\ndocs:")], re.MULTILINE)
    assert run == {" ".join(line.split()[:2]) for line in linted}


def test_contributing_names_only_targets_and_files_that_exist(repo: Path) -> None:
    text = (repo / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    assert [
        path for path in re.findall(r"`((?:conf|ablate|docs|tests)/[\w./-]+)`", text) if not (repo / path).exists()
    ] == []
    assert [path for path in re.findall(r"python (docs/\w+\.py)", text) if not (repo / path).exists()] == []

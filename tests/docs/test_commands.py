"""What the docs tell people to type: it exists, and that of README and tutorial really runs."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ablate.cli import VERBS
from ablate.config.schema import Config

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
WHOLE = [page for page in PAGES if not {"decisions", "reference", "LOG.md"} & set(page.parts)]
GROUPS = {field.name: getattr(Config(), field.name) for field in dataclasses.fields(Config)}


def typed(script: Any, page: Path) -> list[str]:
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in script("make_tutorial").lines(block)]
    return [re.split(r" (?:[|>]|&&) ", line)[0] for line in lines if re.match(r"ablate( |$)", line)]


@pytest.mark.parametrize("page", WHOLE, ids=lambda page: page.relative_to(REPO).as_posix())
def test_every_command_on_a_page_names_what_exists(script: Any, page: Path) -> None:
    wrong = [f"{line}: {found}" for line in typed(script, page) for found in _wrong(shlex.split(line)[1:])]
    assert wrong == []


def _wrong(words: list[str]) -> list[str]:
    if words and re.fullmatch(r"[a-z]+", words[0]):
        if words[0] not in VERBS:
            return [f"no verb {words[0]}"]
        flags = [word.partition("=")[0] for word in words if word.startswith("--")]
        about = (REPO / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
        section = re.split(r"^## ablate ", about, flags=re.MULTILINE)
        (own,) = (part for part in section if part.startswith(f"{words[0]}\n"))
        wrong = [flag for flag in flags if flag not in own]
        if words[0] in ("import", "retry"):  # their words are arms and sources, or runs
            return wrong
        free = [word for before, word in pairwise(words) if not before.startswith("--")]
        words = [word for text in free for word in shlex.split(text)]
        return wrong + [word for word in words if "=" in word and not word.startswith("-") and _unknown(word)]
    return [word for word in words if "=" in word and not word.startswith("-") and _unknown(word)]


def _unknown(word: str) -> bool:
    key, _, value = word.partition("=")
    if "/" in key or key.startswith("hydra"):  # a run's folder, or Hydra's own
        return False
    group, _, rest = key.partition(".")
    if not rest:
        if key in ("seed", "arm", "rerun"):
            return False
        folder = REPO / "conf" / group
        names = [name for name in value.split(",") if re.fullmatch(r"\w+", name)]
        return not folder.is_dir() or any(
            not (folder / f"{name}.yaml").exists() for name in names if not name.isupper()
        )
    if group not in GROUPS or not dataclasses.is_dataclass(GROUPS[group]):
        return True
    return rest.partition(".")[0] not in {field.name for field in dataclasses.fields(GROUPS[group])}


@pytest.mark.parametrize(
    "line", ["reprot runs/x", "-m axis=bach_size", "-m data.bach_size=8,64", "report runs/x --jsn", "-m modell=bert"]
)
def test_a_command_that_names_what_does_not_exist_is_found(line: str) -> None:
    assert _wrong(shlex.split(line))


def test_every_command_of_readme_and_tutorial_is_run_or_it_is_said_why_not(script: Any) -> None:
    made = script("run_commands").commands()
    assert len([one for one in made if one.run and " --help" not in one.run]) > 25
    assert [one.text for one in made if not one.run and not one.why] == []
    composed = [one.text for one in made if "--cfg job" in one.run]
    assert all(re.search(r"google-bert|reference_imdb", one) for one in composed), "only what needs a hub is not run"
    verbs = {shlex.split(one.run)[1] for one in made if one.run.startswith("ablate ")}
    assert {verb for verb in verbs if re.fullmatch(r"[a-z]+", verb)} <= set(VERBS)


def test_the_readme_names_every_verb() -> None:
    text = (REPO / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| command |") : text.index("Verbs are plain words")]
    assert [verb for verb in VERBS if not re.search(rf"`(ablate )?{verb}\b", table)] == []


@pytest.mark.parametrize(
    ("line", "small"),
    [
        ("ablate -m axis=a study.seeds=5", "ablate -m axis=a study.seeds=2 debug=quick"),
        ("ablate optim.lr=1", "ablate optim.lr=1 debug=quick study.seeds=2"),
        ("ablate plan train.budget='9 steps'", "ablate plan train.budget='256 samples' debug=quick study.seeds=2"),
        ("ablate report runs/x", "ablate report runs/x"),
    ],
)
def test_what_trains_becomes_small(script: Any, line: str, small: str) -> None:
    assert script("run_commands").small(line) == small


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_command_of_readme_and_tutorial_runs_from_an_empty_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(REPO / "docs" / "run_commands.py"), "--in", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

"""Python on the pages compiles, names what exists, and where it stands by itself it runs; files are made and then used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ablate

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
RUN_WHOLE = ("explain/random_streams.md", "how-to/custom_data.md")
"""Pages whose Python stands by itself, and needs no model."""


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p) and p.name != "api.md"], ids=lambda p: p.stem)
def test_python_compiles_and_imports_what_ablate_has(page: Path) -> None:
    for block in blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "ablate":
                assert [one.name for one in node.names if one.name not in ablate.__all__] == []


@pytest.mark.parametrize("page", RUN_WHOLE)
def test_python_that_stands_by_itself_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks(REPO / "docs" / page)), {})


@pytest.mark.slow
@pytest.mark.parametrize("page", ["custom_model", "custom_data"])
def test_the_commands_of_a_page_work_on_what_its_python_made(script: Any, page: str, tmp_path: Path) -> None:
    text = (REPO / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    exec_all = "\n".join(blocks(REPO / "docs" / "how-to" / f"{page}.md"))
    (tmp_path / "page.py").write_text(exec_all, encoding="utf-8")
    subprocess.run([sys.executable, "page.py"], cwd=tmp_path, check=True, capture_output=True)
    shell = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    own = [line for line in shell if "model.name=./my_model" in line or "=800" in line]
    assert len(own) >= 2
    for line in own:
        (typed,) = script("make_tutorial").lines(line)
        small = f"{typed.replace('ablate -m', 'ablate plan')} eval.max_examples=16 train.budget='16 samples'"
        small = re.sub(r"train\.budget='256 samples' (?=.*train\.budget)", "", small)
        done = subprocess.run(
            small, shell=True, cwd=tmp_path, capture_output=True, text=True, env=script("make_tutorial").environment()
        )
        assert done.returncode == (2 if "# refused" in line else 0), done.stdout + done.stderr

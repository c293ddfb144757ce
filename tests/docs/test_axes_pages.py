"""Every axis has a page, generated from its file."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    spec = spec_from_file_location("make_axes", _repo() / "docs" / "make_axes.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


def _repo() -> Path:
    return Path(__file__).resolve().parents[2]


def test_the_pages_are_what_the_axis_files_say(made: dict[str, str]) -> None:
    found = {file.name: file.read_text(encoding="utf-8") for file in (_repo() / "docs" / "axes").glob("*.md")}
    assert found == made, "run: python docs/make_axes.py"


def test_every_axis_is_in_the_index_and_has_question_command_and_paper(made: dict[str, str]) -> None:
    names = [file.stem for file in (_repo() / "conf" / "axis").glob("*.yaml")]
    assert {f"{name}.md" for name in names} | {"index.md"} == set(made)
    for name in names:
        assert f"]({name}.md)" in made["index.md"]
        for part in (f"ablate -m axis={name}", "Must match", "Hypothesis", "Reference", "?**"):
            assert part in made[f"{name}.md"]

"""Folder names made from what was typed stay inside the study folder, are bounded, and are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ablate.records.layout import StudyDir, safe_name

ANY = st.text(alphabet=st.characters(exclude_categories=()), max_size=120)


@given(ANY)
@example("../../x")
@example("..")
@example(".")
@example("")
@example("x" * 5000)
@example("a\0b")
@example("a\nb\r\n")
@example("/etc/passwd")
@example("batch_size=64\u202e")
@example("\ud800")
@example("plan.json")
def test_any_text_becomes_one_bounded_visible_part_of_a_path(typed: str) -> None:
    name = safe_name(typed)
    assert 1 <= len(name) <= 80
    assert Path("runs", name).parent == Path("runs")
    assert name not in (".", "..")
    assert not name.startswith(".")
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\\0\n :*?\"<>|'")
    assert safe_name(name) == name or name == typed
    inside = StudyDir(Path("/runs/study")).run(typed, 3).path
    assert inside.parent.parent == Path("/runs/study")


@given(ANY, ANY)
@example("a/b", "a_b")
@example("a/b", "a:b")
@example("x" * 5000, "x" * 5001)
@example("ä", "ö")
@example("", "_")
@example(".a", "a")
def test_distinct_texts_have_distinct_folders(one: str, other: str) -> None:
    made = {safe_name(one), safe_name(other)}
    assert len(made) == 2 or one == other or one in made or other in made


@given(st.lists(ANY, unique=True, min_size=2, max_size=8))
def test_a_name_that_is_fine_is_kept(texts: list[str]) -> None:
    for text in texts:
        fine = "".join(letter for letter in text if letter.isascii() and (letter.isalnum() or letter in "=,+-_"))[:80]
        if fine and fine not in ("figures", "contrasts"):
            assert safe_name(fine) == fine


@pytest.mark.parametrize("name", ["plan.json", "analysis.json", "report.html", "figures"])
def test_an_arm_cannot_take_the_place_of_a_file_of_the_study(name: str) -> None:
    assert safe_name(name) != name

"""The gallery: small records of whole studies, whose reports can be rebuilt byte for byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ablate import read_evals, read_trace
from ablate.analysis.analyse import write_analysis
from ablate.records.layout import RunDir, StudyDir
from ablate.serialization import read_json
from tests.synthetic import write_study

GALLERY = Path(__file__).resolve().parents[2] / "docs" / "gallery"
STUDIES = ("component_ablation", "factorial", "reference_case")
RECORD = {"config.yaml", "manifest.json", "fingerprint.json", "status.json", "trace.arrow", "evals.arrow"}


def files() -> list[Path]:
    return [path for path in GALLERY.rglob("*") if path.is_file()]


def test_the_gallery_is_small() -> None:
    assert sum(path.stat().st_size for path in files()) < 2_000_000


def test_it_holds_three_whole_studies_and_nothing_else(script: Any) -> None:
    assert tuple(study.name for study in script("make_gallery").studies()) == STUDIES
    for name in STUDIES:
        plan = read_json(StudyDir(GALLERY / name).plan)
        made = {(run["arm"], run["seed"]) for run in plan["runs"] if run.get("replay_of") is None}
        runs = list(StudyDir(GALLERY / name).runs())
        assert len(runs) >= 9
        assert {read_json(run.status)["status"] for run in runs} == {"finished"}
        for run in runs:
            assert {path.name for path in run.path.iterdir()} == RECORD
            manifest = read_json(run.manifest)
            assert (manifest["arm"], manifest["seed"]) in made
            steps = read_trace(run.trace)["step"]
            assert steps.tolist() == list(range(1, read_json(run.status)["step"] + 1)), "a row for every step"


def test_no_record_contains_a_path_of_a_machine() -> None:
    for path in files():
        assert not re.search(rb"/(home|root|work|tmp|Users)/", path.read_bytes()), path


@pytest.mark.parametrize("name", STUDIES)
def test_a_page_shows_the_command_and_links_to_the_whole_page(name: str) -> None:
    text = (GALLERY / f"{name}.md").read_text(encoding="utf-8")
    assert re.search(r"```bash\nablate -m ", text)
    assert f"({name}/report.html)" in text
    for part in ("**Question.**", "**Result.**", "**Limits.**"):
        assert part in text


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_table_of_a_page_is_what_the_terminal_prints(script: Any, name: str) -> None:
    text = (GALLERY / f"{name}.md").read_text(encoding="utf-8")
    assert text == script("make_gallery").with_tables(text, name), "run: python docs/make_gallery.py --tables"


@pytest.mark.slow
def test_reports_are_rebuilt_byte_for_byte(script: Any, tmp_path: Path) -> None:
    one, other = (script("make_gallery").build(tmp_path / name) for name in ("one", "other"))
    assert len(one) == len(STUDIES)
    for first, second in zip(one, other, strict=True):
        assert first.read_bytes() == second.read_bytes(), first


def test_a_copied_record_gives_the_same_analysis(script: Any, tmp_path: Path) -> None:
    whole, copy = tmp_path / "whole" / "s", tmp_path / "copy" / "s"
    write_study(whole, seeds=2)
    for run in StudyDir(whole).runs():
        (run.path / "log.txt").write_text("what it printed")
        run.checkpoint.mkdir()
    script("make_gallery").add(whole, copy)
    runs = list(StudyDir(copy).runs())
    assert len(runs) == len(list(StudyDir(whole).runs()))
    for run in runs:
        assert {path.name for path in run.path.iterdir()} <= RECORD
        same = RunDir(whole / run.path.relative_to(copy))
        assert read_json(run.fingerprint) == read_json(same.fingerprint)
        assert read_trace(run.trace).table.equals(read_trace(same.trace).table)
        assert read_evals(run.evals).table.equals(read_evals(same.evals).table)
    assert write_analysis(copy) == write_analysis(whole)

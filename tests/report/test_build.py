"""From a study folder to all four files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ablate.report import build_report, print_report
from ablate.serialization import read_json
from tests.report.test_terminal import PATHS
from tests.synthetic import write_study

FILES = ("analysis.json", "report.md", "table.tex", "table.csv", "methods.tex", "references.bib", "report.html")
STUDIES: dict[str, dict[str, Any]] = {
    "reference": {},
    "one seed": {"seeds": 1},
    "one arm": {"arms": ("max_grad_norm=10",)},
    "observation only": {"arms": ("eval_every=128 samples", "log_every=10 steps")},
    "contaminated": {"contaminated": "batch_size=64"},
    "no-op": {"no_op": "batch_size=64"},
    "broken": {"diverged": [("batch_size=64", 0)], "failed": [("placebo", 1)]},
    "unfinished": {"missing": [("baseline", 2)], "running": [("placebo", 2)]},
    "all failed": {"arms": ("placebo",), "seeds": 2, "failed": [("placebo", 0), ("placebo", 1)]},
    "no baseline": {"arms": ("placebo",), "seeds": 2, "diverged": [("baseline", 0), ("baseline", 1)]},
    "nothing yet": {"arms": ("placebo",), "seeds": 1, "missing": [("placebo", 0), ("baseline", 0)]},
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_kind_of_study_gets_its_report(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder, **STUDIES[name])
    analysis = build_report(folder)
    file = io.StringIO()
    print_report(analysis, folder, Console(file=file, width=80))
    assert {path.name for path in folder.iterdir() if path.is_file()} == {"plan.json", *FILES}
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    assert max(len(line) for line in lines if not line.startswith(PATHS)) <= 80
    sentences = [run.sentence for run in analysis.runs if run.status != "finished"]
    for sentence in sentences:
        assert " ".join(sentence.split()) in " ".join(file.getvalue().split())
        assert sentence in (folder / "report.html").read_text()


@pytest.mark.slow
def test_building_twice_gives_equal_bytes_and_analysis_json_says_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    analysis = build_report(folder)
    before = {name: (folder / name).read_bytes() for name in FILES}
    build_report(folder)
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert read_json(folder / "analysis.json")["conclusions"] == list(analysis.conclusions)


def test_a_manifest_that_cannot_be_read_costs_the_page_that_run_and_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    write_study(folder)
    (folder / "baseline" / "seed=1" / "manifest.json").write_text('{"torn')
    analysis = build_report(folder)
    page = (folder / "report.html").read_text()
    assert "baseline, seed 1 cannot be read" in " ".join(analysis.conclusions)
    assert "Reproduction" in page

"""The statistics page contains the calibration tables unchanged, and explains every label."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ablate.analysis import contrasts
from ablate.stats import verdicts as judge


def page(repo: Path) -> str:
    return (repo / "docs" / "explain" / "statistics.md").read_text(encoding="utf-8")


def test_the_calibration_table_is_current(repo: Path) -> None:
    made = (repo / "tests" / "calibration" / "table.md").read_text(encoding="utf-8").strip()
    found = re.search(r"<!-- calibration: begin -->\n(.*)\n<!-- calibration: end -->", page(repo), re.DOTALL)
    assert found
    assert found[1] == made, "python -m tests.calibration.table > tests/calibration/table.md, and copy it into the page"


def test_the_table_of_planted_causes_is_current(repo: Path) -> None:
    made = (repo / "tests" / "calibration" / "planted.md").read_text(encoding="utf-8").strip()
    found = re.search(r"<!-- planted: begin -->\n(.*)\n<!-- planted: end -->", page(repo), re.DOTALL)
    assert found
    assert found[1] == made, "python -m tests.calibration.planted_table > tests/calibration/planted.md, and copy it"


def test_the_text_quotes_the_figures_of_the_table(repo: Path) -> None:
    row = re.search(r"^\| 5 \| 4 \| 1\.5 \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", page(repo), re.MULTILINE)
    assert row
    flat = " ".join(page(repo).split())
    assert f"is detected in {row[1]}% of studies, and in {row[3]}% if all four have it" in flat


@pytest.mark.parametrize(
    "label",
    [
        judge.LOW_POWER,
        judge.BY_STEPS,
        contrasts.PLACEBO_DIFFERS,
        contrasts.COLLAPSED_RUNS,
        "MISSING SEEDS",
    ],
)
def test_every_label_is_explained(repo: Path, label: str) -> None:
    assert f"`{label}`" in page(repo)

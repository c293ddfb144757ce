"""Which chance makes runs differ, as it is shown: the table in a terminal, the section of the page, and a refusal."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ablate.analysis.analyse import analyse
from ablate.analysis.results import Analysis
from ablate.report.html import environment
from ablate.report.section import Section
from ablate.report.sections.answers import variance
from ablate.report.terminal import print_report, print_section
from ablate.report.view_model import make_view
from tests.analysis.test_variance_components import drawn, study
from tests.synthetic import write_study


def an_analysis(folder: Path, values: np.ndarray) -> Analysis:
    write_study(folder, arms=(), seeds=1)
    return replace(analyse(folder), variance=study(values))


def section_of(analysis: Analysis) -> Section:
    found = variance(make_view(analysis))
    assert found is not None
    return found


def shown(analysis: Analysis) -> str:
    text = io.StringIO()
    print_section(section_of(analysis), Console(file=text, width=80))
    return text.getvalue()


def on_page(analysis: Analysis) -> str:
    parts: Any = environment().get_template("parts.html").module
    return str(parts.section(section_of(analysis)))


def test_the_table_fits_80_columns_and_the_page_has_the_same_figures(tmp_path: Path) -> None:
    analysis = an_analysis(tmp_path / "v", 0.01 * drawn(np.random.default_rng(2), 6, 0.1, 3.0, 1.0))
    text = shown(analysis)
    assert max(map(len, text.splitlines())) <= 80
    (row,) = section_of(analysis).tables[0].texts()
    assert row[0] == "eval_loss"
    assert row[-1] == "order+dropout"
    assert all(cell in text for cell in row)
    page = on_page(analysis)
    assert all(cell in page for cell in row)
    assert "Average over order+dropout" in page


def test_a_refusal_has_no_table(tmp_path: Path) -> None:
    values = drawn(np.random.default_rng(2), 6, 1.0, 1.0, 1.0)
    values[1, 1] = np.nan
    analysis = an_analysis(tmp_path / "v", values)
    assert "35 of 36 runs have a value" in " ".join(shown(analysis).split())
    assert "<table" not in on_page(analysis)


def test_any_other_study_has_nothing_of_it(tmp_path: Path) -> None:
    write_study(tmp_path / "plain", arms=(), seeds=2)
    analysis = analyse(tmp_path / "plain")
    assert variance(make_view(analysis)) is None
    text = io.StringIO()
    print_report(analysis, tmp_path / "plain", Console(file=text, width=80))
    assert "Of the variance" not in text.getvalue()

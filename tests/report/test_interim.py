"""How a study that adds seeds looks: on the page, in a terminal, and in the tables of a paper."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ablate.analysis.analyse import analyse, analyse_interim
from ablate.design.designs import OneAtATime
from ablate.records.interim import write_interim
from ablate.records.layout import StudyDir
from ablate.report.build import build_report
from ablate.report.sections.checks import interim_analyses
from ablate.report.terminal import print_report
from ablate.report.view_model import make_view
from ablate.serialization import write_json
from tests.report.test_terminal import PATHS
from tests.synthetic import write_study

ARMS = ("batch_size=64", "learning_rate=0.0001")
EFFECTS = {"batch_size=64": 0.5, "learning_rate=0.0001": 0.0}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "top"
    plan = write_study(folder, arms=ARMS, seeds=4, effects=EFFECTS, smallest_effect=1e-4)
    plan = replace(plan, design=OneAtATime(interim_seeds=(3, 4), alpha_spending="pocock"))
    write_json(StudyDir(folder).plan, plan.to_json() | {"digest": plan.digest})
    return folder


def terminal(folder: Path, width: int = 80) -> str:
    text = io.StringIO()
    print_report(analyse(folder), folder, Console(file=text, width=width))
    return text.getvalue()


def test_before_the_first_look_there_is_no_table_of_effects(study: Path) -> None:
    text = " ".join(terminal(study).split())
    assert "No verdict yet: the first analysis is at 3 seeds" in text
    assert "hurts" not in text
    build_report(study)
    assert "not made yet" in (study / "report.html").read_text()


@pytest.mark.slow
def test_levels_are_those_of_the_looks_everywhere(study: Path) -> None:
    found = analyse_interim(study)
    write_interim(study, found)
    analysis = build_report(study)
    text = terminal(study)
    assert max(len(line) for line in text.splitlines() if not line.startswith(PATHS)) <= 80
    assert "STOPPED AT 3 SEEDS" in " ".join(text.split())
    shown = f"{100 * found['level']:.1f}% interval"
    for name in ("report.md", "report.html"):
        whole = (study / name).read_text()
        assert "95% interval" not in whole, name
        assert shown in whole, name
    assert "95" not in (study / "table.tex").read_text().partition("tabular")[2].partition("midrule")[0]
    section = interim_analyses(make_view(analysis))
    assert section is not None
    stopped = [row[2] for row in section.tables[0].texts()]
    assert stopped == ["batch_size=64: hurts", "not made yet"]


def test_a_plain_study_has_no_such_section(tmp_path: Path) -> None:
    write_study(tmp_path / "plain")
    assert interim_analyses(make_view(build_report(tmp_path / "plain"))) is None
    assert "95% interval" in (tmp_path / "plain" / "report.md").read_text()
    assert r"95\% simultaneous intervals" in (tmp_path / "plain" / "table.tex").read_text()

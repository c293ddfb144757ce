"""What goes through a mediator, in a terminal, on the page, in Markdown and for a program."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from ablate.analysis.results import Analysis
from ablate.design.designs import Mediation
from ablate.records.layout import StudyDir
from ablate.report import build_report, print_report
from ablate.report.headline import MEDIATION_VERDICTS
from ablate.report.json import print_shares_json
from ablate.report.section import Section
from ablate.report.sections.answers import mediation
from ablate.report.view_model import make_view
from ablate.serialization import built, read_json
from tests.analysis.test_mediation import BOTH, NOISE, NOISY, TREATED
from tests.report.test_terminal import PATHS
from tests.synthetic import write_mediation

LOOSE = built(Mediation, json.loads(json.dumps(asdict(BOTH)).replace("0.25", "0.6")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Batch 64 raises the eval loss by 0.12, with the noise of 8 as well; a limit of 0.6 clips too few of its steps."""
    found = tmp_path_factory.mktemp("studies") / "through"
    shifts = {TREATED: 0.12, NOISY: 0.12, f"{TREATED}+max_grad_norm=0.6": 0.12}
    write_mediation(found, LOOSE, shifts, noise=0.001)
    return found


@pytest.fixture(scope="module")
def analysis(folder: Path) -> Analysis:
    """What its report was made of; the files of the report are in the folder."""
    return build_report(folder)


def section_of(analysis: Analysis) -> Section:
    found = mediation(make_view(analysis))
    assert found is not None
    return found


def printed(analysis: Analysis, folder: Path, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    print_report(analysis, folder, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_the_answer_and_cuts_nothing(analysis: Analysis, folder: Path, width: int) -> None:
    text = printed(analysis, folder, width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(len(line) for line in lines if not line.startswith(PATHS)) <= width
    words = " ".join(text.split())
    assert "data.batch_size 8 → 64 raises eval loss from 0.5" in words
    assert "NOT HELD: " in words
    assert "none of it" in words
    assert words.index("raises eval loss") < words.index("none of it") < words.index("measured")
    assert "number of updates (128 and 16)" in words
    assert "median grad norm 1." in words


def test_where_the_terminal_speaks_ascii_so_does_the_table(analysis: Analysis, folder: Path) -> None:
    assert printed(analysis, folder, encoding="ascii").isascii()


def test_the_table_has_a_row_for_the_total_and_each_level(analysis: Analysis) -> None:
    about, section = analysis.mediated, section_of(analysis)
    assert about is not None
    total, noise, clip = section.tables[0].texts()
    assert total[0] == "total"
    assert noise[0] == "grad_noise of 8"
    assert "% (" in noise[3]
    assert noise[4] == "none of it"
    assert clip[0] == "max_grad_norm=0.6"
    assert clip[3] == "–", "no share of what was not held"
    assert clip[4] == "NOT HELD"
    assert {one.verdict for one in about.held} <= set(MEDIATION_VERDICTS)
    measured = [note.text for note in section.notes if note.label == "measured"]
    assert any(line.startswith("grad_noise of 8: grad norm at the first step") for line in measured)


def test_page_markdown_and_json_say_the_same(
    analysis: Analysis, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = analysis.mediated
    assert about is not None
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    assert 'id="mediation"' in page
    assert "Mediation of the effect on eval_loss" in page
    assert "## Mediation of the effect on" in text
    assert "grad\\_noise of 8" in text or "grad_noise of 8" in text
    stored = read_json(StudyDir(folder).analysis)["mediated"]
    assert stored["held"][0]["verdict"] == about.held[0].verdict == "none"
    capsys.readouterr()
    print_shares_json(analysis)
    told = json.loads(capsys.readouterr().out)
    assert told["held"][1]["verdict"] == "not held"
    assert told["study"] == "through"


def test_other_studies_say_nothing_of_it(analysis: Analysis) -> None:
    assert mediation(make_view(replace(analysis, mediated=None))) is None


def test_a_study_that_is_half_done_says_what_is_missing(tmp_path: Path) -> None:
    write_mediation(tmp_path / "half", NOISE, {TREATED: 0.12})
    import shutil

    shutil.rmtree(tmp_path / "half" / NOISY)
    half = build_report(tmp_path / "half")
    words = " ".join(printed(half, tmp_path / "half").split())
    assert "eval loss: nothing is divided, because no seed has finished every arm yet (5 of 15 runs to go)" in words


def test_the_page_begins_with_the_answer_to_what_was_asked(analysis: Analysis) -> None:
    headline = make_view(analysis).headline
    assert headline.startswith("data.batch_size 8 → 64 raises eval loss from 0.5")
    assert headline.endswith("Goes through grad_noise of 8: none of it; through max_grad_norm=0.6: NOT HELD.")

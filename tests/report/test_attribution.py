"""The shares of two configs' difference, in a terminal, on the page, in Markdown and for a program."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.results import Analysis
from ablate.design.designs import Corners
from ablate.report import build_report, print_report
from ablate.report.json import print_shares_json
from ablate.report.sections.answers import attribution
from ablate.report.view_model import make_view
from tests.report.test_terminal import PATHS
from tests.synthetic import write_corners

THREE = Corners(
    names=("batch_size", "train_test_ratio", "lr"),
    moves=({"data.batch_size": 64}, {"data.train_test_ratio": 4.0}, {"optim.lr": 1e-4}),
    first="a.yaml",
    second="b.yaml",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """batch_size raises the eval loss by 0.2, lr lowers it by 0.04 where the batch is large."""
    found = tmp_path_factory.mktemp("studies") / "between"
    shifts = {corner: 0.2 * (corner & 1) - 0.04 * (corner & 5 == 5) for corner in range(8)}
    write_corners(found, THREE, shifts)
    return found


@pytest.fixture(scope="module")
def analysis(folder: Path) -> Analysis:
    """What its report was made of; the files of the report are in the folder."""
    return build_report(folder)


def rows(analysis: Analysis) -> list[tuple[str, ...]]:
    section = attribution(make_view(analysis))
    assert section is not None
    return section.tables[0].texts()


def printed(analysis: Analysis, folder: Path, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    print_report(analysis, folder, Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_the_answer_first_and_cuts_nothing(analysis: Analysis, folder: Path, width: int) -> None:
    text = printed(analysis, folder, width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(len(line) for line in lines if not line.startswith(PATHS)) <= width
    words = " ".join(text.split())
    assert re.search(r"explains 1\d\d% \(\d+ to \d+\) of the rise in eval loss; ", words)
    assert words.index("of the rise in eval loss") < words.index("interval") < words.index("verdict")
    assert "derived changes: " in words
    assert "total_steps 128 → 16" in words


def test_where_the_terminal_speaks_ascii_so_does_the_table(analysis: Analysis, folder: Path) -> None:
    assert printed(analysis, folder, encoding="ascii").isascii()


def test_every_share_of_the_table_is_there_and_they_add_up(analysis: Analysis) -> None:
    table = rows(analysis)
    assert [row[0] for row in table] == ["batch_size", "train_test_ratio", "lr", "interaction", "total"]
    assert table[-1][3:] == ("100%", "100%")
    for column in (3, 4):
        shares = [row[column].partition("%")[0] for row in table[:-1] if row[column]]
        assert sum(int(share.replace(digits.MINUS, "-")) for share in shares) == pytest.approx(100, abs=2)


def test_page_and_markdown_have_the_same_table(analysis: Analysis, folder: Path) -> None:
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for cell in (cell for row in rows(analysis) for cell in row if cell):
        assert cell in page
        assert cell.replace("_", "\\_") in text
    assert page.index('id="shares"') < page.index("Effect on eval_loss")
    assert "## Shares of the difference in" in text
    assert "data.batch_size 8 → 64" in page


def test_for_a_program_it_is_json_without_nan(analysis: Analysis, capsys: pytest.CaptureFixture[str]) -> None:
    assert analysis.attribution is not None
    odd = replace(analysis.attribution.shapley[0], sampling_error=float("nan"))
    print_shares_json(replace(analysis, attribution=replace(analysis.attribution, shapley=(odd,))))
    value = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert value["study"] == "between"
    assert (value["first"], value["second"]) == ("a.yaml", "b.yaml")
    assert value["shapley"][0]["sampling_error"] is None
    assert value["significant"][0] == "batch_size"
    print_shares_json(replace(analysis, attribution=None))
    assert capsys.readouterr().out == "null\n"


@pytest.mark.slow
def test_without_shares_the_effects_are_still_shown(tmp_path: Path) -> None:
    write_corners(tmp_path / "b", THREE, {})
    analysis = build_report(tmp_path / "b")
    assert analysis.attribution is not None
    assert analysis.attribution.refused
    assert {row[3] for row in rows(analysis)} == {digits.DASH}
    assert "no shares, because the total difference is not significant" in " ".join(
        printed(analysis, tmp_path / "b").split()
    )

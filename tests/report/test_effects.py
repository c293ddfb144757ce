"""Effects of axes that were moved together, in a terminal, on the page and in Markdown."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.results import Analysis
from ablate.design.factorial import Factorial
from ablate.report import build_report, print_plan, print_report
from ablate.report.section import Cell
from ablate.report.sections.answers import effect_row, part_row
from ablate.runner.forecast import Forecast
from tests.report.test_terminal import PATHS
from tests.synthetic import TWO_LEVELS, crossed_cells, crossed_plan, write_crossed

DESIGNS = {
    "factorial": crossed_cells("factorial", TWO_LEVELS[:2]),
    "fractional": crossed_cells("fractional", TWO_LEVELS, {"max_grad_norm": TWO_LEVELS[:3]}),
    "pairwise": crossed_cells("pairwise", TWO_LEVELS[:3]),
}
Study = tuple[Factorial, Path, Analysis]


def texts(row: tuple[Cell, ...]) -> list[str]:
    return [text for cell in row for text in (cell.text, cell.detail) if text]


@pytest.fixture(scope="module", params=DESIGNS)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """batch_size and train_test_ratio raise the eval loss by 0.1 where both are moved."""
    cells = DESIGNS[request.param]
    folder = tmp_path_factory.mktemp("studies") / "s"
    write_crossed(folder, cells, {arm: 0.1 for arm in cells.arms if "batch_size" in arm and "train_test_ratio" in arm})
    return cells, folder, build_report(folder)


def text_of(show: Callable[[Console], None], width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    show(Console(file=file, width=width))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_shows_the_effects_first_and_cuts_nothing(study: Study, width: int) -> None:
    cells, folder, analysis = study
    text = text_of(lambda console: print_report(analysis, folder, console), width)
    assert max(len(line.rstrip()) for line in text.splitlines() if not line.startswith(PATHS)) <= width
    words = " ".join(text.split())
    head = (
        "Dead, redundant and useful parts: eval_loss" if cells.kind == "pairwise" else "Main effects and interactions"
    )
    assert head in words
    assert words.index(head) < words.index("gradient norm")
    assert "interval" in words
    assert re.search(r"\[\S+, \S+\]", words)
    if width == 120:
        about = analysis.effects
        assert about is not None
        for cell in (
            cell
            for one in about.effects
            if len(one.axes) < 3
            for cell in texts(effect_row(one))[1:3]
            if not about.parts
        ):
            assert cell in words


def test_where_the_terminal_speaks_ascii_so_does_the_table(study: Study) -> None:
    _, folder, analysis = study
    assert text_of(lambda console: print_report(analysis, folder, console), encoding="ascii").isascii()


def test_page_and_markdown_have_the_same_figures(study: Study) -> None:
    cells, folder, analysis = study
    about = analysis.effects
    assert about is not None
    page, text = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    for cell in (cell for one in about.effects for cell in texts(effect_row(one))):
        assert cell.replace("<", "&lt;") in page
    rows = [part_row(part) for part in about.parts] or [effect_row(one) for one in about.effects]
    for line in rows:
        assert line[1].text in text
        assert line[3 if about.parts else 2].text in text
    assert page.index('id="effects"') < page.index("Effect on eval_loss")
    assert (
        "Dead, redundant and useful parts" in text
        if cells.kind == "pairwise"
        else "Main effects and interactions" in text
    )
    assert "p last" not in page


def test_what_is_found_stands_in_the_conclusions(study: Study) -> None:
    cells, folder, _ = study
    text = " ".join((folder / "report.md").read_text().replace("\\", "").split())
    assert {
        "factorial": "they act only together: neither batch_size=64 nor train_test_ratio=4 alone differs significantly",
        "fractional": "the effect called batch_size x train_test_ratio is that of batch_size and train_test_ratio together "
        "plus that of learning_rate and max_grad_norm together",
        "pairwise": "batch_size=64 is redundant: equivalent alone",
    }[cells.kind] in text


def test_a_plan_says_its_design(study: Study) -> None:
    cells, *_ = study
    plan = crossed_plan("s", cells)
    text = text_of(lambda console: print_plan(plan, Forecast(), None, console))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert {
        "factorial": "design factorial: all 4 combinations (2 x 2) of batch_size and train_test_ratio",
        "fractional": "design fractional, of resolution 4: 8 of the 16 arms",
        "pairwise": "design pairs: 3 changes, each alone, and their 3 pairs: 7 arms",
    }[cells.kind] in " ".join(text.split())


def test_before_the_last_arm_has_run_it_says_what_is_missing(tmp_path: Path) -> None:
    cells = DESIGNS["factorial"]
    plan = write_crossed(tmp_path / "s", cells, {})
    for seed in plan.seeds:
        (tmp_path / "s" / "batch_size=64+train_test_ratio=4" / f"seed={seed}" / "status.json").unlink()
    text = " ".join(
        text_of(lambda console: print_report(build_report(tmp_path / "s"), tmp_path / "s", console)).split()
    )
    assert "no effects, because not every arm has a finished run yet (5 of 20 runs to go)" in text
    assert digits.typeset("no effects yet") in text

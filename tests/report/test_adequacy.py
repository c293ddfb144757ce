"""How coarse a cadence each curve bears: a line in the terminal, tables in the page, 80 columns for `ablate resample`."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from markupsafe import escape
from rich.cells import cell_len
from rich.console import Console

from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.analysis.results import Adequacy, Rung
from ablate.report import build_report, print_adequacy
from ablate.report.sections.checks import cadence_tables, coarsest_cadences
from tests.synthetic import write_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "reference"
    write_study(folder, seeds=5)
    build_report(folder)
    return folder


def rung(every: str, *, flips: tuple[str, ...] = (), before: float | None = 0.05, peak: float | None = None) -> Rung:
    truthful = not flips and (before or 0) <= 0.1
    return Rung(
        every=every,
        points=10,
        first_step=2,
        before_first=before,
        latest="baseline",
        peak=peak,
        flips=flips,
        truthful=truthful,
    )


def made(curve: str, *rungs: Rung, coarsest: str | None, advice: str = "") -> Adequacy:
    return Adequacy(curve=curve, metric="m", rungs=rungs, coarsest=coarsest, sentence=f"{curve}: so", advice=advice)


def printed(found: tuple[Adequacy, ...], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_adequacy(found, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_line_names_the_coarsest_truthful_cadence_of_every_curve() -> None:
    found = (
        made("eval loss", rung("20 steps"), coarsest="20 steps"),
        made("grad norm", rung("1 step"), coarsest="1 step"),
    )
    assert coarsest_cadences(found) == "coarsest adequate cadence: eval loss every 20 steps, grad norm every step"
    hidden = coarsest_cadences((made("eval loss", rung("20 steps", before=0.9), coarsest=None),))
    assert re.search(r"eval loss none \(90% of \S+'s decrease happens before its first recorded point\)$", hidden)
    assert coarsest_cadences(()) == ""


def test_every_cadence_is_told_the_same_or_too_late_or_what_flips() -> None:
    flips = ("batch_size=64: lowers -> inconclusive", "dropout=0: helps -> no effect")
    found = made(
        "grad norm", rung("1 step"), rung("2 steps", before=0.5), rung("5 steps", flips=flips), coarsest="1 step"
    )
    (table,) = cadence_tables((found,))
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert [row[-1] for row in table.texts()] == [
        "the same",
        "too late",
        "batch_size=64: lowers → inconclusive and dropout=0: helps → no effect",
    ]


def test_the_table_of_the_terminal_fits_and_loses_no_word() -> None:
    flips = tuple(f"component={'deep.' * 4}layer.{k}: lowers -> inconclusive" for k in range(3))
    advice = "eval.spacing=log eval.num_evaluations=12 shows the fall with 12 looks (18 s) per run"
    text = printed(
        (
            made(
                "grad norm", rung("1 step", peak=1.0), rung("5000 steps", flips=flips), coarsest="1 step", advice=advice
            ),
        )
    )
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    whole = "".join(text.split())
    for flip in flips:
        assert "".join(flip.replace("->", "→").split()) in whole
    assert "".join(advice.split()) in whole


def test_nothing_to_read_is_said() -> None:
    assert "no baseline run has a record" in printed(())


def test_page_and_markdown_have_the_coarsest_cadence_and_every_table(folder: Path) -> None:
    analysis = analyse(folder)
    page, markdown = ((folder / name).read_text() for name in ("report.html", "report.md"))
    coarsest = coarsest_cadences(analysis.adequacy)
    assert f"C{coarsest[1:]}." in markdown
    assert escape(f"C{coarsest[1:]}.") in page
    kept = json.loads((folder / "analysis.json").read_text())["adequacy"]
    assert [one["curve"] for one in kept] == ["eval loss", "train loss", "grad norm"]
    for one in analysis.adequacy:
        for each in one.rungs:
            assert f'<th scope="row">{each.every}</th>' in page
            assert f"### {one.curve}, judged by" in markdown
            assert f"| {each.every} |" in markdown
    assert "batch_size=64: lowers → inconclusive" in page


def test_a_replay_without_a_level_prints_the_tables(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["resample", str(folder)]) == 0
    said = capsys.readouterr().out
    assert max(cell_len(line) for line in said.splitlines()) <= 80
    for title in (
        "eval loss, judged by eval_loss",
        "train loss, judged by final_train_loss",
        "grad norm, judged by grad_norm_p95_p5",
    ):
        assert title in said
    assert "eval.spacing=log" in said


def test_a_replay_without_a_level_of_no_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["resample", str(tmp_path / "nowhere")]) == 2
    assert "has no plan.json" in capsys.readouterr().err

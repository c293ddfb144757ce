"""What a name or a message holds is text in every output: no terminal code, no formula, no way out of a code block."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ablate import cli
from ablate.errors import StudyError
from ablate.report.latex import _csv_cell
from ablate.report.markdown import _section
from ablate.report.section import Section
from ablate.serialization import read_json
from ablate.study_command import print_refusal
from tests.synthetic import write_study

HOSTILE = "x\x1b]0;title\x07\x1b[31m\u202egnp.exe\u2066\x9b2J\u200b"
UNSEEN = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u200b")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    write_study(folder, arms=("batch_size=64",), seeds=2)
    plan = read_json(folder / "plan.json")
    plan |= {"study": HOSTILE, "question": HOSTILE, "command": HOSTILE, "notes": [HOSTILE]}
    plan["arms"][1] |= {"name": f"=cmd|{HOSTILE}", "value": f"@SUM({HOSTILE})"}
    for run in plan["runs"]:
        run["arm"] = run["arm"].replace("batch_size=64", f"=cmd|{HOSTILE}")
    (folder / "plan.json").write_text(json.dumps(plan))
    status = folder / "baseline/seed=0/status.json"
    status.write_text(json.dumps(read_json(status) | {"status": "failed", "message": HOSTILE}))
    return folder


def test_no_code_reaches_the_terminal_or_a_file(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["report"], ["table"], ["table", "--format", "latex"], ["table", "--format", "csv"], ["methods"], ["status"],
                 ["resample"], ["retry"], ["stop"]):  # fmt: skip
        cli.main([verb[0], str(hostile), *verb[1:]])
        said = capsys.readouterr()
        assert not [mark for mark in UNSEEN if mark in said.out + said.err], verb
    for name in ("report.md", "report.html", "table.csv", "table.tex", "methods.tex"):
        text = (hostile / name).read_text()
        assert not [mark for mark in UNSEEN if mark in text], name
    assert "\\x1b" in (hostile / "report.md").read_text().replace("\\\\", "\\")


def test_no_cell_of_the_table_is_a_formula(hostile: Path) -> None:
    cli.main(["report", str(hostile)])
    with (hostile / "table.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(cell.startswith("'=cmd|") for cell in cells)
    assert not [
        cell for cell in cells if cell.startswith(("=", "@", "+", "\t")) or (cell[:1] == "-" and not _number(cell))
    ]


@pytest.mark.parametrize(("value", "cell"), [
    ("=1+1", "'=1+1"), ("@SUM", "'@SUM"), ("\tx", "'\tx"), ("-1+2", "'-1+2"), ("+1", "'+1"), (-1.5, "-1.5"), (True, "true"),
    ("plain", "plain"), (None, ""), ("a=b", "a=b"),
])  # fmt: skip
def test_text_that_a_spreadsheet_would_compute_is_text(value: object, cell: str) -> None:
    assert _csv_cell(value) == cell


def test_code_cannot_leave_its_block() -> None:
    for code in ("x", "```\n# out\n```", "a ```` b"):
        parts = list(_section(Section(key="k", title="t", code=code), ""))
        block = next(part for part in parts if code in part)
        fence = block.splitlines()[0]
        assert set(fence) == {"`"}
        assert fence not in code
        assert block == f"{fence}\n{code}\n{fence}"


def test_a_refusal_shows_codes(capsys: pytest.CaptureFixture[str]) -> None:
    print_refusal(StudyError(f"no {HOSTILE}", f"type {HOSTILE}"))
    assert not [mark for mark in UNSEEN if mark in capsys.readouterr().err]


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True

"""report.md and table.tex."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ablate.analysis.results import Analysis
from ablate.errors import ConfigError
from ablate.report import latex as latex_table
from ablate.report import markdown as markdown_report
from ablate.report.sections import build
from ablate.report.view_model import View, make_view
from tests.report.conftest import Study

MINUS = "\N{MINUS SIGN}"


def markdown(view: View) -> str:
    return markdown_report.markdown(view, Path("nowhere"), build(view, Path("nowhere")))


def latex(view: View) -> str:
    return latex_table.latex(view, build(view, Path("nowhere")))


def renamed(analysis: Analysis, old: str, new: str) -> Analysis:
    """The analysis with one arm called something else everywhere."""
    return replace(
        analysis,
        arms=tuple({**arm, "name": new, "axis": new} if arm["name"] == old else arm for arm in analysis.arms),
        contrasts=tuple(replace(c, arm=new, axis=new) if c.arm == old else c for c in analysis.contrasts),
        runs=tuple(replace(run, arm=new) if run.arm == old else run for run in analysis.runs),
    )


def test_markdown_has_header_conclusions_table_controls_and_command(study: Study) -> None:
    text = markdown(make_view(study.analysis))
    assert text.startswith("# reference\n")
    assert f" | {MINUS}0.003 | [{MINUS}0.021, 0.015] | inconclusive |" in text
    for heading in ("## Result: eval\\_loss (nats)", "## Findings in words", "## Controls", "## Reproduction"):
        assert heading in text
    assert study.analysis.command in text


def test_markdown_says_how_sure_after_the_verdict_and_p_last(study: Study) -> None:
    text = markdown(make_view(study.analysis))
    assert "| arm | eval\\_loss | effect | 95% interval | verdict |" in text
    baseline, row, *_ = [
        line for line in text.splitlines() if line.startswith(("| baseline |", "| batch\\_size 8 → 64 |"))
    ]
    assert baseline.startswith("| baseline | 0.508")
    assert "| +0.178 | [0.160, 0.196] | **hurts** |" in row
    assert "### How sure" in text
    assert "| batch\\_size 8 → 64 | 0.171, 0.177, 0.186 | 0% | 21 | 0.00080 | – |" in text
    assert "Intervals: 95% simultaneous intervals over 2 variants (Dunnett), seed-blocked" in text


def test_every_markdown_table_row_has_as_many_cells_as_its_head(study: Study) -> None:
    text = markdown(make_view(renamed(study.analysis, "batch_size=64", "a|b <script>")))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert "<script>" not in text


def test_latex_says_n_test_interval_correction_and_budget(study: Study) -> None:
    text = latex(make_view(study.analysis))
    caption = re.search(r"\\caption\{(.*)\}", text)
    assert caption
    said = r"95\% simultaneous intervals over 2 variants (Dunnett), seed-blocked; a placebo is judged alone"
    for part in ("n = 3 seeds", said, "1024 samples (128 steps"):
        assert part in caption[1]
    assert r"\toprule" in text
    text = latex_table.latex(make_view(study.analysis), {"answer": []}, ["eval_loss"], effects=True)
    assert re.search(
        r"train\\_test\\_ratio 1 \$\\rightarrow\$ 4 & \$0\.50\d+ \\pm .*\$ & \$-0\.003\$ & \[\$-0\.021\$, \$0\.015\$\]",
        text,
    )


def test_a_table_for_a_paper_has_the_baseline_first_and_the_metrics_that_were_asked_for(study: Study) -> None:
    view = make_view(study.analysis)
    table = latex_table.paper_table(view, ["eval_loss", "grad_norm_max"])
    assert table.head == ("Arm", "eval_loss (nats) ↓", "grad_norm_max")
    assert [row[0] for row in table.texts()] == ["baseline", "batch_size 8 → 64", "train_test_ratio 1 → 4", "placebo"]
    assert re.fullmatch(r"0\.50\d+ ± 0\.000\d+", table.texts()[0][1])
    assert [row[1].strong for row in table.rows] == [False, True, False, False]
    wide = latex_table.paper_table(view, ["eval_loss"], effects=True)
    assert wide.head[2:] == ("Effect", "95% interval")
    assert wide.texts()[1][2:] == ("0.178", "[0.160, 0.196]")
    with pytest.raises(ConfigError, match="--metrics eval_los: reference has no metric of that name"):
        latex_table.paper_table(view, ["eval_los"])


def test_latex_escapes_every_special_character(study: Study) -> None:
    text = latex(make_view(renamed(study.analysis, "batch_size=64", r"a&b%c$d#e_f{g}h~i^j\k")))
    assert r"a\&b\%c\$d\#e\_f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k" in text


def test_latex_braces_and_columns_agree(study: Study) -> None:
    text = latex(make_view(renamed(study.analysis, "batch_size=64", r"a{b & \\ c")))
    bare = re.sub(r"\\[{}&]", "", text)
    assert bare.count("{") == bare.count("}")
    rows = [line for line in bare.splitlines() if line.rstrip().endswith(r"\\") and "&" in line]
    assert len(rows) == 5
    assert {row.count("&") for row in rows} == {1}

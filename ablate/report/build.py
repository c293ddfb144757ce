"""All files of a report, made anew from the study folder."""

from __future__ import annotations

from pathlib import Path

from ablate.analysis.adopt import Asked
from ablate.analysis.study import named, write_analysis
from ablate.analysis.values import Analysis
from ablate.record.rundir import write_text
from ablate.report.html import page
from ablate.report.tables import latex, markdown
from ablate.report.view import make_view


def build_report(folder: Path, asked: Asked | None = None, at: str | None = None) -> Analysis:
    """Write analysis.json, report.md, table.tex and report.html into a study folder; each is replaced whole.

    asked: of a folder without a plan.json, as in `read_plan`. at: compare the runs there; where that is not what the plan says,
    the files lie beside the study's own and name it: `report.at-16-steps.html`.
    Raises StudyError or RecordError when the folder holds no study that can be read.
    """
    analysis = write_analysis(folder, asked, at)
    view = make_view(analysis)
    write_text(folder / named(analysis, "report.md"), markdown(view), hide=True)
    write_text(folder / named(analysis, "table.tex"), latex(view), hide=True)
    write_text(folder / named(analysis, "report.html"), page(view, folder), hide=True)
    return analysis

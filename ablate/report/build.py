"""Write all files of a report into a study directory."""

from __future__ import annotations

from pathlib import Path

from ablate.analysis.analyse import named, write_analysis
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.results import Analysis
from ablate.report.html import page
from ablate.report.latex import latex, table_csv
from ablate.report.markdown import markdown
from ablate.report.methods import BIB, methods
from ablate.report.sections import build
from ablate.report.view_model import make_view
from ablate.serialization import write_text


def build_report(folder: Path, options: PlanOptions | None = None, at: str | None = None) -> Analysis:
    """Write analysis.json, report.md, report.html, table.tex, table.csv, methods.tex and references.bib into a study directory.

    options: for a directory without a plan.json, as in `read_plan`.
    at: where to compare the runs; if the plan says otherwise, the file names contain it: `report.at-16-steps.html`.
    Raises StudyError or RecordError if the directory does not contain a readable study.
    """
    analysis = write_analysis(folder, options, at)
    view = make_view(analysis)
    sections = build(view, folder)
    done = methods(view, folder, options)
    texts = {
        "report.md": markdown(view, folder, sections, done.plain()),
        "table.tex": latex(view, sections),
        "table.csv": table_csv(view),
    }
    texts |= {"methods.tex": done.latex(), BIB: done.bib()}
    for name, text in texts.items():
        write_text(folder / named(analysis, name), text, hide=True)
    write_text(folder / named(analysis, "report.html"), page(view, folder, sections), hide=True)
    return analysis

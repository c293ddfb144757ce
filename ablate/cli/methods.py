"""`ablate methods`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "methods",
        "Print what a study did as the methods paragraph of a paper: design, seeds, pairing, controls, outcome, test, looks,\n"
        "lost runs, and what was not proven. Writes methods.tex and references.bib, the works it cites, into the study folder.",
        "ablate methods runs/reference",
        "ablate methods runs/reference --format latex",
        "ablate methods runs/reference --format bibtex",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument(
        "--format", choices=("text", "latex", "bibtex"), default="text", help="of what is printed; text"
    )
    parser.add_argument("--at", metavar="UNIT|'N UNIT'", help="compare the arms there, as for ablate report")
    asked = parser.parse_args(typed)
    from textwrap import fill

    from ablate.analysis.study import analyse, named
    from ablate.record.redact import redact
    from ablate.record.rundir import write_text
    from ablate.report.methods import BIB, methods
    from ablate.report.view import make_view

    analysis = analyse(asked.folder, at=asked.at)
    made = methods(make_view(analysis), asked.folder)
    for name, text in (("methods.tex", made.latex()), (BIB, made.bib())):
        write_text(asked.folder / named(analysis, name), text, hide=True)
    shown = {"text": f"{fill(made.plain(), 96, break_long_words=False)}\n", "latex": made.latex(), "bibtex": made.bib()}
    print(redact(shown[asked.format]), end="")
    return 0

"""The end of every study and of `ablate report`: the report is made, printed, and becomes an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ablate.cli._parser import console, parser_of

if TYPE_CHECKING:
    from ablate.analysis.infer_plan import Asked


def conclude(folder: Path, asked: Asked | None = None, *, at: str | None = None, show: str = "") -> int:
    """Make the report of a study and print it. 1 when a run or a control failed, or runs are missing.

    at: compare the arms there. show: print for a program to read instead: `print_json` all of it, `print_shares_json` the
    shares of a study between two configs.
    """
    from ablate import report
    from ablate.report import build_report, print_report

    analysis = build_report(folder, asked, at)
    if show:
        getattr(report, show)(analysis)
    else:
        print_report(analysis, folder, console())
    failed = any(run.status in ("failed", "interrupted") for run in analysis.runs)
    return int(failed or not analysis.complete or any(control.status == "failed" for control in analysis.controls))


# `ablate figures`.


def run_figures(typed: list[str]) -> int:
    parser = parser_of(
        "figures",
        "Draw the figures of a paper from a study's record, into <study>/figures: forest (effects, intervals, every seed),\n"
        "curves (mean and range over seeds), grad_norm, cadence (what coarser looking shows). Fonts stand in the file, and\n"
        "the same study gives the same bytes.",
        "ablate figures runs/reference",
        "ablate figures runs/reference --style paper --width text --format pdf,svg",
        "ablate figures runs/reference --only forest,grad_norm --width 8.5cm --x steps",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--style", default="paper", help="paper (8 pt, serif) or slides (12 pt); paper")
    parser.add_argument(
        "--width",
        default="column",
        metavar="WIDTH",
        help="column (3.25in), text (5.5in), page (6.75in), or 8.5cm; column",
    )
    parser.add_argument("--format", default="pdf", metavar="pdf,svg,png", help="one or several; pdf")
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help="forest, curves, grad_norm, cadence; all that there are"
    )
    parser.add_argument("--x", choices=("steps", "samples", "epochs", "seconds"), default="samples", help="samples")
    parser.add_argument("--compare-at", metavar="UNIT|'N UNIT'", help="compare the arms there, as for ablate report")
    asked = parser.parse_args(typed)
    from ablate.analysis.analyse import analyse
    from ablate.errors import ConfigError, nearest
    from ablate.report.figures import FORMATS, figure_style, write_figures
    from ablate.report.view_model import make_view

    names = [name for name in asked.only.split(",") if name]
    style = figure_style(asked.style, asked.width, asked.x, names)
    formats = [name.strip() for name in asked.format.split(",") if name.strip()]
    strange = [name for name in formats if name not in FORMATS]
    if strange or not formats:
        raise ConfigError(
            f"--format {asked.format!r}: {''.join(strange[:1])!r} is no format", nearest("".join(strange[:1]), FORMATS)
        )
    for path in write_figures(
        make_view(analyse(asked.folder, at=asked.compare_at)), asked.folder, style, [f for f in FORMATS if f in formats]
    ):
        print(path)
    return 0


# `ablate methods`.


def run_methods(typed: list[str]) -> int:
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
    parser.add_argument("--compare-at", metavar="UNIT|'N UNIT'", help="compare the arms there, as for ablate report")
    asked = parser.parse_args(typed)
    from textwrap import fill

    from ablate.analysis.analyse import analyse, named
    from ablate.redact import redact
    from ablate.report.methods import BIB, methods
    from ablate.report.view_model import make_view
    from ablate.serialization import write_text

    analysis = analyse(asked.folder, at=asked.compare_at)
    made = methods(make_view(analysis), asked.folder)
    for name, text in (("methods.tex", made.latex()), (BIB, made.bib())):
        write_text(asked.folder / named(analysis, name), text, hide=True)
    shown = {"text": f"{fill(made.plain(), 96, break_long_words=False)}\n", "latex": made.latex(), "bibtex": made.bib()}
    print(redact(shown[asked.format]), end="")
    return 0


# `ablate report`.


def run_report(typed: list[str]) -> int:
    parser = parser_of(
        "report",
        "Make the tables and the page of a study anew, and print them. A folder without a plan, of runs that other loops have\n"
        "recorded, is read as a study: its arms are compared with the arm called baseline by the settings they recorded.",
        "ablate report runs/reference",
        "ablate report runs/mine --metric eval_accuracy --smallest-effect 0.005",
        "ablate report runs/reference --compare-at steps",
        "ablate report runs/reference --compare-at '512 samples' --json",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--metric", help="without a plan: primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="without a plan: smallest difference that matters; 0.01")
    parser.add_argument("--allow-change", default="", help="without a plan: what may come with a change, as init,order")
    parser.add_argument(
        "--compare-at",
        metavar="UNIT|'N UNIT'",
        help="compare the arms at equal steps, samples, tokens, epochs or seconds, as many as every run had, or at an amount; "
        "`end`: as they ended. What is not the study's own choice is written beside its report, not in its place",
    )
    parser.add_argument("--json", action="store_true", help="print the analysis for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.infer_plan import Asked

    accepts = tuple(item for item in asked.allow_change.split(",") if item)
    wanted = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect, accepts=accepts)
    return conclude(asked.folder, wanted, at=asked.compare_at, show="print_json" if asked.json else "")


# `ablate table`.

FORMATS = ("markdown", "latex", "csv")


def run_table(typed: list[str]) -> int:
    parser = parser_of(
        "table",
        "Print the result as a table for another document. markdown and latex: the primary outcome, as `ablate report` writes\n"
        "it into report.md and table.tex. csv: every contrast on every outcome with all digits, as in table.csv.",
        "ablate table runs/reference",
        "ablate table runs/reference --format latex > table.tex    needs booktabs, and nothing else",
        "ablate table runs/reference --format csv --compare-at steps",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--format", choices=FORMATS, default="markdown", help="markdown")
    parser.add_argument("--compare-at", metavar="UNIT|'N UNIT'", help="compare the arms there, as for ablate report")
    asked = parser.parse_args(typed)
    from ablate.analysis.analyse import analyse
    from ablate.redact import redact
    from ablate.report.latex import latex, table_csv
    from ablate.report.markdown import result_table
    from ablate.report.sections import build
    from ablate.report.view_model import make_view

    view = make_view(analyse(asked.folder, at=asked.compare_at))
    answers = build(view, asked.folder, "answer")
    document = {"markdown": result_table, "latex": latex}
    text = table_csv(view) if asked.format == "csv" else document[asked.format](view, answers)
    print(redact(text), end="")
    return 0

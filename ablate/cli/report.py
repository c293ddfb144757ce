"""Verbs that report on a study: `ablate report`, `ablate table`, `ablate figures` and `ablate methods`."""

from __future__ import annotations

import sys

from ablate.cli._parser import consent, inferred_plan, items, parser_of
from ablate.study_command import conclude


def run_report(argv: list[str]) -> int:
    parser = parser_of(
        "report",
        "Write the tables and the page of a study again, and print them. A directory without a plan, with runs that "
        "other loops have recorded, is read as a study: its arms are compared with the arm called baseline by their "
        "recorded settings.",
        "ablate report runs/reference",
        "ablate report runs/mine --metric eval_accuracy --smallest-effect 0.005",
        "ablate report runs/reference --compare-at steps",
        "ablate report runs/reference --compare-at '512 samples' --json",
        study=True,
        custom_metric=True,
        json=True,
        infer_plan=True,
        compare_at=True,
    )
    args = parser.parse_args(argv)
    with consent(args):
        return conclude(args.folder, inferred_plan(args), at=args.compare_at, show="print_json" if args.json else "")


def run_table(argv: list[str]) -> int:
    parser = parser_of(
        "table",
        "Print the result as a table for another document. markdown and latex: mean and sd of every arm, the baseline "
        "first, as in table.tex. csv: every contrast on every metric with all digits, as in table.csv.",
        "ablate table runs/reference",
        "ablate table runs/reference --format latex > table.tex    needs booktabs, and nothing else",
        "ablate table runs/reference --metrics eval_loss,eval_accuracy --effects",
        "ablate table runs/reference --format csv --compare-at steps",
        study=True,
        custom_metric=True,
        compare_at=True,
    )
    parser.add_argument(
        "--format", choices=("markdown", "latex", "csv"), default="markdown", help="output format (default: markdown)"
    )
    parser.add_argument(
        "--metrics", default="", metavar="NAME,...", help="metrics of the table (default: the primary one and two more)"
    )
    parser.add_argument("--effects", action="store_true", help="add effect and interval of every metric")
    args = parser.parse_args(argv)
    from ablate.analysis.analyse import analyse
    from ablate.redact import shown
    from ablate.report.latex import latex, paper_table, table_csv
    from ablate.report.markdown import table_text
    from ablate.report.sections import build
    from ablate.report.view_model import make_view

    with consent(args):
        view = make_view(analyse(args.folder, at=args.compare_at))
    if args.format == "csv":
        text = table_csv(view)
    elif args.format == "latex":
        text = latex(view, build(view, args.folder, "answer"), items(args.metrics), effects=args.effects)
    else:
        text = table_text(paper_table(view, items(args.metrics), effects=args.effects), view.method)
    print(shown(text), end="")
    return 0


def run_figures(argv: list[str]) -> int:
    parser = parser_of(
        "figures",
        "Draw the figures of a paper from a study's record, into <study>/figures: forest (effects, intervals, every "
        "seed), curves (mean and range over seeds), grad_norm, cadence (curves evaluated less often). Fonts are "
        "embedded, and the same study gives the same bytes.",
        "ablate figures runs/reference",
        "ablate figures runs/reference --style paper --width text --format pdf,svg",
        "ablate figures runs/reference --only forest,grad_norm --width 8.5cm --x steps",
        study=True,
        custom_metric=True,
        compare_at=True,
    )
    add = parser.add_argument
    add("--style", default="paper", help="paper (8 pt, serif) or slides (12 pt) (default: paper)")
    add("--width", default="column", help="column (3.25in), text (5.5in), page (6.75in), or 8.5cm (default: column)")
    add("--format", default="pdf", metavar="pdf,svg,png", help="file formats (default: pdf)")
    add("--only", default="", metavar="NAME,...", help="forest, curves, grad_norm, cadence (default: all)")
    add(
        "--x",
        choices=("steps", "samples", "epochs", "seconds"),
        default="samples",
        help="unit of the horizontal axis (default: samples)",
    )
    args = parser.parse_args(argv)
    from ablate.analysis.analyse import analyse
    from ablate.errors import ConfigError, nearest
    from ablate.report.figures import FORMATS, figure_style, write_figures
    from ablate.report.view_model import make_view

    style = figure_style(args.style, args.width, args.x, items(args.only))
    formats = items(args.format)
    unknown = next((name for name in formats if name not in FORMATS), "")
    if unknown or not formats:
        problem = f"--format {args.format!r}: expected one or several of {', '.join(FORMATS)}, got {unknown!r}"
        raise ConfigError(problem, nearest(unknown, FORMATS))
    with consent(args):
        view = make_view(analyse(args.folder, at=args.compare_at))
    from ablate.redact import shown

    for path in write_figures(view, args.folder, style, [name for name in FORMATS if name in formats]):
        print(shown(str(path)))
    return 0


def run_methods(argv: list[str]) -> int:
    parser = parser_of(
        "methods",
        "Print the methods paragraph of a paper for a study: design, seeds, pairing, controls, metric, test, interim "
        "analyses, lost runs, and what was not verified. Writes methods.tex and its references.bib to the study "
        "directory.",
        "ablate methods runs/reference",
        "ablate methods runs/reference --format latex",
        "ablate methods runs/reference --format bibtex",
        study=True,
        custom_metric=True,
        compare_at=True,
    )
    parser.add_argument(
        "--format", choices=("text", "latex", "bibtex"), default="text", help="format of the output (default: text)"
    )
    args = parser.parse_args(argv)
    from textwrap import fill

    from ablate.analysis.analyse import analyse, named
    from ablate.redact import shown
    from ablate.report.methods import BIB, methods
    from ablate.report.view_model import make_view
    from ablate.serialization import write_text

    with consent(args):
        analysis = analyse(args.folder, at=args.compare_at)
    section = methods(make_view(analysis), args.folder)
    latex, bibtex = section.latex(), section.bib()
    try:
        for name, text in (("methods.tex", latex), (BIB, bibtex)):
            write_text(args.folder / named(analysis, name), text, hide=True)
    except OSError as error:
        print(shown(f"methods.tex was not written into {args.folder}: {error.strerror or error}"), file=sys.stderr)
    plain = f"{fill(section.plain(), 96, break_long_words=False)}\n"
    print(shown({"text": plain, "latex": latex, "bibtex": bibtex}[args.format]), end="")
    return 0

"""Which stream of chance makes runs differ: the same table in a terminal, on the page and in Markdown."""

from __future__ import annotations

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.design_results import VarianceOf, VariancePart
from ablate.analysis.results import Analysis
from ablate.report.console import columns, say, words
from ablate.report.markup import Markup, el, figures_row, table_of

KEY = (
    "Shares of the variance between runs of one config, with 95 % intervals (generalized; of few draws they are wide). Both "
    "together: what neither stream makes by itself, and whatever does not repeat. Shown: the F test of the stream at 5 %, one "
    "outcome at a time."
)
_FEW = 6


def head(analysis: Analysis) -> tuple[str, ...]:
    """Of the table, whose columns are named by the streams."""
    about = analysis.variance
    assert about is not None
    return ("outcome", "sd", *about.streams, "both together", "shown")


def rows(analysis: Analysis) -> list[tuple[str, ...]]:
    """An outcome a row, the primary one first."""
    return [] if analysis.variance is None else [_cells(one) for one in analysis.variance.of]


def print_variance(analysis: Analysis, console: Console) -> None:
    """The answer and the table of the first outcomes; nothing for any other study."""
    about = analysis.variance
    if about is None:
        return
    say(console, digits.typeset(about.sentence), "yellow" if about.refused else "bold")
    console.print()
    if not about.of:
        return
    table = columns()
    table.show_header = True
    for number, title in enumerate(head(analysis)):
        cut = title not in ("outcome", "shown")
        table.add_column(title, overflow="fold", justify="right" if number else "left", header_style="dim", no_wrap=cut)
    for row in rows(analysis)[:_FEW]:
        table.add_row(*(words(text, console) for text in row))
    console.print(table)
    console.print()


def variance_section(analysis: Analysis) -> Markup | None:
    """On the page: the answer, every outcome, what follows."""
    about = analysis.variance
    if about is None:
        return None
    made = table_of(head(analysis), map(figures_row, rows(analysis)))
    return el(
        "section",
        el("h2", "Which chance makes runs differ"),
        el("p", digits.typeset(about.sentence), class_="alarm" if about.refused else None),
        el("div", made, class_="wide") if about.of else None,
        el("p", digits.typeset(about.advice)) if about.advice else None,
        el("p", KEY, class_="key"),
        id="variance",
    )


def _cells(one: VarianceOf) -> tuple[str, ...]:
    return (
        one.metric,
        digits.figure(one.sd, 2),
        *(_share(part) for part in one.parts),
        one.shown or digits.DASH,
    )


def _share(part: VariancePart) -> str:
    low, high = (digits.number(100 * value, 0) for value in (part.share_low, part.share_high))
    return f"{digits.percent(part.share)} ({low} to {high})"

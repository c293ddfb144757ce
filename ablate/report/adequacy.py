"""How coarse a cadence each curve bears: one line in a report, a table of every cadence in the page and for `ablate resample`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.eval_cadence import every
from ablate.analysis.results import Adequacy, Rung
from ablate.report.console import columns, labelled, say, words
from ablate.report.markup import Markup, el, table_of
from ablate.report.view import View

_HEAD = ("every", "points", "first", "before", "peak", "told")
_KEY = (
    "Every arm is read again as a run at that cadence would have recorded it: evaluations at the same samples in every arm; "
    "rows of a log every so many of an arm's own steps, with the mean loss since the row before and the last gradient norm. "
    "Before: share of the fall before the first point, in the arm where it is most. Peak: the highest gradient norm that is "
    "shown, by the highest there was. A cadence is truthful where no verdict differs from the record's and at most a tenth of "
    "the fall lies before its first point; the coarsest truthful one is that up to which all are."
)


def brief(found: Iterable[Adequacy]) -> str:
    """`coarsest truthful cadence: eval loss every 20 steps, train loss every 5 steps, grad norm every 1 step`; '' for none."""
    said = [f"{one.curve} {every(one.coarsest) if one.coarsest else _none(one)}" for one in found]
    return f"coarsest truthful cadence: {', '.join(said)}" if said else ""


def _none(one: Adequacy) -> str:
    """Why not even the record will do."""
    record = one.rungs[0]
    where = f" of {record.latest}'s" if record.latest else " of the"
    return f"none ({digits.percent(record.before_first)}{where} fall lies before its first point even in the record)"


def print_adequacy(found: Sequence[Adequacy], console: Console) -> None:
    """A table per curve, and below it what follows."""
    if not found:
        say(console, "no run of the baseline has left a record that could be read at another cadence")
    for one in found:
        say(console, f"{one.curve}, judged by {one.metric}", "bold")
        table = columns()
        table.show_header = True
        for title in _HEAD[:-1]:
            table.add_column(title, justify="right", no_wrap=True, header_style="dim")
        table.add_column(_HEAD[-1], overflow="fold", header_style="dim")
        for rung in one.rungs:
            style = "" if rung.truthful else "yellow"
            table.add_row(*(words(text, console) for text in _cells(rung)), words(_told(rung), console, style))
        console.print(table)
        labelled(console, "", digits.typeset(one.sentence), width=3)
        if one.advice:
            labelled(console, "", digits.typeset(one.advice), width=3, style="dim")
        console.print()


def adequacy_section(view: View) -> Markup | None:
    """The tables of the page."""
    found = view.analysis.adequacy
    if not found:
        return None
    return el(
        "section",
        el("h2", "Was it looked at often enough?"),
        *(part for one in found for part in _curve(one)),
        el("p", _KEY, class_="key"),
        id="adequacy",
    )


def _curve(one: Adequacy) -> Iterable[Markup]:
    rows = []
    for rung in one.rungs:
        every, *figures = _cells(rung)
        word = el("span", _told(rung), class_=f"word {'good' if rung.truthful else 'open'}")
        cells = (*(el("td", text, class_="number") for text in figures), el("td", word, class_="number"))
        rows.append(el("tr", el("th", every, scope="row"), *cells))
    yield el("h3", f"{one.curve}, judged by {one.metric}")
    yield el("p", digits.typeset(one.sentence), ". ", digits.typeset(f"{one.advice}.") if one.advice else None)
    yield el("div", table_of(_HEAD, rows), class_="wide")


def adequacy_rows(found: Sequence[Adequacy]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of one table over all curves, for Markdown; the cells are plain text."""
    return ("curve", *_HEAD), [(one.curve, *_cells(rung), _told(rung)) for one in found for rung in one.rungs]


def _cells(rung: Rung) -> tuple[str, ...]:
    first = f"step {digits.plain(rung.first_step)}"
    return (
        rung.every,
        digits.plain(rung.points),
        first,
        digits.percent(rung.before_first),
        digits.percent(rung.peak),
    )


def _told(rung: Rung) -> str:
    if rung.flips:
        return digits.typeset(digits.joined(rung.flips))
    return "the same" if rung.truthful else "too late"

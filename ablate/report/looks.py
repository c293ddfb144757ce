"""The looks of a study that adds seeds until its variants are decided, on the page."""

from __future__ import annotations

from ablate import formatting as digits
from ablate.analysis.results import Analysis, LookMade
from ablate.formatting import per_cent
from ablate.report.markup import Markup, el, table_of


def looks_section(analysis: Analysis) -> Markup | None:
    """A row per declared look: its level, whom it stopped with which verdict, and who went on."""
    about = analysis.looks
    if about is None:
        return None
    head = ("seeds", "intervals", "stopped", "went on")
    return el(
        "section",
        el("h2", "Looked at while seeds were added"),
        el("div", table_of(head, (_row(one, analysis) for one in about.looks)), class_="wide"),
        *(el("p", digits.typeset(sentence), class_="key") for sentence in about.sentences),
        id="looks",
    )


def _row(one: LookMade, analysis: Analysis) -> Markup:
    assert analysis.looks is not None
    stopped = ", ".join(
        f"{arm}: {'no verdict' if verdict == 'none' else verdict}" for arm, verdict in one.stopped.items()
    )
    if not one.made:
        stopped = "not needed" if analysis.looks.over else "not made yet"
    return el(
        "tr",
        el("th", str(one.seeds), scope="row"),
        el("td", per_cent(one.level), class_="number"),
        el("td", stopped or digits.DASH),
        el("td", ", ".join(one.going) or digits.DASH),
    )

"""Of runs that were made elsewhere: what has to be read before any figure, and how often each curve was logged."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.results import Imported, Looked
from ablate.report.console import labelled, say
from ablate.report.markup import Markup, el

_HEAD = ("arm", "curve", "rows", "one every", "first", "last", "before the first look", "told by")


def alarm_lines(found: Imported | None) -> Iterator[tuple[str, str]]:
    """(label, sentence), most important first."""
    for label, sentence in found.alarms if found else ():
        yield label, digits.typeset(sentence)


def looked_lines(found: Imported | None) -> Iterator[str]:
    """What each curve cannot show; arms that were logged alike are named together."""
    alike: dict[str, list[str]] = {}
    for one in found.looked if found else ():
        alike.setdefault(one.sentence.removeprefix(f"{one.arm}: "), []).append(one.arm)
    for sentence, arms in alike.items():
        yield digits.typeset(f"{digits.joined(arms)}: {sentence}")


def print_alarms(found: Imported | None, console: Console) -> None:
    """Above the figures, because they are to be read by it."""
    for label, sentence in alarm_lines(found):
        say(console, label, "bold red")
        labelled(console, "", sentence, width=3)
    if found:
        console.print()


def print_looked(found: Imported | None, console: Console) -> None:
    """Below the controls: how often it was looked, curve by curve."""
    said = "\n".join(sentence for _, sentence in alarm_lines(found))
    for sentence in looked_lines(found):
        if sentence.partition(": ")[2] not in said:
            labelled(console, "looked", sentence, width=8)
    if found and found.looked:
        console.print()


def alarms(found: Imported | None) -> Markup | None:
    """The same on the page, under its head."""
    lines = [el("p", el("b", f"{label}. "), sentence, class_="alarm") for label, sentence in alarm_lines(found)]
    return el("div", *lines, class_="vouched") if lines else None


def imported_section(found: Imported | None) -> Markup | None:
    """Where the runs come from, and how often each curve was logged."""
    if found is None:
        return None
    head = el("tr", *(el("th", title, scope="col") for title in _HEAD))
    return el(
        "section",
        el("h2", "Made elsewhere: how often was it looked at?"),
        el(
            "div",
            el("table", el("thead", head), el("tbody", *(_row(one) for one in found.looked))),
            class_="wide",
        )
        if found.looked
        else None,
        el("ul", *(el("li", sentence) for sentence in looked_lines(found)), class_="findings"),
        *(el("p", digits.typeset(line), class_="key") for line in found.sources),
        id="imported",
    )


def _row(one: Looked) -> Markup:
    share = digits.percent(one.before_first)
    cells = (
        digits.plain(one.points),
        one.every,
        f"step {digits.plain(one.first_step)}",
        digits.plain(one.last_step),
        share,
    )
    return el(
        "tr",
        el("th", one.arm, scope="row"),
        el("td", one.curve),
        *(el("td", text, class_="number") for text in cells),
        el("td", one.told_by or digits.DASH),
    )

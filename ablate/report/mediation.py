"""What goes through a mediator: the same answer and table in a terminal, on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.design_results import HeldEffect, Mediated, MediatorMeasure
from ablate.analysis.mediation import share
from ablate.analysis.results import Analysis
from ablate.report.console import columns, labelled, say, words
from ablate.report.markup import Markup, el, figures_row, table_of
from ablate.stats.shapley import Contribution

HEAD = ("held", "effect left", "95 % interval", "goes through", "verdict")

KEY = (
    "Effect left: the treatment's effect between two arms that both have the mediator at this level. Goes through: the total "
    "less that, as a share of the total with Fieller's interval."
)
INTERVALS = "95 % each (paired t); with several levels held, that of all their claims together (Bonferroni)"
VERDICTS = {
    "all": "all of it",
    "some or all": "some or all of it",
    "part": "part of it",
    "not all": "not all of it",
    "none": "none of it",
    "against": "works against it",
    "beyond": "more than all of it",
    "inconclusive": "inconclusive",
    "not held": "NOT HELD",
    "none given": "none given",
}


def print_mediation(analysis: Analysis, console: Console) -> None:
    """The total, the table, and the mediator as it was measured; nothing for a study that holds none. What follows from it is
    said among the conclusions."""
    about = analysis.mediated
    if about is None:
        return
    say(console, digits.typeset(about.sentence), "bold" if not about.refused else "yellow")
    for one in about.held:
        if one.verdict == "not held":
            say(console, digits.typeset(one.sentence), "bold red")
    console.print()
    if about.total is not None and about.held:
        table = columns()
        table.show_header = True
        table.add_column("", overflow="fold", max_width=18)
        for head in HEAD[1:4]:
            table.add_column(head, justify="right", overflow="fold", header_style="dim")
        table.add_column("verdict", overflow="fold", header_style="dim")
        for row in rows(about):
            table.add_row(*(words(text, console) for text in row))
        console.print(table)
        console.print()
        labelled(console, "intervals", INTERVALS, width=12)
    for line in seen_lines(about):
        labelled(console, "measured", line, width=12)
    for line in about.left_out:
        labelled(console, "seeds", line, width=12, style="yellow")
    if about.labels and not about.refused:
        labelled(console, "seeds", f"{', '.join(about.labels)}: {digits.counted(len(about.seeds), 'seed')}", width=12)
    console.print()


def rows(about: Mediated) -> list[tuple[str, ...]]:
    """The total, then each level held."""
    return list(_rows(about))


def _rows(about: Mediated) -> Iterator[tuple[str, ...]]:
    if about.total is not None:
        yield ("total", *_figures(about.total), "", "")
    for one in about.held:
        yield (one.label, *_figures(one.left), _share(one), VERDICTS[one.verdict])


def _figures(one: Contribution | None) -> tuple[str, str]:
    if one is None:
        return digits.DASH, digits.DASH
    decimals = digits.effect_decimals(one.effect, one.low, one.high)
    return digits.number(one.effect, decimals), digits.interval(one.low, one.high, decimals)


def _share(one: HeldEffect) -> str:
    """No share where the mediator was not held: it would be one of something else."""
    if one.through is None or one.verdict == "not held":
        return digits.DASH
    return digits.typeset(share(one.through))


def seen_lines(about: Mediated) -> list[str]:
    """`grad noise of 8: median grad norm 1.9 → 0.7 as they are, 1.9 → 1.8 with it held`."""
    return [f"{one.label}: {_seen(each)}" for one in about.held for each in one.measures]


def _seen(each: MediatorMeasure) -> str:
    before, after, first, second = (
        digits.figure(value) for value in (each.baseline, each.treated, each.first, each.second)
    )
    return f"{each.what} {before} → {after} as they are, {first} → {second} with it held"


def section(analysis: Analysis) -> Markup | None:
    """On the page, above the contrasts of the arms."""
    about = analysis.mediated
    if about is None:
        return None
    made = table_of(HEAD, map(figures_row, rows(about)))
    lines = [el("li", text) for text in (*(digits.typeset(one.sentence) for one in about.held), *seen_lines(about))]
    return el(
        "section",
        el("h2", f"What goes through the mediator, in {about.metric}"),
        el("p", digits.typeset(about.sentence)),
        el("div", made, class_="wide") if about.total is not None and about.held else None,
        el("ul", *lines, *(el("li", line, class_="alarm") for line in about.left_out), class_="findings"),
        el("p", digits.typeset(about.limits)) if about.limits else None,
        el("p", f"{KEY} Intervals: {INTERVALS}.", class_="key") if about.held else None,
        id="mediation",
    )


def markdown(about: Mediated | None) -> tuple[str, list[tuple[str, ...]], list[str]] | None:
    """Heading, table and lines for `report.md`; None for a study that holds no mediator."""
    if about is None:
        return None
    return "## What goes through the mediator", rows(about), [*seen_lines(about), *about.left_out]

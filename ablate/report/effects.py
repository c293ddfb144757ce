"""Axes that were moved together: the same tables in a terminal, on the page and in Markdown; what a plan says of its design."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.cells import SIGNIFICANT
from ablate.analysis.design_results import CellEffect, Effects, PartRead
from ablate.analysis.results import Analysis
from ablate.design import factorial as fraction
from ablate.design.factorial import Cells
from ablate.design.plan import Plan
from ablate.report.console import STYLES, columns, labelled, say, words
from ablate.report.markup import Markup, el, table_of

HEAD = ("effect of", "effect", "95 % interval", "verdict", "p")
PART_HEAD = ("part", "it is", "alone", "95 % interval", "most, beside another part")

TONES = {
    "helps": "good",
    "hurts": "bad",
    "raises": "moved",
    "lowers": "moved",
    "interact": "moved",
    "equivalent": "still",
    "inconclusive": "open",
    "none": "broken",
    "matters": "moved",
    "redundant": "good",
    "dead": "still",
}
ALARMS = ("seeds", "none")
_TITLES = {
    "factorial": "Main effects and interactions",
    "fractional": "Main effects and interactions, mixed up as said",
    "pairwise": "Dead, redundant, or of use",
}


def print_effects(analysis: Analysis, console: Console) -> None:
    """The table of a study that moves several axes at once; nothing of any other."""
    about = analysis.effects
    if about is None:
        return
    say(console, f"{title(about)}: {about.metric}", "bold")
    if about.parts:
        _print_rows(
            PART_HEAD, [part_row(part) for part in about.parts], [TONES[part.word] for part in about.parts], console
        )
    elif about.effects:
        rows = shown(about)
        _print_rows(HEAD, [row(one) for one in rows], [TONES[one.verdict] for one in rows], console)
    before = ""
    for label, text in lines(about):
        style = "yellow" if label in ALARMS else ""
        labelled(console, label if label != before else "", digits.typeset(text), width=10, style=style)
        before = label
    console.print()


def print_design(plan: Plan, console: Console) -> None:
    """How many arms of how many a plan takes, and which effects cannot be told apart by it."""
    cells = plan.crossed
    if cells is None:
        return
    for label, text in design_lines(cells):
        labelled(console, label, digits.typeset(text), width=10)


def design_lines(cells: Cells) -> Iterator[tuple[str, str]]:
    """(label, sentence) of a design."""
    arms = len(cells.arms)
    if cells.kind == "pairwise":
        count = len(cells.names)
        pairs, every = arms - 1 - count, count * (count - 1) // 2
        some = (
            f"{pairs} of their {every} pairs, the others cannot be combined"
            if pairs < every
            else f"their {every} pairs"
        )
        yield "design", f"pairs: {count} changes, each alone, and {some}: {arms} arms"
        return
    if not cells.generators:
        levels = " x ".join(str(len(words)) for words in cells.levels)
        yield "design", f"factorial: all {arms} combinations ({levels}) of {digits.joined(cells.names)}"
        return
    yield (
        "design",
        f"fractional, of resolution {cells.resolution}: {arms} of the {cells.full} arms of all combinations of "
        f"{digits.joined(cells.names)}; effects are mixed up, and an effect means its sum:",
    )
    for sentence in fraction.aliases(cells.names, cells.generators):
        yield "", sentence


def title(about: Effects) -> str:
    """`Main effects and interactions`."""
    return _TITLES[about.kind]


def shown(about: Effects) -> list[CellEffect]:
    """Main effects and interactions of two; higher ones that are told."""
    return [one for one in about.effects if len(one.axes) < 3 or one.verdict == "interact"]


def row(one: CellEffect) -> tuple[str, ...]:
    """As `HEAD` says; p last."""
    decimals = _decimals(one)
    return (
        digits.typeset(one.name),
        digits.number(one.effect, decimals),
        digits.interval(one.low, one.high, decimals),
        _verdict(one),
        digits.p_value(one.p_value),
    )


def part_row(part: PartRead) -> tuple[str, ...]:
    """As `PART_HEAD` says."""
    alone, most = part.alone, part.most
    decimals = _decimals(alone)
    beside = digits.DASH
    if most is not None:
        figure = digits.signed(digits.number(most.effect, _decimals(most)))
        beside = f"{figure} beside {most.axes[1]}: {'no verdict' if most.verdict == 'none' else most.verdict}"
    remark = f" {', '.join(alone.labels)}" if alone.labels else ""
    return (
        part.name,
        f"{'no word' if part.word == 'none' else part.word}{remark}",
        digits.number(alone.effect, decimals),
        digits.interval(alone.low, alone.high, decimals),
        beside,
    )


def lines(about: Effects) -> Iterator[tuple[str, str]]:
    """(label, sentence) of what belongs to the table: averages, what is mixed up, what is missing."""
    if about.refused:
        yield "none", f"no effects, because {about.refused}"
    for one in about.effects:
        if one.average and one.verdict not in SIGNIFICANT:  # of those that are told the conclusions say it
            yield "average", f"{one.name} is {one.average}"
    high = [one for one in about.effects if len(one.axes) > 2]
    told = [one for one in high if one.verdict == "interact"]
    if len(high) > len(told):
        yield "higher", f"{digits.counted(len(high) - len(told), 'interaction')} of three axes and more not told from 0"
    for sentence in about.aliases:
        yield "mixed", sentence
    for sentence in about.left_out:
        yield "seeds", sentence


def section(analysis: Analysis) -> Markup | None:
    """On the page, above the contrasts of the single arms."""
    about = analysis.effects
    if about is None:
        return None
    every = [(row(one), one.verdict) for one in about.effects]
    parts = [(part_row(part), part.word) for part in about.parts]
    tables = [_table(PART_HEAD, parts)] if parts else []
    if parts:
        tables.append(el("details", el("summary", f"All {len(every)} effects, alone and beside"), _table(HEAD, every)))
    elif every:
        tables.append(_table(HEAD, every))
    said = [el("li", digits.typeset(text), class_="alarm" if label in ALARMS else None) for label, text in lines(about)]
    return el(
        "section",
        el("h2", f"{title(about)} on {about.metric}"),
        *(el("div", table, class_="wide") for table in tables),
        el("ul", *said, class_="findings") if said else None,
        el("p", digits.typeset(key(about)), class_="key"),
        id="effects",
    )


def key(about: Effects) -> str:
    """What the figures are."""
    how = (
        f"Intervals: 95 %, simultaneous over all {about.family} effects; seed-blocked model of all {len(about.cells)} arms, "
        "and the seeds' own values must agree. "
    )
    if about.kind == "pairwise":
        return how + (
            "Alone: this arm against the baseline. Beside: what the same change does where another part is changed already. "
            "Dead: no effect alone and none beside any other. Redundant: none alone, and one beside another. No effect has to "
            "be earned: two one-sided tests inside the smallest effect that matters."
        )
    return how + (
        "Main effect: an axis's level against the baseline's, over all levels of the other axes. Interaction of axes with two "
        "levels: how far the effect of the one, at either level of the other, lies from its main effect."
    )


def _verdict(one: CellEffect) -> str:
    verdict = "no verdict" if one.verdict == "none" else one.verdict
    remarks = [f"about {one.seeds_needed} seeds"] if one.verdict == "inconclusive" and one.seeds_needed else []
    remarks += [*one.labels, *(["an average"] if one.average else [])]
    return f"{verdict} {', '.join(remarks)}".rstrip()


def _decimals(one: CellEffect) -> int:
    return 2 if one.effect is None else digits.effect_decimals(one.effect, one.low, one.high)


def _print_rows(head: Sequence[str], rows: Sequence[tuple[str, ...]], tones: Sequence[str], console: Console) -> None:
    """The first column and the words fold, numbers never do."""
    table = columns()
    table.show_header = True
    for place, name in enumerate(head):
        number = all(not any(letter.isalpha() for letter in cells[place]) for cells in rows)
        if place == 0:
            table.add_column(name, overflow="fold", max_width=26, header_style="dim")
        elif number or name in ("p", "effect", "alone"):
            table.add_column(name, justify="right", no_wrap=True, header_style="dim")
        else:
            table.add_column(name, overflow="fold", header_style="dim")
    verdict = 1 if head is PART_HEAD else 3
    for cells, tone in zip(rows, tones, strict=True):
        styled = [words(text, console, STYLES[tone] if place == verdict else "") for place, text in enumerate(cells)]
        table.add_row(*styled)
    console.print(table)


def _table(head: Sequence[str], rows: Sequence[tuple[tuple[str, ...], str]]) -> Markup:
    verdict = 1 if head is PART_HEAD else 3
    body = []
    for cells, word in rows:
        made = [el("th", cells[0], scope="row")]
        for place, text in enumerate(cells[1:], 1):
            inside = el("span", text, class_=f"word {TONES[word]}") if place == verdict else text
            made.append(el("td", inside, class_=None if place == verdict else "number"))
        body.append(el("tr", *made))
    return table_of(head, body)

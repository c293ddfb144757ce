"""Which key makes how much of the difference between two configs: the same table in a terminal, on the page and in Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.design_results import Attribution, KeyMoved
from ablate.analysis.results import Analysis
from ablate.design.axis import show
from ablate.report.console import columns, labelled, say, words
from ablate.report.markup import Markup, el, figures_row, table_of
from ablate.stats.shapley import Contribution

HEAD = ("", "alone", "95 % interval", "share", "with its part of the interaction")

KEY = (
    "Alone: from the first config, only this key moved to the second's value. Interaction: what the keys do only "
    "together. Both columns of shares add up to 100 %; the second divides the interaction evenly among the keys (Shapley). "
    "Intervals: 95 %, over seeds, of each figure by itself."
)


def print_attribution(analysis: Analysis, console: Console) -> None:
    """The answer, its table, and which key is what; nothing for a study that is not one between two configs."""
    about = analysis.attribution
    if about is None:
        return
    say(console, digits.typeset(about.sentence), "bold" if not about.refused else "yellow")
    console.print()
    if about.total is not None:
        table = columns()
        table.show_header = True
        table.add_column("", overflow="fold", max_width=22)
        for head in ("alone", "95 % interval", "share", "divided evenly"):
            table.add_column(head, justify="right", overflow="fold", header_style="dim")
        for row in rows(about):
            table.add_row(*(words(text, console) for text in row))
        console.print(table)
        console.print()
    for key in about.keys:
        labelled(console, "key", key_line(key), width=10)
    for line in about.left_out:
        labelled(console, "seeds", line, width=10, style="yellow")
    console.print()


def print_shares_json(analysis: Analysis) -> None:
    """The answer for a program to read, of a study between two configs or one that holds a mediator; `null` for any other."""
    about = analysis.attribution or analysis.mediated
    value = None if about is None else {"study": analysis.study, "complete": analysis.complete, **asdict(about)}
    print(json.dumps(finite(value), indent=2))


def rows(about: Attribution) -> list[tuple[str, ...]]:
    """Name, effect, interval, share, share of the even division; the interaction and the total last."""
    return list(_rows(about))


def _rows(about: Attribution) -> Iterator[tuple[str, ...]]:
    even = {part.name: part for part in about.shapley}
    last = [part for part in (about.interaction, about.total) if part is not None]
    for part in (*about.alone, *last):
        decimals = digits.effect_decimals(part.effect, part.low, part.high)
        interval = digits.interval(part.low, part.high, decimals)
        whole = part is about.total and not about.refused
        shares = ("100 %", "100 %") if whole else (_share(part), _share(even[part.name]) if part.name in even else "")
        yield (part.name, digits.number(part.effect, decimals), interval, *shares)


def _share(part: Contribution) -> str:
    """`92 % (80 to 104)`: shares lie beyond 0 and 100 where keys work against each other."""
    if part.share is None:
        return digits.DASH
    share, low, high = (_percent(value) for value in (part.share, part.share_low, part.share_high))
    return f"{share} %" + (f" ({low} to {high})" if part.share_low is not None else "")


def _percent(value: float | None) -> str:
    return digits.number(None if value is None else 100 * value, 0)


def key_line(key: KeyMoved) -> str:
    """`batch_size: data.batch_size 8 → 64; with it come total_steps 128 → 16`."""
    moves = ", ".join(f"{name} {show(before)} → {show(after)}" for name, (before, after) in key.moves.items())
    brings = ", ".join(f"{name} {_plain(before)} → {_plain(after)}" for name, (before, after) in key.brings.items())
    return f"{key.name}: {moves}" + (f"; with it come {brings}" if brings else "")


def _plain(value: object) -> str:
    return digits.plain(value) if isinstance(value, int | float) else str(value)


def finite(value: object) -> object:
    """NaN and infinity, which JSON does not have, as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def section(analysis: Analysis) -> Markup | None:
    """On the page, above the contrasts of the corners."""
    about = analysis.attribution
    if about is None:
        return None
    made = table_of(HEAD, map(figures_row, rows(about)))
    keys = [el("li", key_line(key)) for key in about.keys]
    return el(
        "section",
        el("h2", f"What makes the difference in {about.metric}"),
        el("p", digits.typeset(about.sentence)),
        el("div", made, class_="wide") if about.total is not None else None,
        el("ul", *keys, *(el("li", line, class_="alarm") for line in about.left_out), class_="findings"),
        el("p", f"{KEY} {digits.typeset(about.shapley_sentence)}", class_="key"),
        id="shares",
    )

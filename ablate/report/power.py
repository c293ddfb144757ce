"""What `ablate power` prints: what each number of seeds can show, and how many decide."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from rich.console import Console

from ablate import formatting as digits
from ablate.report.console import columns, labelled, say, words

if TYPE_CHECKING:
    from ablate.analysis.power import Power

FEW = 20
"""Below so many degrees of freedom the sd's uncertainty changes a plan; it is said above it, too."""


def print_power(found: Power, console: Console) -> None:
    """The spread, a line per number of seeds, then the answer and how sure it is."""
    unit = f" {found.unit}" if found.unit else ""
    what = found.metric or "the outcome"
    title = words(f"{what}  ", console, "bold")
    over = f"{digits.counted(found.variants, 'variant')} beside the baseline, intervals at {100 * found.level:g} %"
    title.append_text(words(over, console))
    console.print(title, highlight=False)
    say(console, found.spread.basis)
    say(console, _residual(found, unit))
    console.print()
    table = columns()
    table.show_header = True
    effect = None if found.effect is None else digits.plain(found.effect)
    heads = ["seeds", f"smallest effect found in {_share(found.chance)}"]
    heads += [] if effect is None else [f"{effect} is found in", "no effect is told as such in"]
    for head in heads:
        table.add_column(head, justify="right", overflow="fold", header_style="dim", max_width=21)
    for row in found.rows:
        cells = [str(row.seeds), f"{digits.figure(row.detectable, 2)}{unit}"]
        cells += [] if effect is None else [digits.percent(row.finds), digits.percent(row.equals)]
        table.add_row(*(words(cell, console) for cell in cells))
    console.print(table)
    console.print()
    labelled(console, "decides", _decides(found, unit), width=10)
    if found.spread.low is not None:
        style = "yellow" if found.spread.df < FEW else ""
        labelled(console, "how sure", how_sure(found, unit), width=10, style=style)


def print_power_json(found: Power) -> None:
    """The same for a program to read."""
    print(json.dumps(found.to_json(), indent=2))


def _residual(found: Power, unit: str) -> str:
    spread = found.spread
    rho = "" if spread.rho is None else f"; rho between arms over seeds {digits.number(spread.rho, 2)}"
    return f"residual sd {digits.figure(spread.sd, 2)}{unit} (of a run, after its arm and its seed are taken out){rho}"


def _decides(found: Power, unit: str) -> str:
    if found.effect is None:
        return "no effect was said to matter, so no number of seeds decides: --smallest-effect <the smallest one that would matter>"
    share = _share(found.chance)
    what = f"{digits.plain(found.effect)}{unit}"
    if found.needed is None:
        return f"more than 1,000 seeds for {what}: a larger effect has to matter, or a calmer outcome be the metric"
    return (
        f"{digits.counted(found.needed, 'seed')}: an effect of {what} is found in {share} of studies, and where there is "
        f"none, `no effect` is said in {share}"
    )


def how_sure(found: Power, unit: str) -> str:
    """What the uncertainty of the pilot's sd makes of the answer."""
    spread = found.spread
    low, high = digits.figure(spread.low, 2), digits.figure(spread.high, 2)
    text = (
        f"with {digits.counted(spread.df, 'degree')} of freedom the true residual sd lies between {low} and {high}{unit} "
        "(95 %, chi-square)"
    )
    if found.effect is None:
        return text
    ends = _number(found.needed_low), _number(found.needed_high)
    return f"{text}, so {ends[0]} to {ends[1]} seeds" if ends[0] != ends[1] else f"{text}: still {ends[0]} seeds"


def _number(seeds: int | None) -> str:
    return "more than 1,000" if seeds is None else f"{seeds:,}"


def _share(chance: float) -> str:
    return f"{digits.number(100 * chance, 0 if math.isclose(100 * chance, round(100 * chance)) else 1)} %"

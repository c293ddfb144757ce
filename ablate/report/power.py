"""Output of `ablate power`: the minimum detectable effect per number of seeds, and how many seeds decide."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console

from ablate import formatting as fmt
from ablate.report.console import columns, labelled, say, words

if TYPE_CHECKING:
    from ablate.analysis.power import Power

FEW = 20
"""Degrees of freedom below which the uncertainty of the sd is highlighted."""


def print_power(power: Power, console: Console) -> None:
    """Print the residual sd, one line per number of seeds, the answer and its uncertainty."""
    unit = f" {power.unit}" if power.unit else ""
    what = power.metric or "the outcome"
    title = words(f"{what}  ", console, "bold")
    over = f"{fmt.counted(power.variants, 'variant')} and the baseline, intervals at {100 * power.level:g}%"
    title.append_text(words(over, console))
    console.print(title, highlight=False)
    say(console, power.spread.basis)
    say(console, _residual(power, unit))
    console.print()
    table = columns()
    table.show_header = True
    effect = None if power.effect is None else fmt.plain(power.effect)
    heads = ["seeds", f"minimum detectable effect, {_share(power.chance)} power"]
    heads += [] if effect is None else [f"power for {effect}", "power for `equivalent`"]
    for head in heads:
        table.add_column(head, justify="right", overflow="fold", header_style="dim", max_width=21)
    for row in power.rows:
        cells = [str(row.seeds), f"{fmt.figure(row.detectable, 2)}{unit}"]
        cells += [] if effect is None else [fmt.percent(row.finds), fmt.percent(row.equals)]
        table.add_row(*(words(cell, console) for cell in cells))
    console.print(table)
    console.print()
    labelled(console, "decides", _decides(power, unit), width=10)
    if power.spread.low is not None:
        style = "yellow" if power.spread.df < FEW else ""
        labelled(console, "range", how_sure(power, unit), width=10, style=style)


def _residual(power: Power, unit: str) -> str:
    spread = power.spread
    rho = "" if spread.rho is None else f"; rho between arms over seeds {fmt.number(spread.rho, 2)}"
    return f"residual sd {fmt.figure(spread.sd, 2)}{unit} (of a run, after its arm and its seed are taken out){rho}"


def _decides(power: Power, unit: str) -> str:
    if power.effect is None:
        return "without a smallest effect of interest no number of seeds decides: --smallest-effect <value>"
    share = _share(power.chance)
    what = f"{fmt.plain(power.effect)}{unit}"
    if power.needed is None:
        return f"more than 1,000 seeds for {what}: raise --smallest-effect, or use a metric with less variance"
    return (
        f"{fmt.counted(power.needed, 'seed')}: an effect of {what} is significant in {share} of studies, and without an "
        f"effect the verdict is `equivalent` in {share}"
    )


def how_sure(power: Power, unit: str) -> str:
    """Return how the uncertainty of the pilot's sd changes the answer."""
    spread = power.spread
    low, high = fmt.figure(spread.low, 2), fmt.figure(spread.high, 2)
    text = (
        f"with {fmt.counted(spread.df, 'degree')} of freedom the true residual sd is between {low} and {high}{unit} "
        "(95%, chi-square)"
    )
    if power.effect is None:
        return text
    ends = _number(power.needed_low), _number(power.needed_high)
    return f"{text}, so {ends[0]} to {ends[1]} seeds" if ends[0] != ends[1] else f"{text}: still {ends[0]} seeds"


def _number(seeds: int | None) -> str:
    return "more than 1,000" if seeds is None else f"{seeds:,}"


def _share(chance: float) -> str:
    return f"{fmt.number(100 * chance, 0 if math.isclose(100 * chance, round(100 * chance)) else 1)}%"

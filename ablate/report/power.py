"""Output of `ablate power`: the minimum detectable effect per number of seeds, and how many seeds decide."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.console import Console

from ablate import formatting as fmt
from ablate.analysis.power import sd_interval
from ablate.analysis.results import Contrast
from ablate.report.console import heading, labelled, print_table, say
from ablate.stats.power import MAX_SEEDS, POWER, detection_power, seeds_to_decide

if TYPE_CHECKING:
    from ablate.analysis.power import Power

FEW = 20
"""Degrees of freedom below which the uncertainty of the sd is highlighted."""


def print_power(power: Power, console: Console) -> None:
    """Print the residual sd, one line per number of seeds, the answer and its uncertainty."""
    unit = f" {power.unit}" if power.unit else ""
    what = power.metric or "the outcome"
    over = f"{fmt.counted(power.variants, 'variant')} and the baseline, intervals at {100 * power.level:g}%"
    heading(console, what, over)
    say(console, power.spread.basis)
    say(console, _residual(power, unit))
    console.print()
    effect = None if power.effect is None else fmt.plain(power.effect)
    heads = ["seeds", f"minimum detectable effect, {_share(power.chance)} power"]
    heads += [] if effect is None else [f"power for {effect}", "power for `equivalent`"]
    rows = [[str(row.seeds), f"{fmt.figure(row.detectable, 2)}{unit}"] for row in power.rows]
    if effect is not None:
        rows = [
            [*cells, fmt.percent(row.finds), fmt.percent(row.equals)]
            for cells, row in zip(rows, power.rows, strict=True)
        ]
    print_table(heads, rows, console, numbers=range(len(heads)), widths=dict.fromkeys(range(len(heads)), 21))
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
    return f"more than {MAX_SEEDS:,}" if seeds is None else f"{seeds:,}"


def _share(chance: float) -> str:
    return f"{fmt.number(100 * chance, 0 if math.isclose(100 * chance, round(100 * chance)) else 1)}%"


# A finished study.


def seeds_needed(one: Contrast, margin: float, metric: str) -> str:
    """Return the seeds that a contrast needs at 80% power: to find an effect of its size, and to settle `margin`.

    Both from the contrast's own error, and each with the range that the 95% interval of its sd leaves. Empty where no error
    was measured.
    """
    if not (one.error and one.df and one.effect and one.seeds):
        return ""
    measured = one.error * math.sqrt(len(one.seeds) / 2)
    low, high = sd_interval(measured, one.df)
    found, settled = (
        _range(*(fewest(sd, size, one.family) for sd in (measured, low, high)))
        for fewest, size in ((_seeds_to_find, abs(one.effect)), (seeds_to_decide, margin))
    )
    size = fmt.figure(abs(one.effect), 2)
    return f"seeds to find a true effect of {size}: {found}; to settle whether {metric} moves by {margin:g}: {settled}"


def _range(seeds: int | None, low: int | None, high: int | None) -> str:
    return _number(seeds) if low == high else f"{_number(seeds)} ({_number(low)} to {_number(high)})"


@lru_cache(maxsize=4096)
def _seeds_to_find(sd: float, effect: float, variants: int) -> int | None:
    """Return the fewest seeds with which a true effect of this size is significant in 80% of studies; None above the most."""
    numbers = range(2, MAX_SEEDS + 1)
    found = bisect_left(numbers, True, key=lambda seeds: detection_power(seeds, variants, effect, sd) >= POWER)
    return numbers[found] if found < len(numbers) else None

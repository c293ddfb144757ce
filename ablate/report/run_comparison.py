"""Output of `ablate diff` and `ablate compare`: differences of two runs, their metrics and curves, and the conclusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ablate import formatting as fmt
from ablate.analysis.run_comparison import Comparison, Differing, OneRun, Pair, RunDiff, TwinCurve
from ablate.controls.fingerprint_match import short
from ablate.design.axis import show
from ablate.report.console import labelled, print_table, say

Array = NDArray[np.float64]
_SPARK = 36
_BLOCKS = "▁▂▃▄▅▆▇█"
_FEW = 6
_FEW_OUTCOMES = 12


def print_diff(diff: RunDiff, console: Console) -> None:
    """Print the differences, group by group; then what is equal."""
    _heads(diff, console)
    groups = {"config": diff.config, "data": diff.data, "environment": diff.environment, "code": diff.code}
    for name, every in groups.items():
        _group(name, [one for one in every if one.counts], console)
    _fingerprint(diff.fingerprint, console)
    rest = [one for every in groups.values() for one in every if not one.counts]
    if rest:
        _group("without effect on the result", rest, console)
    if diff.same:
        say(console, "equal: config, seed, data, environment, code and fingerprint", "bold green")
    if diff.equal:
        labelled(console, "equal", ", ".join(diff.equal), width=10, style="dim")
    for line in diff.unknown:
        labelled(console, "unknown", line, width=10, style="yellow")


def print_comparison(comparison: Comparison, console: Console, *, every: bool = False) -> None:
    """Print metrics, curves, differences and conclusions. every: all metrics, not the first dozen."""
    _heads(comparison.diff, console)
    console.print()
    _outcomes(comparison.outcomes, console, every=every)
    _curves(comparison.curves, console)
    _brief(comparison.diff, console)
    console.print()
    for sentence in comparison.says:
        labelled(console, "•", fmt.typeset(sentence), width=2)


def _heads(diff: RunDiff, console: Console) -> None:
    for label, run in (("first", diff.first), ("second", diff.second)):
        labelled(console, label, _head(run), width=8)


def _head(run: OneRun) -> str:
    parts = [run.named, f"{run.arm}, seed {run.seed}", run.status]
    if run.steps is not None:
        samples = "" if run.samples is None else f", {fmt.plain(run.samples)} samples"
        parts.append(f"{fmt.counted(run.steps, 'step')}{samples}")
    return "  ".join(parts)


def _group(name: str, every: Sequence[Differing], console: Console) -> None:
    if not every:
        return
    say(console, name, "bold")
    print_table((), [("", one.key, _value(one.first), _value(one.second)) for one in every], console)


def _fingerprint(every: Sequence[Differing], console: Console) -> None:
    """By item; of one with many leaves, the first few."""
    counts = Counter(one.key.partition(".")[0] for one in every)
    shown: list[Differing] = []
    more = []
    for item, count in counts.items():
        mine = [one for one in every if one.key.partition(".")[0] == item]
        shown += mine[:_FEW]
        if count > _FEW:
            more.append(f"{count - _FEW} more of {item}")
    _group("fingerprint", shown, console)
    if more:
        labelled(console, "", f"and {fmt.joined(more)} (--json has all)", width=3, style="dim")


def _value(value: object) -> str:
    return short(value) if isinstance(value, str | float) else show(value)


def _outcomes(pairs: Sequence[Pair], console: Console, *, every: bool) -> None:
    shown = pairs if every else pairs[:_FEW_OUTCOMES]
    if not shown:
        return
    rows = []
    for one in shown:
        unit = f" ({one.info.unit})" if one.info.unit else ""
        figures = (fmt.figure(one.first), fmt.figure(one.second), fmt.signed(fmt.figure(one.difference)))
        rows.append((f"{one.info.name}{unit}", *figures, _side(one)))
    print_table(("metric", "first", "second", "difference", "second is"), rows, console, numbers=(1, 2, 3))
    if len(shown) < len(pairs):
        say(console, f"{len(pairs) - len(shown)} more metrics: --all", "dim")
    console.print()


def _side(one: Pair) -> str:
    if one.difference is None:
        return fmt.DASH
    if one.difference == 0:
        return "equal"
    if one.info.lower_is_better is None:
        return "higher" if one.difference > 0 else "lower"
    return "better" if (one.difference < 0) == one.info.lower_is_better else "worse"


def _curves(curves: Sequence[TwinCurve], console: Console) -> None:
    """Both on one scale and over the same samples; the highest value of each stretch, so that spikes stay."""
    rows = []
    for curve in curves:
        values = [one[1][np.isfinite(one[1])] for one in (curve.first, curve.second)]
        if not all(len(one) for one in values):
            continue
        low = 0.0 if curve.name == "grad norm" else min(float(one.min()) for one in values)
        high = max(float(one.max()) for one in values)
        last = max(float(one[0][-1]) for one in (curve.first, curve.second))
        for which, one in (("first", curve.first), ("second", curve.second)):
            spark = "".join(_block(value - low, high - low) for value in _buckets(*one, last, _SPARK))
            ends = f"{fmt.figure(float(one[1][0]))} → {fmt.figure(float(one[1][-1]))}"
            rows.append((curve.name if which == "first" else "", which, spark, ends))
    print_table((), rows, console)
    if rows:
        console.print()


def _block(value: float, top: float) -> str:
    """Return a block as high as the value between 0 and top; blank where there is none."""
    if not np.isfinite(value):
        return " "
    return _BLOCKS[min(len(_BLOCKS) - 1, max(0, int(len(_BLOCKS) * value / top) if top > 0 else 0))]


def _buckets(samples: Array, values: Array, last: float, count: int) -> Array:
    """The highest value of each of `count` stretches of 0 to `last` samples; between two rows the later; nan after the end."""
    found = np.full(count, np.nan)
    if not len(samples) or last <= 0:
        return found
    bucket = np.clip(np.ceil(samples / last * count).astype(int) - 1, 0, count - 1)
    for number in range(int(bucket[-1]) + 1):
        mine = values[bucket == number]
        mine = mine[np.isfinite(mine)]
        if len(mine):
            found[number] = mine.max()
    for number in reversed(range(int(bucket[-1]))):
        if np.isnan(found[number]):
            found[number] = found[number + 1]
    return found


def _brief(diff: RunDiff, console: Console) -> None:
    """A line per group: what differs, the first few by name and value; then what is equal."""
    groups = {"config": diff.config, "data": diff.data, "machine": diff.environment, "code": diff.code}
    for name, every in groups.items():
        if counting := [one for one in every if one.counts]:
            moves = _few([f"{one.key} {_value(one.first)} → {_value(one.second)}" for one in counting])
            labelled(console, name, moves, width=10)
    items = list(dict.fromkeys(one.key.partition(".")[0] for one in diff.fingerprint))
    if items:
        labelled(console, "unequal", f"{', '.join(items)} (`ablate diff` has the values)", width=10)
    if diff.equal:
        labelled(console, "equal", ", ".join(diff.equal), width=10)
    rest = [one.key for every in (diff.config, diff.environment) for one in every if not one.counts]
    if rest:
        labelled(console, "besides", f"{_few(rest)}: differ without effect on the result", width=10, style="dim")
    for line in diff.unknown:
        labelled(console, "unknown", line, width=10, style="yellow")


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _FEW} more" if len(texts) > _FEW else ""
    return f"{', '.join(texts[:_FEW])}{more}"

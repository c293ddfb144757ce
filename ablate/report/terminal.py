"""A study's result in a terminal of 80 columns, and as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ablate import formatting as digits
from ablate.analysis.analyse import named as file_named
from ablate.analysis.results import Analysis, ReplayedLevel
from ablate.report.adequacy import brief
from ablate.report.attribution import print_attribution
from ablate.report.budgets import print_budgets
from ablate.report.console import STYLES, columns, folded, labelled, say, whole_line, widest, words
from ablate.report.curves import read_curves
from ablate.report.effects import print_effects
from ablate.report.examples import print_examples
from ablate.report.imported import print_alarms, print_looked
from ablate.report.mediation import print_mediation
from ablate.report.sparklines import scale, sparkline, strip
from ablate.report.variance import print_variance
from ablate.report.view import Row, View, interval_head, level_name, looked_differently, make_view, named

_STRIP = 15
_SPARK, _SHORT_SPARK = 18, 16
_LEAST_VERDICT = 11


def print_report(analysis: Analysis, folder: Path, console: Console) -> None:
    """Table, controls, conclusions and the page's path, in that order: the last lines are what a person wants to know."""
    view = make_view(analysis)
    _header(view, console)
    print_alarms(analysis.imported, console)
    print_attribution(analysis, console)
    print_mediation(analysis, console)
    print_effects(analysis, console)
    print_variance(analysis, console)
    name_width = _contrasts(view, console)
    _replays(view, console, name_width)
    console.print()
    _summary(view, folder, console)
    console.print()
    _controls(view, console)
    _troubles(view, console)
    console.print()
    print_looked(analysis.imported, console)
    for sentence in view.conclusions:
        labelled(console, "•", sentence, width=2)
    print_examples(analysis, console)
    if line := brief(analysis.adequacy):
        labelled(console, "•", line, width=2)
    console.print()
    whole_line(console, f"page  {folder / file_named(analysis, 'report.html')}")


def print_replay(levels: Sequence[ReplayedLevel], console: Console) -> None:
    """What a run at each cadence would have shown: the curve it would have logged, and what that hides."""
    for level in levels:
        say(console, f"{level_name(level)}: {digits.counted(level.looks, 'look')}", "bold")
        say(console, level.sentence, indent=4)
        grid = columns()
        for _ in range(3):
            grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(*(words(text, console, "dim") for text in ("  step", "samples", "mean of seeds", "")))
        for step, samples, value, bar in _looks(level):
            cells = (f"  {digits.plain(step)}", digits.plain(samples), digits.figure(value, 4), bar)
            grid.add_row(*(words(text, console) for text in cells))
        console.print(grid)
        console.print()


def _looks(level: ReplayedLevel, width: int = 24) -> list[tuple[float, float, float, str]]:
    """(step, samples, mean over seeds, bar) per look; seeds that broke off count as far as all of them came."""
    most = min((len(curve) for curve in level.curve), default=0)
    if most == 0:
        return []
    values = np.asarray([[point[2] for point in curve[:most]] for curve in level.curve]).mean(axis=0)
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    bars = ["─" * round(width * value / top) if np.isfinite(value) and top > 0 else "" for value in values]
    points = level.curve[0][:most]
    return [(p[0], p[1], float(v), bar) for p, v, bar in zip(points, values, bars, strict=True)]


def _header(view: View, console: Console) -> None:
    analysis = view.analysis
    title = words(f"{analysis.study}  ", console, "bold")
    title.append_text(words(view.heading, console))
    console.print(title, highlight=False)
    say(
        console,
        f"metric {named(view.metric)}, {view.direction}; smallest effect that matters {analysis.smallest_effect:g}",
    )
    if not analysis.complete:
        say(console, "NOT COMPLETE: runs of the plan are missing; what follows is what is there so far", "yellow")
    print_budgets(analysis, console)
    console.print()


def _contrasts(view: View, console: Console) -> int:
    """The table of contrasts. Returns the width of its first column. Where numbers would be cut, the strip goes first."""
    rows = view.primary
    names = [row.arm.change for row in rows] + list(view.replays)
    numbers = widest([row.effect for row in rows] + ["effect"]) + widest(
        [row.interval for row in rows] + [interval_head(view)]
    )
    name_width = min(widest(names), max(12, console.width - numbers - _STRIP - _LEAST_VERDICT - 14), 28)
    strips = console.width >= name_width + numbers + _STRIP + _LEAST_VERDICT + 8
    table = columns()
    table.show_header = True
    table.add_column("", width=name_width, overflow="fold")
    table.add_column("effect", justify="right", no_wrap=True, header_style="dim")
    table.add_column(interval_head(view), justify="right", no_wrap=True, header_style="dim")
    if strips:
        table.add_column("seeds", no_wrap=True, header_style="dim", width=_STRIP)
    table.add_column("verdict", overflow="fold", header_style="dim")
    low, high = scale([row.contrast for row in rows])
    for row in rows:
        picture = strip(row.contrast, low, high, _STRIP)
        _contrast(row, folded(row.arm.change, name_width), table, picture if strips else None, console)
    if rows:
        console.print(table)
    return name_width


def _contrast(row: Row, name: str, table: Table, picture: str | None, console: Console) -> None:
    verdict = words(row.verdict, console, STYLES[row.tone])
    if row.remark:
        verdict.append_text(words(f" {row.remark}", console, "dim"))
    cells = [words(text, console) for text in (name, row.effect, row.interval)]
    cells += [words(picture, console)] if picture is not None else []
    table.add_row(*cells, verdict)


def _replays(view: View, console: Console, name_width: int) -> None:
    grid = columns()
    grid.add_column(width=name_width, overflow="fold")
    grid.add_column(overflow="fold")
    for axis, levels in view.replays.items():
        style = "" if all(level.same_trajectory for level in levels) else "bold red"
        grid.add_row(words(axis, console), words(looked_differently(levels), console, style))
    for arm, sentence in view.repeated.items():
        grid.add_row(words(arm, console), words(sentence, console))
    if view.replays or view.repeated:
        console.print(grid)


def _summary(view: View, folder: Path, console: Console) -> None:
    """Means over seeds of the few outcomes that a narrow table holds, with the gradient norm as a sparkline, and the floors."""
    outcomes = view.summary
    gaps = view.analysis.imported is not None  # the highest of some steps is not the highest
    figures = {arm.name: [digits.figure(outcome.means[arm.name]) for outcome in outcomes] for arm in view.trained}
    room, cut = _name_room(view, list(figures.values()), console)
    sparks = _sparks(view, folder, cut) if console.width >= 72 and not gaps else {}
    table = columns()
    table.show_header = True
    table.add_column(words("mean of seeds", console), overflow="fold", header_style="dim")
    for outcome in outcomes:
        table.add_column(
            words(_short(outcome.info.name), console),
            justify="right",
            no_wrap=True,
            header_style="dim",
        )
    if sparks:
        table.add_column("highest grad norm", no_wrap=True, header_style="dim")
    for arm in view.trained:
        cells = [words(text, console) for text in (folded(arm.name, room), *figures[arm.name])]
        cells += [words(sparks.get(arm.name, ""), console)] if sparks else []
        table.add_row(*cells)
    for floor in view.floors:
        name = "noise floor" if floor.floor.kind == "noise" else "repeat floor"  # as much as the column holds
        floors = [floor.of(outcome.info.name) for outcome in outcomes]
        table.add_row(*(words(text, console, "dim") for text in (name, *floors)))
    console.print(table)


def _name_room(view: View, figures: Sequence[Sequence[str]], console: Console) -> tuple[int, int]:
    """Cells for an arm's name beside its figures, and for its sparkline, which gives way to a long name."""
    heads = [_short(outcome.info.name) for outcome in view.summary]
    floors = [[floor.of(outcome.info.name) for outcome in view.summary] for floor in view.floors]
    columns = zip(heads, *figures, *floors, strict=True)
    taken = sum(widest([*head.split("\n"), *cells]) + 2 for head, *cells in columns)
    long = widest([arm.name for arm in view.trained])
    cut = _SPARK if long <= console.width - taken - _SPARK - 2 else _SHORT_SPARK
    return max(len("mean of seeds"), console.width - taken - cut - 2), cut


def _short(name: str) -> str:
    """`norm spread`, `eval loss`; the last word of a long name on a line of its own."""
    text = name.replace("grad_norm_", "norm ").replace("_", " ")
    return "\n".join(text.rsplit(" ", 1)) if len(text) > 11 else text


def _sparks(view: View, folder: Path, width: int) -> dict[str, str]:
    """The gradient norm over training per arm, the highest of its finished runs, all arms on one scale from 0."""
    highest: dict[str, NDArray[np.float64]] = {}
    for run in read_curves(view.analysis, folder):
        norms = run.panels["grad_norm"].y
        if run.status == "finished" and np.isfinite(norms).any():
            before = highest.get(run.arm, norms)
            highest[run.arm] = np.fmax(before, norms) if len(before) == len(norms) else before
    top = max((float(np.nanmax(norms)) for norms in highest.values()), default=0.0)
    return {name: sparkline(norms, top, width) for name, norms in highest.items()}


def _controls(view: View, console: Console) -> None:
    controls = view.controls
    text = words("", console)
    for label, figures in controls.summary:
        text.append_text(words(f"{label} ", console, "dim"))
        text.append_text(words(f"{figures}   ", console))
    if controls.held:
        text.append_text(words("equal in every arm: ", console, "dim"))
        text.append_text(words(", ".join(controls.held), console))
    labelled(console, "controls", text, width=10)
    for sentence in controls.failures:
        labelled(console, "", sentence, width=10, style="bold red")


def _troubles(view: View, console: Console) -> None:
    for status, sentence in view.troubles:
        labelled(console, status, sentence, width=13, style="bold red")
    for note in view.analysis.notes:
        labelled(console, "note", note, width=10, style="dim")

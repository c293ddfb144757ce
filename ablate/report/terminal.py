"""The report of a study in a terminal of 60 columns and more, and as plain text in a pipe: about 30 lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from ablate import formatting as fmt
from ablate.analysis.analyse import named as file_named
from ablate.analysis.results import Adequacy, Analysis, ResampledCadence
from ablate.design.axis import show
from ablate.report import sections as report_sections
from ablate.report.console import folded, heading, labelled, print_table, say, whole_line, widest, words
from ablate.report.section import Cell, Section, Table
from ablate.report.sections.checks import cadence_tables
from ablate.report.sections.result import next_commands, setup
from ablate.report.view_model import View, make_view

MAX_ROWS = 40
"""Rows of a table, and notes of a section, that a terminal shows; the page has the rest."""

_LABEL = 9
_MIN_NAME, _MIN_WORDS, _WIDE = 10, 12, 22
"""Width to which names and words can be wrapped, and width of a name that is worth more than another column."""


def print_report(analysis: Analysis, folder: Path, console: Console) -> None:
    """Print the answer, the tables that it rests on, controls, cautions, what to run next, and where the rest is."""
    view = make_view(analysis)
    sections = report_sections.build(view, folder)
    heading(console, analysis.study, setup(view, folder))
    for label, sentence in view.alarms:
        labelled(console, label, sentence, width=len(label) + 2, style="bold red")
    for text, style in ((view.question, ""), (view.headline, "bold")):
        if text:
            say(console, text, style)
    console.print()
    _tables([section for part in sections.values() for section in part if section.in_terminal], view, console)
    _controls(view, console)
    for sentence in view.cautions[:MAX_ROWS]:
        short = f"{sentence.partition('. ')[0].rstrip('.')}." if re.match(r"[A-Z ]+[:.]", sentence) else sentence
        labelled(console, "caution", short, width=_LABEL, style="yellow")
    for command, buys in next_commands(view, folder):
        labelled(console, "next", buys, width=_LABEL)
        whole_line(console, f"{'':{_LABEL + 1}}{command}")
    whole_line(console, f"page      {folder / file_named(analysis, 'report.html')}")


def _tables(sections: Sequence[Section], view: View, console: Console) -> None:
    """Print the sections; metrics that the result has no room for are put next to the gradient norms."""
    left_out: Table | None = None
    for section in sections:
        if section.key == "norms" and left_out is not None:
            section = replace(section, tables=tuple(table.joined(left_out) for table in section.tables))
        titled = section.key not in ("result", "norms") or (section.key == "result" and len(sections) > 2)
        left_out = print_section(section, console, title=titled, answered=view.headline) or left_out


def _controls(view: View, console: Console) -> None:
    """Print controls in one line, then runs without a result."""
    controls = view.analysis.controls
    if controls:
        passed = sum(control.status == "checked" for control in controls)
        held = f"; equal in every arm: {fmt.counted(len(view.held), 'item')}" if view.held else ""
        labelled(console, "controls", f"{passed} of {len(controls)} checked{held}", width=_LABEL)
    for status, sentence in view.troubles[:MAX_ROWS]:
        labelled(console, status, sentence, width=13, style="bold red")
    _say_more(len(view.troubles) - MAX_ROWS, console)


# Sections.


def print_section(section: Section, console: Console, *, title: bool = True, answered: str = "") -> Table | None:
    """Print title, answer, tables and notes; return columns that had no room. answered: what was printed already."""
    if title:
        say(console, section.title, "bold")
    if section.answer and section.answer not in answered:
        say(console, section.answer, "yellow" if section.refused else "")
    left_out = [print_cells(table, console) for table in section.tables if not table.folded]
    before = None
    for note in section.notes[:MAX_ROWS]:
        label = note.label if note.label != before else ""
        width = max(_LABEL, len(note.label) + 2)
        labelled(console, label, note.text, width=width, style="yellow" if note.alarm else "")
        before = note.label
    _say_more(len(section.notes) - MAX_ROWS, console)
    console.print()
    return next((table for table in left_out if table is not None), None)


def print_cells(table: Table, console: Console) -> Table | None:
    """Print a table; words wrap and numbers do not. Return last columns that had no room, as far as they may be left out."""
    if table.title:
        say(console, table.title, "bold")
    few = replace(table, rows=table.rows[: MAX_ROWS if table.most is None else min(table.most, MAX_ROWS)])
    names = max(0, min(_widths(few)[0], _WIDE) - _MIN_NAME)
    fitting = (count for count in range(table.optional) if _room(few.split(count)[0], console) >= names)
    count = next(fitting, table.optional)
    shown, left_out = few.split(count)[0], table.split(count)[1]
    if _room(shown, console) < 0:
        shown = shown.without_details()
    room = _room(shown, console)
    widths = _widths(shown)
    first = min(widths[0], _least(shown, 0, widths) + max(0, room))
    numbers = [number for number in range(1, len(shown.head)) if number not in shown.words]
    rows = [[_text(cell, console, 0 if number else first) for number, cell in enumerate(row)] for row in shown.rows]
    print_table(shown.head, rows, console, numbers=numbers, first=first, whole=room >= 0)
    _say_more(len(table.rows) - len(rows), console)
    if table.intro:
        labelled(console, "", table.intro, width=3)
    return left_out if count else None


def _say_more(number: int, console: Console) -> None:
    if number > 0:
        say(console, f"and {number} more on the page", "dim")


def _widths(table: Table) -> list[int]:
    texts = table.texts()
    return [widest([title, *(row[number] for row in texts)]) for number, title in enumerate(table.head)]


def _least(table: Table, number: int, widths: Sequence[int]) -> int:
    """Width to which a column can be wrapped."""
    width = widths[number]
    least = _MIN_WORDS if number else _MIN_NAME
    return min(width, least) if number in (0, *table.words) else width


def _room(table: Table, console: Console) -> int:
    """Columns of the terminal that are left where names and words are wrapped as far as they may be."""
    widths = _widths(table)
    return console.width - sum(_least(table, number, widths) + 2 for number in range(len(table.head))) + 2


def _text(cell: Cell, console: Console, width: int) -> Text:
    text = words(folded(cell.text, width) if width else cell.text, console, "bold" if cell.strong else "")
    return text.append_text(words(f" {cell.detail}", console, "dim")) if cell.detail else text


# `ablate resample`.


def print_adequacy(curves: Sequence[Adequacy], console: Console) -> None:
    """Print a table per curve, for `ablate resample` without a value."""
    for table in cadence_tables(curves):
        print_cells(table, console)
        console.print()
    if not curves:
        say(console, "no baseline run has a record that can be resampled at another cadence")


def print_replay(levels: Sequence[ResampledCadence], console: Console) -> None:
    """Print what a run at each cadence would have shown: its curve, and what it misses."""
    for level in levels:
        say(console, f"{level.axis} {show(level.value)}: {fmt.counted(level.evaluations, 'evaluation')}", "bold")
        say(console, level.sentence, indent=4)
        rows = [
            (f"  {fmt.plain(step)}", fmt.plain(samples), fmt.figure(value, 4), bar)
            for step, samples, value, bar in _curve(level)
        ]
        print_table(("  step", "samples", "mean of seeds", ""), rows, console, numbers=range(3))
        console.print()


def _curve(level: ResampledCadence, width: int = 24) -> list[tuple[float, float, float, str]]:
    """(step, samples, mean over seeds, bar) per evaluation, as far as all seeds have one."""
    most = min((len(curve) for curve in level.curve), default=0)
    if most == 0:
        return []
    values = np.asarray([[point[2] for point in curve[:most]] for curve in level.curve]).mean(axis=0)
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    bars = ["─" * round(width * value / top) if np.isfinite(value) and top > 0 else "" for value in values]
    points = level.curve[0][:most]
    return [(p[0], p[1], float(v), bar) for p, v, bar in zip(points, values, bars, strict=True)]

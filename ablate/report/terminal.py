"""The report of a study in a terminal of 60 columns and more, and as plain text in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable

from ablate import formatting as fmt
from ablate.analysis.analyse import named as file_named
from ablate.analysis.results import Adequacy, Analysis, ResampledCadence
from ablate.report import sections as report_sections
from ablate.report.console import STYLES, columns, folded, labelled, say, whole_line, widest, words
from ablate.report.curves import read_curves
from ablate.report.section import Section, Table
from ablate.report.sections.checks import cadence_section
from ablate.report.sparklines import scale, sparkline, strip
from ablate.report.view_model import Row, View, interval_head, level_name, make_view, named, resampled

_STRIP = 15
_SPARK, _SHORT_SPARK = 18, 16
_MIN_VERDICT, _MIN_WORDS = 11, 12


def print_report(analysis: Analysis, folder: Path, console: Console) -> None:
    """Print answer, contrasts, controls, conclusions and the path of the page, in that order."""
    view = make_view(analysis)
    sections = report_sections.build(view, folder, "answer", "check", "curves")
    _header(view, console)
    for section in sections["answer"]:
        print_section(section, console, view.conclusions)
    name_width = _contrasts(view, console)
    _observed(view, console, name_width)
    console.print()
    _means(view, folder, console)
    console.print()
    _controls(view, console)
    _troubles(view, console)
    console.print()
    brief = [note for part in sections.values() for section in part for note in section.brief]
    if labels := [note for note in brief if note.label]:
        _labelled(((note.label, note.text, False) for note in labels), console)
        console.print()
    for sentence in (*view.conclusions, *(note.text for note in brief if not note.label)):
        labelled(console, "•", sentence, width=2)
    console.print()
    whole_line(console, f"page  {folder / file_named(analysis, 'report.html')}")


def print_adequacy(curves: Sequence[Adequacy], console: Console) -> None:
    """Print a table per curve, for `ablate resample` without a value."""
    section = cadence_section(curves)
    if section is None:
        say(console, "no baseline run has a record that can be resampled at another cadence")
        return
    for table in section.tables:
        _table(table, console)
        console.print()


def print_replay(levels: Sequence[ResampledCadence], console: Console) -> None:
    """Print what a run at each cadence would have shown: its curve, and what it misses."""
    for level in levels:
        say(console, f"{level_name(level)}: {fmt.counted(level.evaluations, 'evaluation')}", "bold")
        say(console, level.sentence, indent=4)
        grid = columns()
        for _ in range(3):
            grid.add_column(justify="right", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(*(words(text, console, "dim") for text in ("  step", "samples", "mean of seeds", "")))
        for step, samples, value, bar in _curve(level):
            cells = (f"  {fmt.plain(step)}", fmt.plain(samples), fmt.figure(value, 4), bar)
            grid.add_row(*(words(text, console) for text in cells))
        console.print(grid)
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


# Sections.


def print_section(section: Section, console: Console, conclusions: Sequence[str] = ()) -> None:
    """Print the answer, the tables and the notes of a section; a note that is also a conclusion is left to the conclusions."""
    say(console, section.title, "bold")
    if section.answer:
        say(console, section.answer, "yellow" if section.refused else "")
    console.print()
    for table in section.tables:
        if not table.folded:
            _table(table, console)
            console.print()
    notes = [note for note in section.notes if note.alarm or note.text not in conclusions]
    _labelled(((note.label, note.text, note.alarm) for note in notes), console)
    if notes:
        console.print()


def _table(table: Table, console: Console) -> None:
    """Words wrap and numbers do not, as long as the numbers leave room for the words."""
    if table.title:
        say(console, table.title, "bold")
    texts = table.texts()
    widths = [widest([title, *(row[number] for row in texts)]) for number, title in enumerate(table.head)]
    wordy = {0, *table.words}
    room = console.width - 2 * len(widths) - sum(width for number, width in enumerate(widths) if number not in wordy)
    fits = room >= sum(min(widths[number], _MIN_WORDS) for number in wordy)
    made = columns()
    made.show_header = True
    for number, title in enumerate(table.head):
        right = number not in wordy
        justify: JustifyMethod = "right" if right else "left"
        made.add_column(
            words(title, console), justify=justify, no_wrap=right and fits, overflow="fold", header_style="dim"
        )
    for row in table.rows[: table.most]:
        cells = []
        for cell in row:
            text = words(cell.text, console, STYLES.get(cell.tone, ""))
            cells.append(text.append_text(words(f" {cell.detail}" if cell.detail else "", console, "dim")))
        made.add_row(*cells)
    console.print(made)
    for sentence in filter(None, (table.intro, table.outro)):
        labelled(console, "", sentence, width=3)


def _labelled(lines: Iterable[tuple[str, str, bool]], console: Console) -> None:
    """Print lines next to their labels; a label that repeats is shown once."""
    before = None
    for label, text, alarm in lines:
        labelled(console, label if label != before else "", text, width=10, style="yellow" if alarm else "")
        before = label


# Header, contrasts, means, controls.


def _header(view: View, console: Console) -> None:
    analysis = view.analysis
    title = words(f"{analysis.study}  ", console, "bold")
    title.append_text(words(view.heading, console))
    console.print(title, highlight=False)
    metric = f"metric {named(view.metric)}, {view.direction}"
    say(console, f"{metric}; smallest effect of interest {analysis.smallest_effect:g}")
    if not analysis.complete:
        say(console, "NOT COMPLETE: some runs of the plan have no result yet", "yellow")
    if view.question:
        say(console, view.question)
    for caution in view.cautions:
        say(console, caution, "yellow")
    console.print()
    for label, sentence in view.alarms:
        say(console, label, "bold red")
        labelled(console, "", sentence, width=3)
    if analysis.imported:
        console.print()


def _contrasts(view: View, console: Console) -> int:
    """Print the table of contrasts and return the width of its first column. The strip of seeds gives way to the numbers."""
    rows = view.primary
    names = [row.arm.change for row in rows] + list(view.replays)
    numbers = widest([row.effect for row in rows] + ["effect"]) + widest(
        [row.interval for row in rows] + [interval_head(view)]
    )
    name_width = min(widest(names), max(12, console.width - numbers - _STRIP - _MIN_VERDICT - 14), 28)
    strips = console.width >= name_width + numbers + _STRIP + _MIN_VERDICT + 8
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


def _contrast(row: Row, name: str, table: RichTable, picture: str | None, console: Console) -> None:
    verdict = words(row.verdict, console, STYLES[row.tone])
    if row.remark:
        verdict.append_text(words(f" {row.remark}", console, "dim"))
    cells = [words(text, console) for text in (name, row.effect, row.interval)]
    cells += [words(picture, console)] if picture is not None else []
    table.add_row(*cells, verdict)


def _observed(view: View, console: Console, name_width: int) -> None:
    """Print observation axes and the repeat: a sentence instead of an effect."""
    grid = columns()
    grid.add_column(width=name_width, overflow="fold")
    grid.add_column(overflow="fold")
    for axis, levels in view.replays.items():
        style = "" if all(level.same_trajectory for level in levels) else "bold red"
        grid.add_row(words(axis, console), words(resampled(levels), console, style))
    for arm, sentence in view.repeated.items():
        grid.add_row(words(arm, console), words(sentence, console))
    if view.replays or view.repeated:
        console.print(grid)


def _means(view: View, folder: Path, console: Console) -> None:
    """Print means over seeds of the metrics that fit, the gradient norm as a sparkline, and the noise floor."""
    outcomes = view.summary
    gaps = view.analysis.imported is not None  # the highest of some steps is not the highest
    figures = {arm.name: [fmt.figure(outcome.means[arm.name]) for outcome in outcomes] for arm in view.trained}
    room, cut = _name_room(view, list(figures.values()), console)
    sparks = _sparks(view, folder, cut) if console.width >= 72 and not gaps else {}
    table = columns()
    table.show_header = True
    table.add_column(words("mean of seeds", console), overflow="fold", header_style="dim")
    for outcome in outcomes:
        title = words(_short(outcome.info.name), console)
        table.add_column(title, justify="right", no_wrap=True, header_style="dim")
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
    """Widths of the names of arms and of the sparklines, which give way to long names."""
    heads = [_short(outcome.info.name) for outcome in view.summary]
    floors = [[floor.of(outcome.info.name) for outcome in view.summary] for floor in view.floors]
    columns = zip(heads, *figures, *floors, strict=True)
    used = sum(widest([*head.split("\n"), *cells]) + 2 for head, *cells in columns)
    long = widest([arm.name for arm in view.trained])
    cut = _SPARK if long <= console.width - used - _SPARK - 2 else _SHORT_SPARK
    return max(len("mean of seeds"), console.width - used - cut - 2), cut


def _short(name: str) -> str:
    """`norm p95 p5`, `eval loss`; the last word of a long name on its own line."""
    text = name.replace("grad_norm_", "norm ").replace("_", " ")
    return "\n".join(text.rsplit(" ", 1)) if len(text) > 11 else text


def _sparks(view: View, folder: Path, width: int) -> dict[str, str]:
    """The gradient norm over training per arm: the highest of its finished runs, all arms on one scale from 0."""
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

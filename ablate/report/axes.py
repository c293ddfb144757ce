"""The standard ablations: `ablate axes` lists them by kind, `ablate axes NAME` shows one whole, as its page in the docs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from ablate.design.axis import Axis, show
from ablate.report.console import columns, labelled, say, whole_line, words

KINDS: dict[str, str] = {
    "training": "how it is trained",
    "model": "what is trained",
    "data": "what it is trained on",
    "systems": "how it is computed, which must make no difference",
    "observation": "only how it is looked at; nothing is trained",
    "placebo": "chance alone, for the noise floor",
    "rerun": "nothing at all, for the nondeterminism floor",
}


def grouped(axes: Sequence[Axis]) -> Iterator[tuple[str, list[Axis]]]:
    """(kind, its axes by name), kinds in the order of `KINDS`."""
    for kind in KINDS:
        if mine := sorted((axis for axis in axes if axis.kind == kind), key=lambda axis: axis.name):
            yield kind, mine


def facts_of(axis: Axis) -> list[tuple[str, str]]:
    """(label, text) of all that the file declares, in the order in which one reads it. Keys and values stand in backticks."""
    rule = {key: f"`{key}` follows it ({how})" for key, how in axis.scale_with.items()}
    moved = [rule.get(key, f"`{key}`") for key in axis.keys]
    said = [
        ("moves", f"{', '.join(moved)}{_as_one(axis)}"),
        ("levels", ("; " if len(axis.keys) > 1 else ", ").join(f"`{_level(level)}`" for level in axis.values)),
        ("held", _ticked(axis.must_match)),
        ("comes along", _ticked(axis.may_change) or "nothing"),
        ("expected", axis.hypothesis),
        ("source", axis.reference),
    ]
    return [(label, text) for label, text in said if text]


def print_axes(axes: Sequence[Axis], console: Console) -> None:
    """A line each, by kind: name and question."""
    width = max((len(axis.name) for axis in axes), default=0)
    for place, (kind, mine) in enumerate(grouped(axes)):
        if place:
            console.print()
        title = words(kind, console, "bold")
        title.append_text(words(f"  {KINDS[kind]}", console, "dim"))
        console.print(title, highlight=False)
        table = columns()
        table.add_column(no_wrap=True, width=width)
        table.add_column(overflow="fold")
        for axis in mine:
            table.add_row(words(axis.name, console), words(axis.question, console))
        console.print(table)
    console.print()
    say(console, "`ablate axes NAME` shows one whole; `ablate -m axis=NAME,...` runs a study.", "dim")


def print_axis(axis: Axis, console: Console) -> None:
    """All of one axis."""
    title = words(axis.name, console, "bold")
    title.append_text(words(f"  {axis.kind}: {KINDS.get(axis.kind, '')}", console, "dim"))
    console.print(title, highlight=False)
    say(console, axis.question)
    console.print()
    for label, text in facts_of(axis):
        labelled(console, label, plain(text), width=13)
    for paragraph in filter(None, axis.notes.split("\n\n")):
        console.print()
        say(console, plain(" ".join(paragraph.split())))
    console.print()
    whole_line(console, axis.command)


def plain(text: str) -> str:
    """Markdown as a terminal shows it: without backticks round keys, and without stars."""
    return re.sub(r"\*\*(.+?)\*\*", r"\1", text).replace("`", "")


def _as_one(axis: Axis) -> str:
    if len(axis.keys) < 2 or axis.kind == "placebo":
        return ""
    return ": several keys, declared to be one change"


def _level(level: object) -> str:
    if isinstance(level, Mapping):
        return ", ".join(f"{key}={show(value)}" for key, value in level.items())
    return show(level)


def _ticked(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

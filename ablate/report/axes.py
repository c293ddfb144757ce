"""Output of `ablate axes`: the standard ablations by kind, or all of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from ablate.design.axis import Axis, show
from ablate.report.console import heading, labelled, print_table, say, whole_line

KINDS: dict[str, str] = {
    "training": "how it is trained",
    "model": "what is trained",
    "data": "what it is trained on",
    "systems": "how it is computed, which must not change the result",
    "observation": "how often the runs are evaluated or logged; nothing is trained",
    "placebo": "other random streams alone, for the noise floor",
    "rerun": "no change at all, for the nondeterminism floor",
}


def grouped(axes: Sequence[Axis]) -> Iterator[tuple[str, list[Axis]]]:
    """Yield (kind, its axes by name), kinds in the order of `KINDS`."""
    for kind in KINDS:
        if mine := sorted((axis for axis in axes if axis.kind == kind), key=lambda axis: axis.name):
            yield kind, mine


def facts_of(axis: Axis) -> list[tuple[str, str]]:
    """Return (label, text) of everything that the file declares. Keys and values are in backticks."""
    rule = {key: f"`{key}` follows it ({how})" for key, how in axis.scale_with.items()}
    moved = [rule.get(key, f"`{key}`") for key in axis.keys]
    facts = [
        ("keys", f"{', '.join(moved)}{_as_one(axis)}"),
        ("values", ("; " if len(axis.keys) > 1 else ", ").join(f"`{_level(level)}`" for level in axis.values)),
        ("must match", _ticked(axis.must_match)),
        ("may change", _ticked(axis.may_change) or "nothing"),
        ("hypothesis", axis.hypothesis),
        ("reference", axis.reference),
    ]
    return [(label, text) for label, text in facts if text]


def print_axes(axes: Sequence[Axis], console: Console) -> None:
    """Print name and question of every axis, by kind."""
    width = max((len(axis.name) for axis in axes), default=0)
    for index, (kind, mine) in enumerate(grouped(axes)):
        if index:
            console.print()
        heading(console, kind, KINDS[kind], "dim")
        print_table((), [(axis.name.ljust(width), axis.question) for axis in mine], console)
    console.print()
    say(console, "`ablate axes NAME` shows one; `ablate -m axis=NAME,...` runs a study.", "dim")


def print_axis(axis: Axis, console: Console) -> None:
    """Print everything about one axis."""
    heading(console, axis.name, f"{axis.kind}: {KINDS.get(axis.kind, '')}", "dim")
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
    """Return Markdown without backticks and stars, for a terminal."""
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

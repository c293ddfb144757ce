"""Writing to a terminal, a pipe or a file: text that its encoding can carry, columns that never cut a number."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from ablate.redact import shown

_ASCII = str.maketrans(
    {
        **{"−": "-", "–": "-", "•": "o", "─": "-", "┊": "|", "…": "..", "→": "->", "×": "x", "±": "+/-"},
        **dict(zip("▁▂▃▄▅▆▇█", "_.-:=+*#", strict=True)),
    }
)


def readable(text: str, console: Console) -> str:
    """Return the text as `shown` has it, or its ASCII form if the console's encoding cannot represent it."""
    text = shown(text)
    try:
        text.encode(console.encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    return text


def words(text: str, console: Console, style: str = "") -> Text:
    """Return literal text: square brackets in a name are not markup."""
    return Text(readable(text, console), style=style)


def say(console: Console, text: str = "", style: str = "", *, indent: int = 0) -> None:
    """Print one paragraph, wrapped at the console's width."""
    if not indent:
        console.print(words(text, console, style), highlight=False)
        return
    grid = columns()
    grid.add_column(width=indent - 2)
    grid.add_column(overflow="fold")
    grid.add_row("", words(text, console, style))
    console.print(grid)


def heading(console: Console, name: str, rest: str, style: str = "") -> None:
    """Print `NAME  rest` in one paragraph, the name in bold."""
    console.print(words(f"{name}  ", console, "bold").append_text(words(rest, console, style)), highlight=False)


def labelled(console: Console, label: str, text: str | Text, *, width: int = 9, style: str = "") -> None:
    """Print `controls  one variable 3/3 ...` with the text indented after its label."""
    grid = columns()
    grid.add_column(width=width - 1, no_wrap=True)
    grid.add_column(overflow="fold")
    body = text if isinstance(text, Text) else words(text, console, style)
    grid.add_row(words(label, console, "dim"), body)
    console.print(grid)


def whole_line(console: Console, text: str) -> None:
    """Print a line that is never wrapped or cut, such as a path to copy."""
    console.print(words(text, console), soft_wrap=True, highlight=False)


def columns() -> Table:
    """Return a table without lines."""
    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), collapse_padding=True)


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    console: Console,
    *,
    numbers: Collection[int] = (),
    widths: Mapping[int, int] | None = None,
    first: int | None = None,
    whole: bool = True,
) -> None:
    """Print a table without lines. head: empty for none. widths: the most of some columns. first: width of the first one.

    numbers: columns flush right; whole: they are never wrapped.
    """
    table, made = columns(), [list(row) for row in rows]
    table.show_header = bool(head)
    for number in range(max([len(head), *map(len, made)])):
        title = words(head[number], console) if head else ""
        right, most = number in numbers, (widths or {}).get(number)
        justify: JustifyMethod = "right" if right else "left"
        stiff = right and whole and most is None
        width = None if number else first
        table.add_column(
            title, justify=justify, no_wrap=stiff, overflow="fold", header_style="dim", max_width=most, width=width
        )
    for row in made:
        table.add_row(*(text if isinstance(text, Text) else words(text, console) for text in row))
    if made:
        console.print(table)


_JOINTS = (" +,", "=/", "_.-")
"""Characters after which a long name is broken, the best first."""


def folded(text: str, width: int, most: int | None = None) -> str:
    """Return a long name on several lines, broken after a joint if it has one. most: lines; the rest ends in an ellipsis."""
    rest, lines = text, list[str]()
    while cell_len(rest) > width:
        if most is not None and len(lines) == most - 1:
            rest = f"{rest[: width - 1]}…"
            break
        found = (max(rest.rfind(mark, 0, width) for mark in marks) for marks in _JOINTS)
        at = next((place + 1 for place in found if place >= width // 4), width)
        lines.append(rest[:at].rstrip())
        rest = rest[at:].lstrip()
    return "\n".join([*lines, rest])


def widest(texts: list[str]) -> int:
    """Return the width of the longest text in cells."""
    return max((cell_len(text) for text in texts), default=0)

"""One part of a report as a value: title, answer, tables and notes, independent of any renderer."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    strong: bool = False
    """A verdict, or a value that differs from the baseline's."""
    detail: str = ""
    """Qualifies the text; shown next to it in smaller print."""
    swatch: str = ""
    """Colour of an arm on the page, as in `View.style`."""
    href: str = ""
    """Relative address of a link on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table. The first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[int] = frozenset()
    """Columns that hold words; all others but the first hold numbers, which are never wrapped."""
    title: str = ""
    intro: str = ""
    """What follows from it; before the table on the page, below it in a terminal."""
    folded: bool = False
    """Hidden behind a fold on the page, and left out of the terminal."""
    most: int | None = None
    """Number of rows in a terminal; None shows all."""
    optional: int = 0
    """Number of last columns that a terminal leaves out where they do not fit."""

    def texts(self) -> list[tuple[str, ...]]:
        """Return the rows as plain text, the detail of a cell after its text."""
        return [tuple(f"{cell.text} {cell.detail}".rstrip() for cell in row) for row in self.rows]

    def split(self, count: int) -> tuple[Table, Table]:
        """Return the table without its last columns, and those with the names of the rows."""
        left = len(self.head) - count
        first = replace(self, head=self.head[:left], rows=tuple(row[:left] for row in self.rows), optional=0)
        last = tuple((row[0], *row[left:]) for row in self.rows)
        return first, replace(self, head=(self.head[0], *self.head[left:]), rows=last, words=frozenset(), optional=0)

    def without_details(self) -> Table:
        """Return the table without the details of its numbers."""
        plain = (0, *self.words)
        rows = (
            tuple(cell if number in plain else replace(cell, detail="") for number, cell in enumerate(row))
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))

    def joined(self, other: Table) -> Table:
        """Return the table with the columns of another one instead of its optional ones; rows are matched by name."""
        own, _ = self.split(self.optional)
        named = {row[0].text: row[1:] for row in other.rows}
        blank = (Cell(text=""),) * (len(other.head) - 1)
        rows = tuple((*row, *named.get(row[0].text, blank)) for row in own.rows)
        return replace(own, head=(*own.head, *other.head[1:]), rows=rows, optional=len(other.head) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One line below the tables. label: its kind or subject. alarm: whether a reader must not miss it."""

    text: str
    label: str = ""
    alarm: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One part of a report. Renderers know these fields and nothing of analyses."""

    key: str
    """Identifier on the page, and part of a LaTeX label."""
    title: str
    answer: str = ""
    refused: bool = False
    """Whether `answer` says why there is no result."""
    plot: str = ""
    """Name of the template in `templates/plots/` with what the page draws above the tables."""
    tables: tuple[Table, ...] = ()
    notes: tuple[Note, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    """Terms with their values."""
    code: str = ""
    """Command to copy."""
    reading: str = ""
    """How to read the figures."""
    folded: bool = False
    """Hidden behind its title on the page."""
    in_terminal: bool = False
    """Whether a terminal prints the tables and notes."""
    num_seeds: int = 0
    """Seeds behind the figures, for the caption of a LaTeX table; 0 leaves it out."""


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return a row of plain cells."""
    return tuple(Cell(text=text) for text in texts)

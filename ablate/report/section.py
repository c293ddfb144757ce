"""One part of a report as a value: title, answer, tables and notes, independent of any renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    tone: str = ""
    """`good`, `bad`, `moved`, `still`, `open`, `broken`; chooses the colour only."""
    detail: str = ""
    """Qualifies the text; shown next to it in smaller print."""
    swatch: str = ""
    """Colour of an arm on the page, as in `View.style`."""
    chip: bool = False
    """Draw the text in a frame, as a verdict."""
    href: str = ""
    """Relative address of a link on the page."""
    gauge: float | None = None
    """Share from 0 to 1, drawn as a bar in front of the text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One table. The first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[int] = frozenset()
    """Columns that hold words; all others but the first hold numbers, which are never wrapped."""
    title: str = ""
    intro: str = ""
    """Sentence before the table: what follows from it."""
    outro: str = ""
    """Sentence after the table."""
    folded: bool = False
    """Hidden behind a fold on the page, and left out of the terminal and of documents."""
    most: int | None = None
    """Number of rows in a terminal; None shows all."""
    css: str = ""
    """Class of the table on the page."""

    def texts(self) -> list[tuple[str, ...]]:
        """Return the rows as plain text, the detail of a cell after its text."""
        return [tuple(f"{cell.text} {cell.detail}".rstrip() for cell in row) for row in self.rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One line below the tables. label: its kind, shown in a terminal. alarm: whether a reader must not miss it."""

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
    """Name of the figure that the page draws above the tables."""
    plot_label: str = ""
    """The figure in words, for a screen reader."""
    chart: Any = None
    """Data of that figure, as JSON."""
    tables: tuple[Table, ...] = ()
    notes: tuple[Note, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    """Terms with their values."""
    code: str = ""
    """Command to copy."""
    reading: str = ""
    """How to read the figures."""
    brief: tuple[Note, ...] = ()
    """Lines of a terminal, for a section that is not an answer."""
    num_seeds: int = 0
    """Seeds behind the figures, for the caption of a LaTeX table; 0 leaves it out."""


def cells(*texts: str) -> tuple[Cell, ...]:
    """Return a row of plain cells."""
    return tuple(Cell(text=text) for text in texts)

"""`report.md`: the report as text for other documents, with every note."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ablate.redact import visible
from ablate.report.section import Cell, Section, Table
from ablate.report.sections import Sections
from ablate.report.sections.result import setup
from ablate.report.view_model import View, named


def markdown(view: View, folder: Path, sections: Sections, methods: str = "") -> str:
    """Return the whole report. methods: the methods paragraph."""
    analysis = view.analysis
    metric = (
        f"Metric: {named(view.metric)}, {view.direction}; smallest effect of interest {analysis.smallest_effect:g}."
    )
    return _joined([
        f"# {_md(analysis.study)}",
        _md(analysis.question),
        f"{_md(setup(view, folder))}. {_md(metric)}",
        _md(view.question),
        f"**{_md(view.headline)}**" if view.headline else "",
        "\n".join(f"- **{_md(label)}** {_md(sentence)}" for label, sentence in view.alarms),
        "\n".join(f"- **{_md(text)}**" for text in view.cautions),
        *(part for each in sections.values() for section in each for part in _section(section, view.headline)),
        *(("## Methods", _md(methods)) if methods else ()),
    ])  # fmt: skip


def table_text(table: Table, method: str) -> str:
    """Return one table alone, with how its significant values were judged."""
    return _joined((_table(table), _md(f"Mean ± sd over seeds. Bold: differs from the baseline; {method}.")))


def _joined(parts: Iterable[str]) -> str:
    return visible("\n\n".join(part for part in parts if part)) + "\n"


def _section(section: Section, headline: str) -> Iterator[str]:
    yield f"## {_md(section.title)}"
    yield "" if section.answer in headline else _md(section.answer)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", section.code)), default=0))  # which no line of it closes
    yield f"{fence}\n{section.code}\n{fence}" if section.code else ""
    for table in section.tables:
        yield f"### {_md(table.title)}" if table.title else ""
        yield _md(table.intro)
        yield _table(table)
    yield "\n".join(f"- {f'{_md(note.label)}: ' if note.label else ''}{_md(note.text)}" for note in section.notes)
    yield "\n".join(f"- {_md(term)}: {_md(text)}" for term, text in section.facts)
    yield _md(section.reading)


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    rule = ("---", *("---" if number in table.words else "---:" for number in range(1, len(table.head))))
    rows = (tuple(map(_md, table.head)), rule, *(tuple(map(_cell, row)) for row in table.rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell) -> str:
    text = f"**{_md(cell.text)}**" if cell.strong else _md(cell.text)
    return f"{text} {_md(cell.detail)}".rstrip()


def _md(text: str) -> str:
    """Escape text: no table cell ends early, no HTML, no emphasis. An interval keeps its brackets."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*_{}[]|#" else mark for mark in text)
    escaped = re.sub(r"\\\[([-−\d., e]+)\\\]", r"[\1]", escaped)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")

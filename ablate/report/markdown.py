"""`report.md`: the report as text for other documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from ablate import formatting as fmt
from ablate.report.section import Cell, Section, Table
from ablate.report.sections import Sections
from ablate.report.view_model import Row, View, beats_what, floors_sentence, interval_head, named, resampled


def markdown(view: View, sections: Sections, methods: str = "") -> str:
    """Return the whole report. methods: the methods paragraph."""
    analysis = view.analysis
    header = f"{_head(view)}; smallest effect of interest {analysis.smallest_effect:g}."
    return _joined([
        f"# {_md(analysis.study)}",
        _md(analysis.question),
        header + ("" if analysis.complete else " **Not complete.**"),
        _md(view.question),
        *(f"**{_md(text)}**" for text in view.cautions),
        "\n".join(f"- **{_md(label)}** {_md(sentence)}" for label, sentence in view.alarms),
        "## Conclusions",
        "\n".join(f"- {_md(sentence)}" for sentence in view.conclusions),
        *(part for section in sections["answer"] for part in _section(section, view.conclusions)),
        "## Contrasts with the baseline",
        *_contrasts(view),
        *(f"`{axis}`: {_md(resampled(levels))}." for axis, levels in view.replays.items()),
        *(f"`{arm}`: {_md(sentence)}." for arm, sentence in view.repeated.items()),
        floors_sentence(view),
        *(part for section in (*sections["check"], *sections["curves"]) for part in _section(section, view.conclusions)),
        *(part for section in sections["record"] if section.key == "metrics" for part in _section(section, view.conclusions)),
        "## Controls",
        _controls(view),
        *(("## Methods", _md(methods)) if methods else ()),
        "## Reproduction",
        f"```\n{analysis.command}\n```",
    ])  # fmt: skip


def result_table(view: View, sections: Sections) -> str:
    """Return the tables alone: the answer of a design that has one, and the contrasts with the baseline."""
    answers = (part for section in sections["answer"] for part in _section(section))
    return _joined([f"{_head(view)}.", *answers, *_contrasts(view)])


def _head(view: View) -> str:
    return f"{_md(view.heading)}. Metric: {_md(named(view.metric))}, {view.direction}"


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, conclusions: Sequence[str] = ()) -> Iterator[str]:
    """A sentence that is also a conclusion is left to the conclusions."""
    yield f"## {_md(section.title)}"
    yield "" if section.answer in conclusions else _md(section.answer)
    for table in section.tables:
        if not table.folded:
            yield f"### {_md(table.title)}" if table.title else ""
            yield _md(f"{table.intro} {table.outro}".strip())
            yield _table(table)
    yield "\n".join(f"- {_md(note.text)}" for note in section.notes if note.text not in conclusions)
    yield _md(section.reading)


def _table(table: Table) -> str:
    return _rows(tuple(map(_md, table.head)), [tuple(map(_cell, row)) for row in table.rows])


def _cell(cell: Cell) -> str:
    text = f"**{_md(cell.text)}**" if cell.tone else _md(cell.text)
    return f"{text} {_md(cell.detail)}".rstrip()


def _contrasts(view: View) -> tuple[str, ...]:
    head = ("arm", "effect", interval_head(view), "seeds", "verdict", beats_what(view.metric), "Hedges g", "p")
    reading = f"Intervals: {view.method}; a placebo is judged alone. p is adjusted for the variants."
    return _rows(head, [_contrast(row) for row in view.primary]), reading if view.primary else ""


def _contrast(row: Row) -> tuple[str, ...]:
    decimals = fmt.effect_decimals(row.contrast.effect or 0.0, row.contrast.low, row.contrast.high)
    seeds = ", ".join(fmt.number(difference, decimals) for difference in row.contrast.differences)
    verdict = f"**{row.verdict}** {row.remark}".rstrip()
    return (_md(row.arm.change), row.effect, _md(row.interval), seeds, verdict, row.beats, row.hedges_g, _md(row.p))


def _controls(view: View) -> str:
    lines = [f"- {label}: {figures}" for label, figures in view.controls.summary]
    if view.controls.held:
        lines.append(f"- equal in every arm: {', '.join(view.controls.held)}")
    lines += [f"- **{_md(sentence)}**" for sentence in view.controls.failures]
    lines += [f"- {status}: {_md(sentence)}" for status, sentence in view.troubles]
    return "\n".join([*lines, *(f"- note: {_md(note)}" for note in view.analysis.notes)])


def _rows(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _md(text: str) -> str:
    """Escape text: no table cell ends early, no HTML, no emphasis. An interval keeps its brackets."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*_{}[]|#" else mark for mark in text)
    escaped = re.sub(r"\\\[([-−\d., e]+)\\\]", r"[\1]", escaped)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")

"""What a notebook shows of a study: the answer, the contrasts, and what a reader must know before believing either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablate import formatting as digits
from ablate.analysis.results import Analysis
from ablate.report.markup import Markup, el, table_of
from ablate.report.view import Row, interval_head, looked_differently, make_view, named

if TYPE_CHECKING:
    from ablate.notebook.study import Study

_LIGHT = "--good:#00694e;--bad:#a63f00;--moved:#005a90;--open:#6d5600;--still:#45433e;--soft:#5f5c56"
_DARK = "--good:#5fd0ac;--bad:#ff9c63;--moved:#7cc4f2;--open:#e5cb6b;--still:#cfcbc1;--soft:#aaa69c"
_STYLE = Markup(
    f".ablate-card{{{_LIGHT};max-width:62em;font-size:14px;line-height:1.45}}"
    f"@media (prefers-color-scheme:dark){{.ablate-card{{{_DARK}}}}}"
    f"[data-jp-theme-light=true] .ablate-card,.vscode-light .ablate-card{{{_LIGHT}}}"
    f"[data-jp-theme-light=false] .ablate-card,.vscode-dark .ablate-card{{{_DARK}}}"
    ".ablate-card p{margin:4px 0;color:inherit}"
    ".ablate-card .answer{font-size:17px;margin:2px 0 10px}"
    ".ablate-card .soft{color:var(--soft);font-size:12.5px}"
    ".ablate-card .alarm{color:var(--bad);font-weight:600}"
    ".ablate-card table{border-collapse:collapse;color:inherit}"
    ".ablate-card th,.ablate-card td{text-align:left;padding:5px 18px 5px 0;background:none;font-weight:400;"
    "border:0;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)}"
    ".ablate-card thead th{color:var(--soft);font-size:12.5px}"
    ".ablate-card .number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".ablate-card b{font-weight:650}"
    ".ablate-card .good{color:var(--good)}.ablate-card .bad,.ablate-card .broken{color:var(--bad)}"
    ".ablate-card .moved{color:var(--moved)}.ablate-card .open{color:var(--open)}"
    ".ablate-card .still,.ablate-card .floor{color:var(--still)}"
)  # fmt: skip
"""Colours are those of the page. Light and dark: as the system has it, unless Jupyter or VS Code says otherwise."""


def card(analysis: Analysis) -> str:
    """All text of a study is escaped: a run named `<script>` stays a name."""
    view = make_view(analysis)
    rows = [_row(row) for row in view.primary]
    head = ("change", f"effect on {named(view.metric)}", interval_head(view), "seeds", "verdict")
    looked = [
        el("p", el("b", axis), f": {looked_differently(levels)}", class_="soft")
        for axis, levels in view.replays.items()
    ]
    repeats = [el("p", el("b", arm), f": {sentence}", class_="soft") for arm, sentence in view.repeated.items()]
    ended = sum(run.status in ("finished", "diverged") for run in analysis.runs)
    return _framed(
        el("p", f"{analysis.study}  ·  {view.heading}  ·  {ended} of {len(analysis.runs)} runs ended", class_="soft"),
        el("p", view.headline or digits.typeset(analysis.question), class_="answer"),
        None if analysis.complete else el("p", "Not complete: some runs have no outcome yet.", class_="alarm"),
        *(el("p", f"{label}: {digits.typeset(text)}", class_="alarm") for label, text in _alarms(analysis)),
        table_of(head, rows, "contrasts") if rows else None,
        *looked, *repeats,
        *(el("p", sentence, class_="alarm") for sentence in view.controls.failures),
        *(el("p", f"{status}: {sentence}", class_="alarm") for status, sentence in view.troubles),
        el("p", f"{view.direction}; {view.method}" if view.primary else view.direction, class_="soft"),
    )  # fmt: skip


def run_card(study: Study) -> str:
    """Of one run: how it ended and what it came to."""
    row = study.runs.iloc[0]
    values = [
        (name, row[name]) for name in study.runs.attrs["units"] if row[name] == row[name] and row[name] is not None
    ]
    cells = [el("tr", el("th", name, scope="row"), el("td", digits.figure(float(value), 4), class_="number"))
             for name, value in values]  # fmt: skip
    return _framed(
        el("p", f"one run  ·  {study.folder}", class_="soft"),
        el("p", f"{study.name}: {row['status']}. {digits.typeset(str(row['sentence']))}", class_="answer"),
        table_of(("outcome", "value"), cells, "outcomes") if cells else None,
    )


def _alarms(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    return tuple(analysis.imported.alarms) if analysis.imported is not None else ()


def _row(row: Row) -> Markup:
    verdict = el("b", row.verdict, class_=row.tone)
    return el(
        "tr",
        el("th", row.arm.change, scope="row"),
        el("td", el("b", row.effect), class_="number"),
        el("td", row.interval, class_="number"),
        el("td", str(len(row.contrast.seeds)), class_="number"),
        el("td", verdict, el("span", f" {row.remark}", class_="soft") if row.remark else None),
    )


def _framed(*children: str | None) -> str:
    return el("div", el("style", _STYLE), *children, class_="ablate-card")

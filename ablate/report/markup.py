"""HTML by value: every string is escaped unless it is already `Markup`, so that a run named `<script>` stays a name."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

_VOID = frozenset({"br", "circle", "hr", "line", "path", "rect", "meta"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: Any) -> Markup:
    """An element. children: text (escaped), Markup (kept), None (left out).

    attributes: `class_` and `data_arm` become `class` and `data-arm`; None and False leave one out, True has no value.
    """
    written = ""
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        written += f" {name}" if value is True else f' {name}="{html.escape(str(value), quote=True)}"'
    if tag in _VOID:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: str | None) -> Markup:
    """Several pieces as one."""
    return Markup("".join(_safe(child) for child in children if child is not None))


def _safe(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(child, quote=False)


def table_of(head: Iterable[str], rows: Iterable[Markup], class_: str = "outcomes") -> Markup:
    """A table of rows that are there already."""
    top = el("thead", el("tr", *(el("th", text, scope="col") for text in head)))
    return el("table", top, el("tbody", *rows), class_=class_)


def figures_table(head: Iterable[str | None], rows: Iterable[Markup], label: str) -> Markup:
    """A table that scrolls by itself where the screen is narrow, by keyboard too. label: what it is, for who cannot see it."""
    titles = el("tr", *(el("th", text, scope="col") for text in head))
    table = el("table", el("thead", titles), el("tbody", *rows))
    return el("div", table, class_="wide figures", tabindex="0", role="region", aria_label=label)


def figures_row(cells: Sequence[str]) -> Markup:
    """A row whose first cell names it, and whose others are figures."""
    return el("tr", el("th", cells[0], scope="row"), *(el("td", text, class_="number") for text in cells[1:]))


def embedded_json(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`: no `<` in it, so nothing inside can end the element."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False, ensure_ascii=True)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)

"""What was held equal, with the hashes that prove it, and how far apart runs lie that nothing was done to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate import formatting as digits
from ablate.errors import RecordError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir
from ablate.records.metadata import read_fingerprint
from ablate.report.markup import Markup, el, figures_table, join
from ablate.report.view import View

_SHOWN = 8
_MEANINGS = {
    "data": "the pool as it lies on disk",
    "splits": "which examples are trained on, which held out",
    "eval_set": "examples evaluated on",
    "init": "initial weights",
    "order": "order of the samples",
    "parameters": "names and shapes of the weights",
    "components": "parts taken out or changed",
    "hooks": "code that was hung into the model",
    "dropout": "dropout rates",
    "precision": "number formats",
    "optimizer": "its settings, read back",
    "schedule": "shape of the learning rate",
    "rates": "learning rates, read back",
    "max_grad_norm": "clipping limit, read back",
    "loss_at_start": "eval loss before training",
    "environment": "device, versions of what computes",
}


def held_table(view: View, folder: Path) -> Markup | None:
    """Of the first seed: a hash per item and arm. Equal hashes are equal contents; the checks compare every seed."""
    found = {arm.name: items for arm in view.trained if (items := _items(arm.name, view, folder)) is not None}
    if len(found) < 2:
        return None
    baseline, *_ = found
    known = dict.fromkeys(item for items in found.values() for item in items if item in _MEANINGS)
    head = ["item", *found]
    rows = [el("tr", _named(item), *_hashes(item, found, baseline)) for item in _MEANINGS if item in known]
    return join(
        el("h3", "Hashes of what must be equal"),
        el(
            "div",
            el(
                "table",
                el("thead", el("tr", *(el("th", text, scope="col") for text in head))),
                el("tbody", *rows),
                class_="hashes",
            ),
            class_="wide",
            tabindex="0",
            role="region",
            aria_label="Hashes of what must be equal",
        ),
        el(
            "p",
            f"First {_SHOWN} digits, of the first seed. Bold: differs from the baseline; that arm's check says whether it may.",
            class_="key",
        ),
    )


def _named(item: str) -> Markup:
    return el("th", item, " ", el("small", _MEANINGS[item]), scope="row")


def _hashes(item: str, found: Mapping[str, Mapping[str, Any]], baseline: str) -> list[Markup]:
    own = _hash(found[baseline].get(item))
    cells = []
    for items in found.values():
        mine = _hash(items.get(item))
        cells.append(
            el(
                "td",
                el("code", mine) if mine == own else el("b", el("code", mine)),
                class_=None if mine == own else "moved",
            )
        )
    return cells


def _hash(value: Any) -> str:
    return digits.DASH if value is None else digest_of(value)[:_SHOWN]


def _items(arm: str, view: View, folder: Path) -> Mapping[str, Any] | None:
    for reading in view.analysis.runs:
        if reading.arm == arm and reading.status != "missing":
            try:
                fingerprint = read_fingerprint(RunDir(folder / reading.folder))
            except (RecordError, TypeError):
                continue
            if fingerprint is not None:
                return fingerprint.items
    return None


def floors_table(view: View) -> Markup | None:
    """The two A/A floors, of the outcomes that have one, the primary one first."""
    if not view.floors:
        return None
    names = [outcome.info for outcome in view.outcomes]
    shown = [info for info in names if any(info.name in floor.floor.values for floor in view.floors)]
    shown = sorted(shown, key=lambda info: info.name != view.metric.name)
    head = ["outcome", *(floor.name for floor in view.floors)]
    rows = [
        el(
            "tr",
            el("th", info.name, " ", el("small", info.unit) if info.unit else None, scope="row"),
            *(el("td", floor.of(info.name), class_="number") for floor in view.floors),
        )
        for info in shown
    ]
    return join(
        el("h3", "How far apart are runs that nothing was done to?"),
        *(el("p", f"{floor.name[:1].upper()}{floor.name[1:]}: {floor.sentence}.") for floor in view.floors),
        figures_table(head, rows, "Noise and nondeterminism floors"),
        el("p", "An effect that is no larger than the larger floor gets no verdict.", class_="key"),
    )

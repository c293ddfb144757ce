"""The parts of the page that say how the result came about: controls, runs, how to make it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ablate import formatting as digits
from ablate.analysis.results import RunReading
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.report.held import floors_table, held_table
from ablate.report.markup import Markup, el, join, table_of
from ablate.report.payload import style
from ablate.report.view import ArmView, View

_STATUS = {"proven": "good", "failed": "bad", "unverified": "open"}
_OUTCOME = {"finished": "still", "diverged": "bad", "failed": "bad", "interrupted": "open"}


def controls(view: View, folder: Path) -> Markup | None:
    """Per variant: what it changed, what came with that, what was proven equal, and every check's sentence; then the hashes of
    what was held, and the floors of chance."""
    if not view.analysis.controls:
        return None
    variants = [arm for arm in view.arms if any(control.arm == arm.name for control in view.analysis.controls)]
    return el(
        "section",
        el("h2", "Did only one thing vary?"),
        *(_controlled(arm, view) for arm in variants),
        held_table(view, folder),
        floors_table(view),
        *(el("p", note, class_="key") for note in view.analysis.notes),
        id="controls",
    )


def _controlled(arm: ArmView, view: View) -> Markup:
    mine = [control for control in view.analysis.controls if control.arm == arm.name]
    checks = el("ul", *(_check(control) for control in mine), class_="checks")
    if arm.axis is None or arm.kind == "observation":
        return el("article", el("h3", arm.change), checks, class_="control")
    held = list(dict.fromkeys(item for control in mine for item in control.held))
    facts = [
        ("changed", [f"{key} = {show(value)}" for key, value in sorted(arm.changes.items())]),
        ("came with it", _derived(mine)),
        ("proven equal", held),
        ("expected", [arm.expect] if arm.expect else []),
        ("source", [arm.source] if arm.source else []),
    ]
    return el(
        "article",
        el("h3", el("i", class_=f"swatch {style(arm, view)}"), arm.change),
        el("p", arm.question, class_="asked") if arm.question else None,
        el("dl", *(_fact(term, values) for term, values in facts if values)),
        checks,
        class_="control",
    )


def _fact(term: str, values: Iterable[str]) -> Markup:
    return join(el("dt", term), el("dd", *(el("span", value, class_="tag") for value in values)))


def _derived(mine: Iterable[Control]) -> list[str]:
    merged: dict[str, list[Any]] = {}
    for control in mine:
        merged.update(control.derived)
    return [
        f"{item} {_brief(pair[0])} → {_brief(pair[1])}" if _comparable(pair) else item for item, pair in merged.items()
    ]


def _comparable(pair: list[Any]) -> bool:
    """Hashes and lists of them say nothing to a reader; that they differ is enough."""
    return len(pair) == 2 and all(not isinstance(value, dict | list) and len(_brief(value)) <= 24 for value in pair)


def _brief(value: Any) -> str:
    return digits.plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else show(value)


def _check(control: Control) -> Markup:
    state = el("span", control.status, class_=f"chip {_STATUS[control.status]}")
    return el("li", el("b", control.name), " ", state, " ", digits.typeset(control.sentence))


def runs(view: View) -> Markup | None:
    """Every run with how it ended, also those that failed: they stay in the denominator."""
    readings = view.analysis.runs
    if not readings:
        return None
    head = ("arm", "seed", "outcome", view.metric.name, "samples/s", "training", "evaluation", "")
    rows = [_run(reading, view) for reading in readings]
    finished = sum(reading.status == "finished" for reading in readings)
    made = table_of(head, rows, "runs")
    broken = [el("li", el("b", status), " ", sentence) for status, sentence in view.troubles]
    return el(
        "section",
        el("h2", f"Runs: {finished} of {len(readings)} finished"),
        el("ul", *broken, class_="broken") if broken else None,
        el("div", made, class_="wide", tabindex="0", role="region", aria_label="Runs"),
        id="runs",
    )


def _run(reading: RunReading, view: View) -> Markup:
    speed = reading.throughput
    seconds = [speed.get(name) for name in ("train_seconds", "eval_seconds")]
    return el(
        "tr",
        el("th", el("i", class_=f"swatch {style(view.arm(reading.arm), view)}"), reading.arm, scope="row"),
        el("td", str(reading.seed), class_="number"),
        el(
            "td",
            el("span", reading.status, class_=f"chip {_OUTCOME.get(reading.status, 'open')}"),
            None if reading.status == "finished" else el("span", f" {reading.sentence}", class_="remark"),
        ),
        el("td", digits.figure(reading.values.get(view.metric.name), 4), class_="number"),
        el("td", digits.figure(speed.get("train_samples_per_second")), class_="number"),
        *(el("td", digits.DASH if value is None else digits.duration(value), class_="number") for value in seconds),
        el("td", el("a", "folder", href=quote(reading.folder) + "/"), class_="muted"),
    )


def environment(view: View, folder: Path) -> Markup:
    """What the runs ran on, and with which code."""
    manifests = _manifests(view, folder)
    facts = {
        "device": _each(manifest.device for manifest in manifests),
        "threads": _each(str(manifest.num_threads) for manifest in manifests if manifest.num_threads),
        "versions": "; ".join(dict.fromkeys(_versions(manifest.versions) for manifest in manifests)),
        "git": _each(manifest.git for manifest in manifests if manifest.git),
        "code": _each(manifest.code_digest[:12] for manifest in manifests),
        "padding": _each(manifest.padding for manifest in manifests),
    }
    return el("section", el("h2", "Where did it run?"), _facts(facts), id="environment")


def reproduce(view: View) -> Markup:
    """The exact command, and where the figures lie."""
    command = view.analysis.command
    return el(
        "section",
        el("h2", "Make it again"),
        el("pre", el("code", command), tabindex="0") if command else None,
        _facts({"budget": _budget(view.arms[0].derived), "seeds": ", ".join(map(str, view.analysis.seeds))}),
        el(
            "p",
            "All figures of this page: analysis.json. Every step of every run: trace.arrow in the run's folder.",
            class_="key",
        ),
        id="reproduce",
    )


def _facts(facts: Mapping[str, str]) -> Markup:
    return el("dl", *(join(el("dt", term), el("dd", text)) for term, text in facts.items() if text))


def _manifests(view: View, folder: Path) -> list[Manifest]:
    """Those that can be read: a run whose manifest cannot is named among the runs, and costs the page nothing else."""
    found = []
    for reading in view.analysis.runs:
        with suppress(RecordError, TypeError):
            found.append(read_manifest(RunDir(folder / reading.folder)))
    return found


def _budget(derived: Mapping[str, float]) -> str:
    units = {"samples_seen": "samples", "total_steps": "steps at the baseline", "epochs": "epochs"}
    return ", ".join(f"{digits.plain(derived[key])} {unit}" for key, unit in units.items() if key in derived)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _each(values: Iterable[str]) -> str:
    return ", ".join(value for value in dict.fromkeys(values) if value)

"""The record of a study: controls, noise floor, settings, fingerprints, speed, runs and how to reproduce them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ablate import formatting as fmt
from ablate.analysis.results import RunReading
from ablate.config.flatten import ABSENT
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.hashing import digest_of
from ablate.records.metadata import Manifest
from ablate.report.section import Cell, Note, Section, Table, cells
from ablate.report.study_files import StudyFiles
from ablate.report.view_model import View

# Controls.

_LONGEST = 24


def controls(view: View, _folder: Path | None = None) -> Section | None:
    """Build what each arm changed, and every control with its sentence."""
    found = view.analysis.controls
    if not found and not view.analysis.notes:
        return None
    arms = [arm for arm in view.trained if any(control.arm == arm.name for control in found)]
    changed = tuple(
        (
            Cell(text=arm.change, swatch=view.style(arm)),
            *cells(
                "; ".join(f"{key} = {show(value)}" for key, value in sorted(arm.changes.items())),
                "; ".join(_derived(control for control in found if control.arm == arm.name)) or fmt.DASH,
                " ".join(filter(None, (arm.question, arm.expect, arm.source))),
            ),
        )
        for arm in arms
    )
    rows = tuple(
        (
            *cells(one.arm, one.name.replace("_", " ")),
            Cell(text=one.status, strong=one.status != "checked"),
            *cells(fmt.typeset(one.sentence)),
        )
        for one in found
    )
    summary = "; ".join(f"{name} {figures}" for name, figures in view.controls)
    held = f"Equal in every arm: {', '.join(view.held)}." if view.held else ""
    tables = {
        ("arm", "changed", "derived changes", "question, hypothesis, reference"): changed,
        ("arm", "control", "status", "finding"): rows,
    }
    return Section(
        key="controls",
        title="Controls",
        answer=f"{summary[:1].upper()}{summary[1:]}. {held}".strip() if summary else "",
        tables=tuple(
            Table(head=head, rows=each, words=frozenset(range(1, len(head)))) for head, each in tables.items() if each
        ),
        notes=(
            *(Note(text=sentence, alarm=True) for sentence in view.control_failures),
            *(Note(text=note, label="note") for note in view.analysis.notes),
        ),
    )


def _derived(found: Iterable[Control]) -> list[str]:
    """Return what followed from the change; of hashes and lists only that they differ."""
    merged: dict[str, list[Any]] = {}
    for control in found:
        merged.update(control.derived)
    shown = {item: [_brief(value) for value in pair] for item, pair in merged.items()}
    return [f"{item} {' → '.join(pair)}" if len(pair) == 2 and all(pair) else item for item, pair in shown.items()]


def _brief(value: Any) -> str:
    """Return a value that is short enough to show; else an empty text."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    text = fmt.plain(value) if plain else "" if isinstance(value, dict | list) else show(value)
    return text if len(text) <= _LONGEST else ""


# Did every arm learn?


def learning(view: View, _folder: Path | None = None) -> Section | None:
    """Build the evaluations before and after training of every arm, next to the majority class and the noise."""
    rows = tuple(
        (
            Cell(text=one.arm),
            Cell(
                text="not known" if one.learned is None else "yes" if one.learned else "no", strong=one.learned is False
            ),
            Cell(text=one.metric),
            *cells(*(fmt.figure(value) for value in (one.start, one.last, one.majority, one.noise))),
        )
        for one in view.analysis.learning
    )
    head = ("arm", "learned", "metric", "before training", "last", "majority class", "noise")
    table = Table(head=head, rows=rows, words=frozenset({1, 2}))
    return Section(key="learning", title="Did every arm learn?", tables=(table,)) if rows else None


# Fingerprints.

_SHOWN = 8
_MEANINGS = {
    "data": "dataset on disk",
    "splits": "training and evaluation examples",
    "eval_set": "evaluation examples",
    "init": "initial weights",
    "order": "order of the samples",
    "parameters": "names and shapes of the weights",
    "components": "removed or replaced modules",
    "hooks": "hooks in the model",
    "dropout": "dropout rates",
    "precision": "number formats",
    "optimizer": "optimizer settings",
    "schedule": "shape of the learning rate schedule",
    "rates": "learning rates",
    "max_grad_norm": "gradient clipping threshold",
    "loss_at_start": "eval loss before training",
    "environment": "device and library versions",
}


def fingerprints(view: View, folder: Path) -> Section | None:
    """Build the hash of every fingerprint item and arm, of the first seed."""
    files = StudyFiles(view.analysis, folder)
    found = {arm.name: items for arm in view.trained if (items := files.fingerprint(arm.name)) is not None}
    if len(found) < 2:
        return None
    known = {item for items in found.values() for item in items}
    rows = {
        Cell(text=item, detail=_MEANINGS[item]): [_hash(items.get(item)) for items in found.values()]
        for item in _MEANINGS
        if item in known
    }
    return Section(
        key="fingerprints",
        title="Fingerprints",
        tables=(_differences(("item", *found), rows),),
        reading=(
            f"First {_SHOWN} digits of the hash, of the first seed; the controls compare every seed. Bold: differs from the "
            "baseline; that arm's control says whether it may."
        ),
    )


def _differences(head: Sequence[str], rows: Mapping[Cell, Sequence[str]]) -> Table:
    """A column per arm; values that differ from the first arm's stand out."""
    made = tuple((name, *(Cell(text=text, strong=text != texts[0]) for text in texts)) for name, texts in rows.items())
    return Table(head=tuple(head), rows=made, words=frozenset(range(1, len(head))))


def _hash(value: Any) -> str:
    return fmt.DASH if value is None else digest_of(value)[:_SHOWN]


# Settings that differ.


def config(view: View, folder: Path) -> Section | None:
    """Build one row per setting that differs between arms, from the config that each run resolved."""
    files = StudyFiles(view.analysis, folder)
    found = [(arm, config) for arm in view.arms if (config := files.config(arm.name))]
    if not found:
        return None
    differences = differing([config for _, config in found])
    same = len(set().union(*(config for _, config in found))) - len(differences)
    rows = {Cell(text=key): values for key, values in differences}
    return Section(
        key="configs",
        title="Config differences",
        answer="" if rows else "All arms have the same settings.",
        tables=(_differences(("setting", *(arm.name for arm, _ in found)), rows),) if rows else (),
        reading=f"The other {same} settings are the same in every arm; config.yaml of each run has all of them.",
    )


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return (key, its value in each config) of the keys whose type or value differs. configs: by dotted key."""
    keys = dict.fromkeys(key for config in configs for key in config)
    found = [(key, [config.get(key, ABSENT) for config in configs]) for key in keys]
    return [(key, [show(value) for value in values]) for key, values in found if len({_exact(v) for v in values}) > 1]


def _exact(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


# Throughput.

_RATES = {
    "train_samples_per_second": "training samples/s",
    "train_tokens_per_second": "training tokens/s",
    "train_steps_per_second": "training steps/s",
    "eval_samples_per_second": "evaluated samples/s",
}


def throughput(view: View, folder: Path) -> Section | None:
    """Build one row per device and arm, interrupted runs included."""
    files = StudyFiles(view.analysis, folder)
    grouped: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for reading in view.analysis.runs:
        if reading.throughput:
            grouped.setdefault((_device(files.manifest(reading)), reading.arm), []).append(reading.throughput)
    if not grouped:
        return None
    every = [speed for speeds in grouped.values() for speed in speeds]
    rates = {key: text for key, text in _RATES.items() if any(key in speed for speed in every)}
    memory = any("peak_memory_bytes" in speed for speed in every)
    rows = tuple(
        (
            Cell(text=device),
            Cell(text=arm, swatch=view.style(view.arm(arm))),
            Cell(text=str(len(speeds))),
            *(_mean_rate(speeds, key) for key in rates),
            *([Cell(text=fmt.size(max(speed.get("peak_memory_bytes", 0.0) for speed in speeds)))] if memory else []),
        )
        for (device, arm), speeds in grouped.items()
    )
    head = ("device", "arm", "runs", *rates.values(), *(["peak memory"] if memory else []))
    return Section(
        key="throughput",
        title="Throughput",
        tables=(Table(head=head, rows=rows, words=frozenset({1})),),
        reading="Mean over runs, with the slowest and the fastest. Training time excludes evaluation.",
    )


def _mean_rate(speeds: Sequence[Mapping[str, float]], key: str) -> Cell:
    values = [speed[key] for speed in speeds if key in speed]
    if not values:
        return Cell(text=fmt.DASH)
    between = f"({fmt.figure(min(values))} to {fmt.figure(max(values))})" if len(values) > 1 else ""
    return Cell(text=fmt.figure(float(np.mean(values))), detail=between)


def _device(manifest: Manifest | None) -> str:
    if manifest is None:
        return "unknown"
    threads = f", {fmt.counted(manifest.num_threads, 'thread')}" if manifest.num_threads else ""
    return f"{manifest.device or 'unknown'}{threads}"


# Runs, environment, reproduction.


def runs(view: View, _folder: Path | None = None) -> Section | None:
    """Build one row per run with its status; failed runs stay in the denominator."""
    readings = view.analysis.runs
    if not readings:
        return None
    head = ("arm", "seed", "status", view.metric.name, "samples/s", "training", "evaluation", "")
    finished = sum(reading.status == "finished" for reading in readings)
    return Section(
        key="runs",
        title=f"Runs: {finished} of {len(readings)} finished",
        tables=(Table(head=head, rows=tuple(_run(one, view) for one in readings), words=frozenset({2, 7})),),
        notes=tuple(Note(label=status, text=sentence, alarm=True) for status, sentence in view.troubles),
    )


def _run(reading: RunReading, view: View) -> tuple[Cell, ...]:
    speed = reading.throughput
    seconds = [speed.get(name) for name in ("train_seconds", "eval_seconds")]
    return (
        Cell(text=reading.arm, swatch=view.style(view.arm(reading.arm))),
        Cell(text=str(reading.seed)),
        Cell(
            text=reading.status,
            strong=reading.status != "finished",
            detail="" if reading.status == "finished" else reading.sentence,
        ),
        *cells(
            fmt.figure(reading.values.get(view.metric.name), 4),
            fmt.figure(speed.get("train_samples_per_second")),
            *(fmt.DASH if value is None else fmt.duration(value) for value in seconds),
        ),
        Cell(text="folder", href=quote(reading.folder) + "/"),
    )


def reproduction(view: View, folder: Path) -> Section | None:
    """Build the command, the budget and the seeds of the study, and the devices, versions and code of its runs."""
    units = {"samples_seen": "samples", "total_steps": "steps at the baseline", "epochs": "epochs"}
    derived = view.arms[0].derived
    manifests = StudyFiles(view.analysis, folder).manifests()
    facts = {
        "budget": ", ".join(f"{fmt.plain(derived[key])} {unit}" for key, unit in units.items() if key in derived),
        "seeds": ", ".join(map(str, view.analysis.seeds)),
        "device": _each(manifest.device for manifest in manifests),
        "threads": _each(str(manifest.num_threads) for manifest in manifests if manifest.num_threads),
        "precision": _each(manifest.precision for manifest in manifests),
        "versions": "; ".join(dict.fromkeys(_versions(manifest.versions) for manifest in manifests)),
        "git": _each(manifest.git for manifest in manifests if manifest.git),
        "code": _each(manifest.code_digest[:12] for manifest in manifests),
        "padding": _each(manifest.padding for manifest in manifests),
        "weights": _each(manifest.weights for manifest in manifests),
    }
    return Section(
        key="reproduce",
        title="Reproduction",
        code=view.analysis.command,
        facts=tuple((term, text) for term, text in facts.items() if text),
        reading="All figures of this page: analysis.json. Every step of every run: trace.arrow in the run directory.",
    )


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _each(values: Iterable[str]) -> str:
    return ", ".join(value for value in dict.fromkeys(values) if value)

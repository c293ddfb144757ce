"""The record of a study: metrics, controls, noise floor, settings, speed, runs and how to reproduce them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml

from ablate import formatting as fmt
from ablate.analysis.results import RunReading
from ablate.config.flatten import ABSENT, leaves
from ablate.design.axis import show
from ablate.errors import AblateError, RecordError
from ablate.hashing import digest_of
from ablate.records.gradient_health import SPIKE, WINDOW
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, read_fingerprint, read_manifest
from ablate.report.chart_data import histogram
from ablate.report.section import Cell, Note, Section, Table, cells
from ablate.report.view_model import ArmView, OutcomeView, Row, View, interval_head
from ablate.serialization import read_yaml

# Metrics of every arm.


def metrics(view: View, _folder: Path | None = None) -> Section | None:
    """Build the mean of every metric and arm, with the difference from the baseline below it."""
    if not view.outcomes:
        return None
    head = ("metric", *(arm.name for arm in view.trained), *(floor.name for floor in view.floors))
    rows = tuple(_metric_row(outcome, view) for outcome in view.outcomes)
    return Section(
        key="metrics",
        title="All metrics",
        tables=(Table(head=head, rows=rows, css="outcomes"),),
        reading=(
            f"Mean over seeds; below it the difference from the baseline with its {interval_head(view)}, simultaneous over the "
            f"variants but not over the metrics. Only {view.metric.name} was declared as the question beforehand: with many "
            "metrics, some differ by chance."
        ),
    )


def _metric_row(outcome: OutcomeView, view: View) -> tuple[Cell, ...]:
    info = outcome.info
    means = []
    for arm in view.trained:
        row = outcome.rows.get(arm.name)
        tone = row.tone if row is not None and row.tone in ("good", "bad", "moved", "broken") else ""
        means.append(Cell(text=fmt.figure(outcome.means[arm.name]), tone=tone, detail=_difference(row)))
    return (Cell(text=info.name, detail=info.unit), *means, *cells(*(floor.of(info.name) for floor in view.floors)))


def _difference(row: Row | None) -> str:
    if row is None or row.contrast.effect is None:
        return ""
    verdict = row.verdict if row.tone in ("good", "bad", "moved", "broken") else ""
    between = f" {row.interval}" if row.contrast.low is not None else ""
    return f"{fmt.signed(row.effect)}{between} {verdict}".rstrip()


# Gradient norms.


def gradient_norms(view: View, folder: Path) -> Section | None:
    """Build the histogram of the gradient norm, with spikes, clipped and skipped steps per arm."""
    chart = histogram(view, folder)
    if not chart["arms"]:
        return None
    rows = tuple(
        (
            Cell(text=view.arm(one["name"]).change, swatch=view.style(view.arm(one["name"]))),
            *cells(fmt.plain(one["steps"]), fmt.figure(one["highest"])),
            *(_count(one[name], one["steps"]) for name in ("spikes", "clipped", "skipped")),
        )
        for one in chart["arms"]
    )
    head = ("arm", "steps", "highest norm", "spikes", "clipped steps", "skipped steps")
    return Section(
        key="norms",
        title="Gradient norms",
        plot="histogram",
        plot_label="Histogram of the gradient norm, per arm",
        chart=chart,
        tables=(Table(head=head, rows=rows),),
        reading=(
            "Share of an arm's steps by gradient norm before clipping, all seeds together. A spike is a "
            f"step above {SPIKE:g} times the median of the {WINDOW} steps before it. A skipped step had no finite gradient."
        ),
    )


def _count(count: int, steps: int) -> Cell:
    return Cell(text=fmt.plain(count), detail=fmt.percent(count / steps) if steps and count else "")


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
    found = {arm.name: items for arm in view.trained if (items := _fingerprint(arm.name, view, folder)) is not None}
    if len(found) < 2:
        return None
    baseline, *_ = found
    known = {item for items in found.values() for item in items}
    rows = []
    for item in (item for item in _MEANINGS if item in known):
        own = _hash(found[baseline].get(item))
        hashes = [_hash(items.get(item)) for items in found.values()]
        row = [Cell(text=text, tone="" if text == own else "moved") for text in hashes]
        rows.append((Cell(text=item, detail=_MEANINGS[item]), *row))
    table = Table(head=("item", *found), rows=tuple(rows), css="hashes", words=frozenset(range(1, len(found) + 1)))
    return Section(
        key="fingerprints",
        title="Fingerprints",
        tables=(table,),
        reading=(
            f"First {_SHOWN} digits of the hash, of the first seed; the controls compare every seed. Marked: differs from the "
            "baseline; that arm's control says whether it may."
        ),
    )


def _hash(value: Any) -> str:
    return fmt.DASH if value is None else digest_of(value)[:_SHOWN]


def _fingerprint(arm: str, view: View, folder: Path) -> Mapping[str, Any] | None:
    for reading in view.analysis.runs:
        if reading.arm == arm and reading.status != "missing":
            with suppress(RecordError, TypeError):
                fingerprint = read_fingerprint(RunDir(folder / reading.folder))
                if fingerprint is not None:
                    return fingerprint.items
    return None


# Noise floor.


def noise_floor(view: View, _folder: Path | None = None) -> Section | None:
    """Build what A/A arms differ by, on every metric that has a floor; the primary metric first."""
    if not view.floors:
        return None
    infos = [outcome.info for outcome in view.outcomes]
    shown = [info for info in infos if any(info.name in floor.floor.values for floor in view.floors)]
    shown = sorted(shown, key=lambda info: info.name != view.metric.name)
    rows = tuple(
        (Cell(text=info.name, detail=info.unit), *cells(*(floor.of(info.name) for floor in view.floors)))
        for info in shown
    )
    return Section(
        key="floors",
        title="Noise floor (A/A runs)",
        answer=" ".join(f"{floor.name[:1].upper()}{floor.name[1:]}: {floor.sentence}." for floor in view.floors),
        tables=(Table(head=("metric", *(floor.name for floor in view.floors)), rows=rows),),
        reading="An effect that is not larger than the larger floor gets no verdict.",
    )


# Settings that differ.

_NOT_SETTINGS = ("seed", "arm")


def config(view: View, folder: Path) -> Section | None:
    """Build one row per setting that differs between arms, from the config that each run resolved."""
    found = [(arm, config) for arm in view.arms if (config := _config(arm, view, folder)) is not None]
    if not found:
        return None
    differences = differing([config for _, config in found])
    same = len(set().union(*(config for _, config in found))) - len(differences)
    rows = tuple(
        (Cell(text=key), *(Cell(text=value, tone="moved" if value != values[0] else "") for value in values))
        for key, values in differences
    )
    head = ("setting", *(arm.name for arm, _ in found))
    return Section(
        key="configs",
        title="Config differences",
        answer="" if rows else "All arms have the same settings.",
        tables=(Table(head=head, rows=rows, css="configs", words=frozenset(range(1, len(head)))),) if rows else (),
        reading=f"The other {same} settings are the same in every arm; config.yaml of each run has all of them.",
    )


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return (key, its value in each config) of the keys whose type or value differs. configs: by dotted key."""
    keys = dict.fromkeys(key for config in configs for key in config)
    found = [(key, [config.get(key, ABSENT) for config in configs]) for key in keys]
    return [(key, [show(value) for value in values]) for key, values in found if len({_exact(v) for v in values}) > 1]


def _exact(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _config(arm: ArmView, view: View, folder: Path) -> dict[str, Any] | None:
    """Config of the arm's first run that has one."""
    for reading in view.analysis.runs:
        if reading.arm != arm.name:
            continue
        with suppress(AblateError, OSError, ValueError, yaml.YAMLError):
            read = read_yaml(RunDir(folder / reading.folder).config)
            if isinstance(read, Mapping):
                plain = leaves({str(key): value for key, value in read.items()})
                return {key: value for key, value in plain.items() if key not in _NOT_SETTINGS}
    return None


# Throughput.

_RATES = {
    "train_samples_per_second": "training samples/s",
    "train_tokens_per_second": "training tokens/s",
    "train_steps_per_second": "training steps/s",
    "eval_samples_per_second": "evaluated samples/s",
}


def throughput(view: View, folder: Path) -> Section | None:
    """Build one row per device and arm, interrupted runs included."""
    grouped: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for reading in view.analysis.runs:
        if reading.throughput:
            grouped.setdefault((_device(folder / reading.folder), reading.arm), []).append(reading.throughput)
    if not grouped:
        return None
    every = [speed for speeds in grouped.values() for speed in speeds]
    rates = {key: text for key, text in _RATES.items() if any(key in speed for speed in every)}
    memory = any("peak_memory_bytes" in speed for speed in every)
    rows = tuple(
        (
            Cell(text=device),
            Cell(text=arm, swatch=view.style(view.arm(arm))),
            *cells(str(len(speeds)), *(_mean_rate(speeds, key) for key in rates)),
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


def _mean_rate(speeds: Sequence[Mapping[str, float]], key: str) -> str:
    values = [speed[key] for speed in speeds if key in speed]
    if not values:
        return fmt.DASH
    text = fmt.figure(float(np.mean(values)))
    return text if len(values) == 1 else f"{text} ({fmt.figure(min(values))} to {fmt.figure(max(values))})"


def _device(run: Path) -> str:
    try:
        manifest = read_manifest(RunDir(run))
    except (RecordError, TypeError):
        return "unknown"
    threads = f", {fmt.counted(manifest.num_threads, 'thread')}" if manifest.num_threads else ""
    return f"{manifest.device or 'unknown'}{threads}"


# Runs, environment, reproduction.

_STATUS_TONES = {"finished": "still", "diverged": "bad", "failed": "bad", "interrupted": "open"}


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
        tables=(
            Table(head=head, rows=tuple(_run(one, view) for one in readings), words=frozenset({2, 7}), css="runs"),
        ),
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
            tone=_STATUS_TONES.get(reading.status, "open"),
            chip=True,
            detail="" if reading.status == "finished" else reading.sentence,
        ),
        *cells(
            fmt.figure(reading.values.get(view.metric.name), 4),
            fmt.figure(speed.get("train_samples_per_second")),
            *(fmt.DASH if value is None else fmt.duration(value) for value in seconds),
        ),
        Cell(text="folder", href=quote(reading.folder) + "/"),
    )


def environment(view: View, folder: Path) -> Section | None:
    """Build the devices, versions and code of the runs."""
    manifests = list(_manifests(view, folder))
    facts = {
        "device": _each(manifest.device for manifest in manifests),
        "threads": _each(str(manifest.num_threads) for manifest in manifests if manifest.num_threads),
        "precision": _each(manifest.precision for manifest in manifests),
        "versions": "; ".join(dict.fromkeys(_versions(manifest.versions) for manifest in manifests)),
        "git": _each(manifest.git for manifest in manifests if manifest.git),
        "code": _each(manifest.code_digest[:12] for manifest in manifests),
        "padding": _each(manifest.padding for manifest in manifests),
    }
    return Section(key="environment", title="Environment", facts=_present(facts))


def reproduction(view: View, _folder: Path | None = None) -> Section | None:
    """Build the command, the budget and the seeds of the study."""
    units = {"samples_seen": "samples", "total_steps": "steps at the baseline", "epochs": "epochs"}
    derived = view.arms[0].derived
    budget = ", ".join(f"{fmt.plain(derived[key])} {unit}" for key, unit in units.items() if key in derived)
    return Section(
        key="reproduce",
        title="Reproduction",
        code=view.analysis.command,
        facts=_present({"budget": budget, "seeds": ", ".join(map(str, view.analysis.seeds))}),
        reading="All figures of this page: analysis.json. Every step of every run: trace.arrow in the run directory.",
    )


def _manifests(view: View, folder: Path) -> Iterator[Manifest]:
    """Manifests that can be read; a run whose manifest cannot is named among the runs."""
    for reading in view.analysis.runs:
        with suppress(RecordError, TypeError):
            yield read_manifest(RunDir(folder / reading.folder))


def _present(facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((term, text) for term, text in facts.items() if text)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _each(values: Iterable[str]) -> str:
    return ", ".join(value for value in dict.fromkeys(values) if value)

"""How fast each arm trained and was evaluated, device by device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ablate import formatting as digits
from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import read_manifest
from ablate.report.markup import Markup, el, figures_table
from ablate.report.view import View

_RATES = {
    "train_samples_per_second": "training samples/s",
    "train_tokens_per_second": "training tokens/s",
    "train_steps_per_second": "training steps/s",
    "eval_samples_per_second": "evaluated samples/s",
}


def throughput_section(view: View, folder: Path, swatches: Mapping[str, Markup]) -> Markup | None:
    """swatches: by arm. A row per device and arm, also of runs that were cut off: what they had done is on record."""
    grouped: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for reading in view.analysis.runs:
        if reading.throughput:
            grouped.setdefault((_device(folder / reading.folder), reading.arm), []).append(reading.throughput)
    if not grouped:
        return None
    rates = {
        key: words for key, words in _RATES.items() if any(key in one for many in grouped.values() for one in many)
    }
    memory = any("peak_memory_bytes" in one for many in grouped.values() for one in many)
    head = ["device", "arm", "runs", *rates.values(), *(["peak memory"] if memory else [])]
    rows = [
        el(
            "tr",
            el("th", device, scope="row"),
            el("td", swatches.get(arm), arm),
            el("td", str(len(many)), class_="number"),
            *(el("td", _spread(many, key), class_="number") for key in rates),
            el("td", digits.size(max(one.get("peak_memory_bytes", 0.0) for one in many)), class_="number")
            if memory
            else None,
        )
        for (device, arm), many in grouped.items()
    ]
    return el(
        "section",
        el("h2", "How fast was it, and on what?"),
        figures_table(head, rows, "Throughput by device"),
        el(
            "p",
            "Mean over runs, with the slowest and the fastest. Evaluation is no part of training time.",
            class_="key",
        ),
        id="throughput",
    )


def _spread(many: Sequence[Mapping[str, float]], key: str) -> str:
    values = [one[key] for one in many if key in one]
    if not values:
        return digits.DASH
    text = digits.figure(float(np.mean(values)))
    return text if len(values) == 1 else f"{text} ({digits.figure(min(values))} … {digits.figure(max(values))})"


def _device(run: Path) -> str:
    try:
        manifest = read_manifest(RunDir(run))
    except (RecordError, TypeError):
        return "unknown"
    threads = f", {digits.counted(manifest.num_threads, 'thread')}" if manifest.num_threads else ""
    return f"{manifest.device or 'unknown'}{threads}"

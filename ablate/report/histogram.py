"""How large the gradient norm was, and how often: a histogram per arm, its spikes, its clipped and its skipped steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate import formatting as digits
from ablate.errors import RecordError
from ablate.records.gradient_health import SPIKE, WINDOW, spikes
from ablate.records.layout import RunDir
from ablate.records.reader import read_trace
from ablate.report.downsample import rounded
from ablate.report.markup import Markup, el, figures_table, join
from ablate.report.view import ArmView, View

BINS = 48
_COLUMNS = ("grad_norm", "clip_coefficient", "applied", "step")


def histogram(view: View, folder: Path) -> dict[str, Any]:
    """{edges: shape [BINS + 1], arms: [{name, share: of its steps in each bin, steps, spikes, clipped, skipped, highest}]}.

    The bins are equally wide in the logarithm, and the same for every arm.
    """
    found = [(arm, _read(arm, view, folder)) for arm in view.trained]
    norms = [read.norms[read.norms > 0] for _, read in found]
    every = np.concatenate(norms) if norms else np.empty(0)
    if not len(every):
        return {"edges": [], "arms": []}
    low, high = float(every.min()), float(every.max())
    edges = np.geomspace(low, high if high > low else low * 1.1, BINS + 1)
    edges[0], edges[-1] = low, max(high, edges[-1])
    return {
        "edges": rounded(edges, 6),
        "arms": [
            {
                "name": arm.name,
                "share": rounded(_shares(one, edges), 6),
                "steps": read.steps,
                "spikes": read.spikes,
                "clipped": read.clipped,
                "skipped": read.skipped,
                "highest": float(read.norms.max()) if len(read.norms) else None,
            }
            for (arm, read), one in zip(found, norms, strict=True)
        ],
    }


def _shares(norms: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.histogram(norms, edges)[0].astype(np.float64)
    return np.asarray(counts / max(1, len(norms)))


class _Read:
    """The steps of an arm's runs together."""

    def __init__(self) -> None:
        self.steps = self.spikes = self.clipped = self.skipped = 0
        self.parts: list[NDArray[np.float64]] = []

    @property
    def norms(self) -> NDArray[np.float64]:
        return np.concatenate(self.parts) if self.parts else np.empty(0)


def _read(arm: ArmView, view: View, folder: Path) -> _Read:
    read = _Read()
    for reading in view.analysis.runs:
        if reading.arm != arm.name or reading.status == "missing":
            continue
        try:
            trace = read_trace(RunDir(folder / reading.folder).trace, _COLUMNS)
        except (RecordError, OSError):
            continue
        applied = trace["applied"] == 1
        norms = trace["grad_norm"][applied]
        norms = norms[np.isfinite(norms)]
        read.parts.append(norms)
        read.steps += len(trace)
        read.spikes += int(spikes(norms).sum()) if trace.every_step else 0
        read.clipped += int(np.sum(applied & (trace["clip_coefficient"] < 1)))
        read.skipped += int(np.sum(~applied))
    return read


def norms_section(view: View, made: dict[str, Any], swatches: Sequence[Markup]) -> Markup | None:
    """swatches: one per arm of `made`."""
    if not made["arms"]:
        return None
    head = ("arm", "steps", "highest norm", "spikes", "clipped steps", "skipped steps")
    rows = [
        el(
            "tr",
            el("th", swatch, view.arm(one["name"]).change, scope="row"),
            el("td", digits.plain(one["steps"]), class_="number"),
            el("td", digits.figure(one["highest"]), class_="number"),
            *(el("td", _of(one[name], one["steps"]), class_="number") for name in ("spikes", "clipped", "skipped")),
        )
        for one, swatch in zip(made["arms"], swatches, strict=True)
    ]
    return el(
        "section",
        el("h2", "How large was the gradient?"),
        el("div", class_="plot", data_histogram=True, role="img", aria_label="Histogram of the gradient norm, per arm"),
        figures_table(head, rows, "Gradient norm per arm"),
        el(
            "p",
            f"Share of an arm's steps by the size of their gradient norm before clipping, all seeds together. A spike is a "
            f"step above {SPIKE:g} times the median of the {WINDOW} steps before it. A skipped step had no finite gradient.",
            class_="key",
        ),
        id="norms",
    )


def _of(count: int, steps: int) -> Markup:
    share = el("small", f" {digits.percent(count / steps)}") if steps and count else None
    return join(digits.plain(count), share)

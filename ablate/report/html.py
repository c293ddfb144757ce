"""`report.html`: one self-contained file. The same study gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ablate import formatting as fmt
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.report import sections as report_sections
from ablate.report.chart_data import chart_data, with_effects
from ablate.report.sections import Sections
from ablate.report.sparklines import scale
from ablate.report.view_model import (
    ArmView,
    View,
    beats_what,
    direction,
    floors_sentence,
    interval_head,
    named,
    resampled,
)

SCRIPTS = (
    "data", "state", "downsample", "seeds", "theme", "curves", "linked_axes", "cadence", "replays", "forest", "histogram",
    "controls", "main",
)  # fmt: skip
"""The page's scripts, in the order in which they are joined."""

MAX_LINES = 40
"""Runs that are drawn one by one; curves.js has the same number."""


def page(view: View, folder: Path, sections: Sections | None = None) -> str:
    """Return the whole page.

    folder: the study directory, for the records of its runs.
    sections: as from `sections.build`; None builds them.
    """
    sections = report_sections.build(view, folder) if sections is None else sections
    drawn = [section for parts in sections.values() for section in parts if section.plot]
    charts = chart_data(view, folder) | {section.plot: section.chart for section in drawn}
    return environment().get_template("page.html").render(
        view=view,
        sections=sections,
        study_design=_design(view),
        contrasts=_contrasts(view),
        control_cards=_control_cards(view),
        effects=with_effects(view),
        charts=charts,
        num_runs=sum(len(arm["runs"]) for arm in charts["arms"]),
        max_lines=MAX_LINES,
        style=Markup(static("page.css")),
        plotly=Markup(_plotly()),
        script=Markup("\n".join(static(f"{name}.js") for name in SCRIPTS)),
    )  # fmt: skip


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the template environment: every string is escaped, so that a run named `<script>` stays a name."""
    made = Environment(
        loader=PackageLoader("ablate.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    made.filters |= {"typeset": fmt.typeset, "plain": fmt.plain}
    made.globals |= {"beats_what": beats_what, "direction": direction, "floors_sentence": floors_sentence}
    made.globals |= {"interval_head": interval_head, "named": named, "resampled": resampled}
    return made


def static(name: str) -> str:
    """Return the text of a file in `static/`."""
    return (files("ablate.report") / "static" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _design(view: View) -> str:
    """`2 changes, one at a time, 5 seeds each; placebo and repeat for the noise floor`."""
    analysis = view.analysis
    if analysis.variance or analysis.effects or analysis.attribution or analysis.mediated:
        return view.heading
    kinds = [arm.kind for arm in view.arms if arm.axis is not None]
    changes = sum(kind not in ("placebo", "rerun", "observation") for kind in kinds)
    observed = len({arm.axis for arm in view.arms if arm.kind == "observation"})
    one_at_a_time = ", one at a time" if changes > 1 else ""
    parts = [fmt.counted(changes, "change") + one_at_a_time if changes else "the baseline alone"]
    parts.append(fmt.counted(len(analysis.seeds), "seed") + (" each" if changes else ""))
    text = ", ".join(parts)
    if observed:
        text += f"; {observed} observation {'axis' if observed == 1 else 'axes'}, from the same runs"
    floors = [kind for kind in ("placebo", "rerun") if kind in kinds]
    return text + (f"; {' and '.join(floors)} for the noise floor" if floors else "")


# Contrasts: the interval of each effect as a bar with its seeds.


@dataclass(frozen=True, slots=True)
class Ruler:
    """Map values to horizontal positions of a picture, in SVG units."""

    low: float
    high: float
    width: int = 320
    height: int = 34
    margin: int = 14

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.margin + share * (self.width - 2 * self.margin), 1)

    def band(self, half: float) -> tuple[float, float]:
        """Return left edge and width of the strip from -half to half."""
        left, right = self(max(-half, self.low)), self(min(half, self.high))
        return left, round(right - left, 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Return position and text of three to seven round values, zero among them where it is inside."""
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [round(step * number, 12) for number in range(first, last + 1)]
        decimals = max((len(f"{value:.10f}".rstrip("0").partition(".")[2]) for value in values), default=0)
        return [(self(value), fmt.number(value, decimals)) for value in values]


def _contrasts(view: View) -> dict[str, Any] | None:
    """Return what the table of contrasts draws; None where there is nothing to show."""
    if not view.primary and not view.replays and not view.repeated:
        return None
    low, high = scale([row.contrast for row in view.primary])
    observed = [("eye", axis, resampled(levels)) for axis, levels in view.replays.items()]
    observed += [("placebo", arm, sentence) for arm, sentence in view.repeated.items()]
    return {"ruler": Ruler(low, high), "observed": observed, "finite": math.isfinite}


# Controls, arm by arm.


def _control_cards(view: View) -> list[dict[str, Any]]:
    """Return, per arm with controls: its controls, what it changed, derived changes, and what was proven equal."""
    cards = []
    for arm in view.arms:
        controls = [control for control in view.analysis.controls if control.arm == arm.name]
        if controls:
            trained = arm.axis is not None and arm.kind != "observation"
            cards.append({"arm": arm, "controls": controls, "facts": _facts(arm, controls) if trained else None})
    return cards


def _facts(arm: ArmView, controls: Iterable[Control]) -> list[tuple[str, list[str]]]:
    held = list(dict.fromkeys(item for control in controls for item in control.held))
    facts = [
        ("changed", [f"{key} = {show(value)}" for key, value in sorted(arm.changes.items())]),
        ("derived changes", _derived(controls)),
        ("proven equal", held),
        ("hypothesis", [arm.expect] if arm.expect else []),
        ("reference", [arm.source] if arm.source else []),
    ]
    return [(term, values) for term, values in facts if values]


def _derived(controls: Iterable[Control]) -> list[str]:
    merged: dict[str, list[Any]] = {}
    for control in controls:
        merged.update(control.derived)
    return [
        f"{item} {_brief(pair[0])} → {_brief(pair[1])}" if _readable(pair) else item for item, pair in merged.items()
    ]


def _readable(pair: list[Any]) -> bool:
    """Whether both values are short enough to show; of hashes and lists, that they differ is enough."""
    return len(pair) == 2 and all(not isinstance(value, dict | list) and len(_brief(value)) <= 24 for value in pair)


def _brief(value: Any) -> str:
    return fmt.plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else show(value)

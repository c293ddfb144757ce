"""`report.html`: one self-contained file. The same study gives the same bytes."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ablate import formatting as fmt
from ablate.redact import visible
from ablate.report import sections as report_sections
from ablate.report.chart_data import chart_data
from ablate.report.forest import forest
from ablate.report.sections import Sections
from ablate.report.sections.result import setup, with_effects
from ablate.report.view_model import View, direction, interval_head, named, resampled

SCRIPTS = ("data", "state", "downsample", "seeds", "theme", "curves", "linked_axes", "cadence", "controls", "main")
"""The page's scripts, in the order in which they are joined."""

MAX_LINES = 40
"""Runs that are drawn one by one; curves.js has the same number."""

_MOST_FORESTS = 12
"""Metrics with a picture of their effects; figures of all of them are in a table."""


def page(view: View, folder: Path, sections: Sections | None = None) -> str:
    """Return the whole page.

    folder: the study directory, for the records of its runs.
    sections: as from `sections.build`; None builds them.
    """
    charts = chart_data(view, folder)
    small = [(one.info, forest(view, one, 330)) for one in with_effects(view)[:_MOST_FORESTS]]
    return environment().get_template("page.html").render(
        view=view,
        sections=report_sections.build(view, folder) if sections is None else sections,
        setup=setup(view, folder),
        primary_forest=forest(view, view.outcome(view.metric.name), 440),
        small_forests=small,
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
        finalize=lambda value: visible(value) if type(value) is str else value,  # not Markup, which is ours
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    made.filters |= {"typeset": fmt.typeset}
    made.globals |= {"direction": direction, "interval_head": interval_head, "named": named, "resampled": resampled}
    return made


def static(name: str) -> str:
    """Return the text of a file in `static/`."""
    return (files("ablate.report") / "static" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())

"""`report.html`: one file that holds everything it needs, and no clock or chance: the same study gives the same bytes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from ablate.report import effects, mediation
from ablate.report.adequacy import adequacy_section
from ablate.report.attribution import section
from ablate.report.budgets import budgets_line
from ablate.report.cadence_section import cadence_section
from ablate.report.config_diff import config_section
from ablate.report.curves_section import curves_section
from ablate.report.examples import examples_section
from ablate.report.forest import forest_section
from ablate.report.histogram import norms_section
from ablate.report.imported import alarms, imported_section
from ablate.report.looks import looks_section
from ablate.report.markup import el, embedded_json, join
from ablate.report.payload import payload, style
from ablate.report.record_sections import controls, environment, reproduce, runs
from ablate.report.sections import contrasts, controls_line, findings, header, outcomes, replays
from ablate.report.throughput import throughput_section
from ablate.report.variance import variance_section
from ablate.report.view import View

SCRIPTS = (
    "data", "state", "downsample", "seeds", "theme", "curves", "linked_axes", "cadence", "replays", "forest", "histogram", "controls",
    "main",
)  # fmt: skip
"""The page's script, a file per idea; put together in this order."""


def page(view: View, folder: Path) -> str:
    """The whole page. folder: the study's, for the records of its runs."""
    drawn = payload(view, folder)
    recorded = sum(len(arm["runs"]) for arm in drawn["arms"])
    swatches = {arm.name: el("i", class_=f"swatch {style(arm, view)}") for arm in view.arms}
    body = join(
        header(view),
        budgets_line(view.analysis),
        alarms(view.analysis.imported),
        section(view.analysis),
        mediation.section(view.analysis),
        effects.section(view.analysis),
        variance_section(view.analysis),
        contrasts(view),
        looks_section(view.analysis),
        controls_line(view),
        findings(view),
        examples_section(view),
        forest_section(view),
        curves_section(recorded, logged=view.analysis.imported is not None) if recorded else None,
        cadence_section() if recorded else None,
        replays(view),
        adequacy_section(view),
        norms_section(view, drawn["histogram"], [swatches[one["name"]] for one in drawn["histogram"]["arms"]]),
        outcomes(view),
        imported_section(view.analysis.imported),
        controls(view, folder),
        config_section(view, folder),
        throughput_section(view, folder, swatches),
        runs(view),
        environment(view, folder),
        reproduce(view),
    )
    return Template(_part("template.html")).substitute(
        title=el("title", f"{view.analysis.study}: {view.analysis.question}"),
        style=_part("page.css"),
        body=body,
        data=embedded_json(drawn),
        plotly=_plotly(),
        script="\n".join(_part(f"{name}.js") for name in SCRIPTS),
    )


def _part(name: str) -> str:
    return (files("ablate.report") / "static" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())

"""`report.html`: one file that holds everything it needs, and no clock or chance: the same study gives the same bytes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from ablate.report import effects, mediation
from ablate.report.adequacy import adequacy_section
from ablate.report.attribution import section
from ablate.report.budgets import budgets_line
from ablate.report.examples import examples_section
from ablate.report.imported import alarms, imported_section
from ablate.report.looks import looks_section
from ablate.report.markup import Markup, el, embedded_json, join
from ablate.report.payload import payload
from ablate.report.record_sections import controls, reproduce, runs
from ablate.report.sections import contrasts, controls_line, findings, header, outcomes, replays
from ablate.report.variance import variance_section
from ablate.report.view import View


def page(view: View, folder: Path) -> str:
    """The whole page. folder: the study's, for the traces."""
    curves = payload(view, folder)
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
        _curves(int(curves["window"]), logged=view.analysis.imported is not None),
        outcomes(view),
        replays(view),
        adequacy_section(view),
        imported_section(view.analysis.imported),
        controls(view),
        runs(view),
        reproduce(view, folder),
    )
    return Template(_part("template.html")).substitute(
        title=el("title", f"{view.analysis.study}: {view.analysis.question}"),
        style=_part("page.css"),
        body=body,
        data=embedded_json(curves),
        plotly=_plotly(),
        script=_part("page.js"),
    )


def _curves(window: int, *, logged: bool) -> Markup:
    """logged: the steps are those that somebody's log has, not all of them."""
    which = "the logged steps" if logged else "every step"
    panels = (
        ("grad_norm", f"Gradient norm of {which}", "before clipping; thin: one seed, bold: mean over seeds"),
        ("eval_loss", "Eval loss", "thin: one seed, bold: mean over seeds"),
        ("loss", "Training loss", f"thin: {which} of one seed, bold: mean over seeds and {window} samples"),
    )
    units = ("samples", "steps", "epochs", "seconds")
    return el(
        "section",
        el("h2", "Curves"),
        el(
            "div",
            el("div", class_="legend", role="group", aria_label="arms shown"),
            el(
                "div",
                *(
                    el("button", unit, type="button", data_unit=unit, aria_pressed=_pressed(unit == "samples"))
                    for unit in units
                ),
                class_="switch",
                role="group",
                aria_label="horizontal axis",
            ),
            class_="handles",
        ),
        el("div", *(_panel(*panel) for panel in panels), class_="panels"),
        el(
            "noscript",
            el("p", "The curves are drawn by a script, which is switched off here; every table works without it."),
        ),
        id="curves",
    )


def _panel(name: str, title: str, key: str) -> Markup:
    log = el(
        "button",
        "log",
        type="button",
        data_log=name,
        aria_pressed=_pressed(name == "grad_norm"),
        title="logarithmic vertical axis",
    )
    return el(
        "figure",
        el("figcaption", el("h3", title), el("span", key, class_="key"), log),
        el("div", class_="plot", data_panel=name, role="img", aria_label=title),
        class_=f"panel {name}",
    )


def _pressed(state: bool) -> str:
    return str(state).lower()


def _part(name: str) -> str:
    return (files("ablate.report") / "page" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())

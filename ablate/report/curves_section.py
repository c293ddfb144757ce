"""The places where the script draws the curves, and everything that a reader can turn there."""

from __future__ import annotations

from ablate.report.markup import Markup, el

UNITS = ("steps", "samples", "tokens", "epochs", "seconds")


MOST_LINES = 40
"""Runs that are drawn one by one; the script has the same number."""


def curves_section(num_runs: int, *, logged: bool) -> Markup:
    """logged: the steps are those that somebody's log has, not all of them."""
    thin = (
        "one seed each" if num_runs <= MOST_LINES else "the lowest and the highest of an arm's seeds in every stretch"
    )
    which = "the logged steps" if logged else "every step"
    panels = (
        (
            "grad_norm",
            f"Gradient norm of {which}",
            "before clipping; triangles: spikes; strips below: share of clipped steps",
        ),
        ("eval_loss", "Eval loss", "at every look on record"),
        ("loss", "Training loss", f"of {which}"),
    )
    return el(
        "section",
        el("h2", "Curves"),
        el(
            "p",
            f"Thin lines: {thin}, never smoothed. Bold: mean over seeds, smoothed as the slider says. Shaded: from "
            "the lowest seed to the highest, smoothed likewise; n is how many finished.",
            class_="key",
        ),
        el(
            "div",
            el("div", class_="legend", role="group", aria_label="arms shown; the baseline always is"),
            el("div", _units(), toggle("log axis", pressed=False, data_log_x=True), class_="handle"),
            _smoothing(),
            class_="handles",
        ),
        el("div", *(_panel(*panel) for panel in panels), class_="panels"),
        el(
            "noscript",
            el("p", "The curves are drawn by a script, which is switched off here; every table works without it."),
        ),
        id="curves",
    )


def _units() -> Markup:
    buttons = [toggle(unit, pressed=unit == "samples", data_unit=unit) for unit in UNITS]
    return el("div", *buttons, class_="switch", role="group", aria_label="horizontal axis")


def _smoothing() -> Markup:
    return el(
        "div",
        el("label", "Smoothing", for_="smoothing"),
        el("input", type="range", id="smoothing", min="0", max="1", step="1"),
        el("output", id="smoothing-words", for_="smoothing"),
        class_="handle slider",
    )


def _panel(name: str, title: str, key: str) -> Markup:
    log = toggle(
        "log axis", pressed=name == "grad_norm", data_log=name, aria_label=f"logarithmic vertical axis: {title}"
    )
    return el(
        "figure",
        el("figcaption", el("h3", title), el("span", key, class_="key"), log),
        el("div", class_="plot", data_panel=name, role="img", aria_label=title),
        class_=f"panel {name}",
    )


def toggle(text: str, *, pressed: bool, **attributes: object) -> Markup:
    """A button that is pressed or not."""
    return el("button", text, type="button", aria_pressed=str(pressed).lower(), **attributes)

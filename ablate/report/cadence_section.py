"""Two pictures with a slider each: what the runs would have shown, had they been looked at or logged less often."""

from __future__ import annotations

from ablate.report.curves_section import toggle
from ablate.report.markup import Markup, el


def cadence_section() -> Markup:
    """Everything that changes here is read from the record by the script; nothing is trained."""
    return el(
        "section",
        el("h2", "What if it had been looked at less often?"),
        el(
            "p",
            "Bold: what runs at that cadence would have shown, mean over seeds. Thin: what is on record. Move a slider until "
            "the fall is gone before the first look: that curve says nothing of how the training began. Log-spaced looks are "
            "the recorded ones nearest to them: dense early, sparse later.",
            class_="key",
        ),
        el("div", _eval(), _log(), class_="panels cadences"),
        id="cadence",
    )


def _eval() -> Markup:
    return el(
        "figure",
        el("figcaption", el("h3", "Eval loss at fewer looks"), el("span", data_cadence_words="eval", class_="key")),
        el("div", _spacing("eval"), class_="handle"),
        _slider("eval", "Look every"),
        _picture("eval", "Eval loss as it looks at the chosen cadence"),
        class_="panel",
    )


def _log() -> Markup:
    curves = (("loss", "training loss"), ("grad_norm", "gradient norm"))
    hows = (("mean", "mean since the row before"), ("last", "last step's value"), ("max", "highest since"))
    return el(
        "figure",
        el("figcaption", el("h3", "A log with fewer rows"), el("span", data_cadence_words="log", class_="key")),
        el(
            "div",
            _switch("curve of the log", [(text, {"data_curve": name}) for name, text in curves]),
            _switch("what a row keeps", [(text, {"data_how": name}) for name, text in hows]),
            _spacing("log"),
            class_="handle",
        ),
        _slider("log", "Row every"),
        _picture("log", "The log as it looks at the chosen cadence"),
        class_="panel",
    )


def _spacing(which: str) -> Markup:
    name = f"data_spacing_{which}"
    label = "spacing of the looks" if which == "eval" else "spacing of the rows"
    return _switch(label, [("even", {name: "even"}), ("log-spaced", {name: "log"})])


def _switch(label: str, buttons: list[tuple[str, dict[str, str]]]) -> Markup:
    made = [toggle(text, pressed=place == 0, **attributes) for place, (text, attributes) in enumerate(buttons)]
    return el("div", *made, class_="switch", role="group", aria_label=label)


def _slider(which: str, label: str) -> Markup:
    return el(
        "div",
        el("label", label, for_=f"cadence-{which}"),
        el("input", type="range", id=f"cadence-{which}", min="0", max="1", step="1"),
        el("input", type="number", id=f"cadence-{which}-number", min="1", aria_label=f"{label}: a number to type"),
        el("span", data_cadence_unit=which, class_="muted"),
        class_="handle slider",
    )


def _picture(which: str, label: str) -> Markup:
    return el(
        "div",
        el("div", class_="plot", data_cadence=which, role="img", aria_label=label),
        el("p", data_shares_title=which, class_="key"),
        el("ul", data_shares=which, class_="shares", aria_live="polite"),
    )

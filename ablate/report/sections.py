"""The parts of the page that need no script: header, contrasts, other outcomes, observation axes."""

from __future__ import annotations

from ablate import formatting as digits
from ablate.analysis.results import ReplayedLevel
from ablate.design.axis import show
from ablate.report.markup import Markup, el, join
from ablate.report.payload import style
from ablate.report.sparklines import scale
from ablate.report.svg import Scale, bar, ruler
from ablate.report.view import (
    OutcomeView,
    Row,
    View,
    beats_what,
    floors_sentence,
    interval_head,
    looked_differently,
    named,
)


def header(view: View) -> Markup:
    """Question first, then the answer."""
    analysis = view.analysis
    return el(
        "header",
        el("p", el("b", analysis.study), f"  ·  {_tried(view)}", class_="eyebrow"),
        el("h1", digits.typeset(analysis.question or analysis.study)),
        None
        if analysis.complete
        else el("p", "Not complete: some runs of the plan have no outcome yet.", class_="alarm"),
        el("p", view.headline, class_="lede") if view.headline else None,
    )


def _tried(view: View) -> str:
    """`2 changes, one at a time, 5 seeds each; placebo and repeat show what chance does`."""
    analysis = view.analysis
    if analysis.variance or analysis.effects or analysis.attribution or analysis.mediated:
        return view.heading
    kinds = [arm.kind for arm in view.arms if arm.axis is not None]
    changes = sum(kind not in ("placebo", "rerun", "observation") for kind in kinds)
    looks = len({arm.axis for arm in view.arms if arm.kind == "observation"})
    said = (
        [digits.counted(changes, "change") + (", one at a time" if changes > 1 else "")]
        if changes
        else ["the baseline alone"]
    )
    said.append(digits.counted(len(analysis.seeds), "seed") + (" each" if changes else ""))
    text = ", ".join(said) + (f"; {digits.counted(looks, 'way')} of looking, from the same runs" if looks else "")
    chance = [kind for kind in ("placebo", "rerun") if kind in kinds]
    return text + (f"; {' and '.join(chance)} show{'s' if len(chance) == 1 else ''} what chance does" if chance else "")


def findings(view: View) -> Markup | None:
    """The conclusions in words, most important first."""
    if not view.conclusions:
        return None
    return el("ul", *(el("li", sentence) for sentence in view.conclusions), class_="findings")


def contrasts(view: View) -> Markup | None:
    """A row per variant on the primary metric; observation axes below, because they cannot have had an effect."""
    if not view.primary and not view.replays and not view.repeated:
        return None
    low, high = scale([row.contrast for row in view.primary])
    common = Scale(low, high)
    floor = view.analysis.smallest_effect
    rows = [_contrast(row, common, floor, view) for row in view.primary]
    foot = [_ruler(common, floor)] if view.primary else []
    seen = [_beside("eye", axis, looked_differently(levels), len(foot) > 0) for axis, levels in view.replays.items()]
    seen += [_beside("placebo", arm, sentence, len(foot) > 0) for arm, sentence in view.repeated.items()]
    head = ("change", "effect", interval_head(view), "", "verdict")
    return el(
        "section",
        el("h2", f"Effect on {named(view.metric)}"),
        el(
            "table",
            el("thead", el("tr", *(el("th", text, scope="col") for text in head))),
            el("tbody", *rows, *foot, *seen),
            class_="contrasts",
        ),
        el("p", _key(view), class_="key"),
        class_="first",
    )


def _key(view: View) -> str:
    definition = view.metric.definition.rstrip(".")
    return (
        f"Each row is one change, as its difference from the baseline; {view.direction}. Lines: {view.method}. Ticks: means. "
        f"Dots: one seed each. Shaded: smaller than ±{view.analysis.smallest_effect:g}, too small to matter. Under a verdict: "
        "share of seeds, Hedges g (the effect in sds of single runs), p (adjusted for the number of changes). A placebo "
        f"differs from the baseline in nothing but chance, and is judged by itself. {floors_sentence(view)} "
        f"{view.metric.name}: {definition}."
    )


def _contrast(row: Row, common: Scale, floor: float, view: View) -> Markup:
    return el(
        "tr",
        el("th", el("i", class_=f"swatch {style(row.arm, view)}"), row.arm.change, scope="row"),
        el("td", row.effect, class_="number effect"),
        el("td", row.interval, class_="number interval"),
        el("td", bar(row.contrast, common, floor, f"{row.effect}, {row.interval}"), class_="picture"),
        el("td", chip(row), _sure(row, view), class_="verdict"),
        title=row.contrast.sentence,
        class_=f"tone-{row.tone}",
    )


def chip(row: Row) -> Markup:
    """The verdict as a word in a frame; what qualifies it stands beside it."""
    needs = "needs " if row.remark.startswith("about ") else ""
    remark = el("span", f"{needs}{row.remark}", class_="remark") if row.remark else None
    return join(el("span", row.verdict, class_=f"chip {row.tone}"), " ", remark)


def _sure(row: Row, view: View) -> Markup | None:
    """How sure, in the order in which it is to be read; p last."""
    if row.contrast.effect is None:
        return None
    return el("small", f"{beats_what(view.metric)} in {row.beats} · g {row.hedges_g} · p {row.p}", class_="sure")


def _ruler(common: Scale, floor: float) -> Markup:
    cells = [el("td"), el("td", class_="number effect"), el("td", class_="number interval")]
    return el(
        "tr", *cells, el("td", ruler(common, floor), class_="picture"), el("td"), class_="ruler", aria_hidden="true"
    )


def _beside(swatch: str, name: str, sentence: str, ruled: bool) -> Markup:
    """A row of an arm that has a sentence in the place of an effect."""
    body = el("td", sentence.replace(" %", "\N{NO-BREAK SPACE}%"), colspan=4, class_="looked")
    return el(
        "tr",
        el("th", el("i", class_=f"swatch {swatch}"), name, scope="row"),
        body,
        class_="replayed" if ruled else None,
    )


def controls_line(view: View) -> Markup | None:
    """The state of every control in one line, under the result that it vouches for."""
    summary = [el("li", label, " ", el("b", figures)) for label, figures in view.controls.summary]
    if not summary:
        return None
    if view.controls.held:
        summary.append(el("li", f"equal in every arm: {', '.join(view.controls.held)}"))
    if view.troubles:
        broken = sum(run.status != "finished" for run in view.analysis.runs)
        summary.append(el("li", "runs that did not finish ", el("b", str(broken)), class_="alarm"))
    failed = [el("p", sentence, class_="alarm") for sentence in view.controls.failures]
    return el("div", el("ul", *summary), *failed, class_="vouched")


def outcomes(view: View) -> Markup | None:
    """Every outcome: the mean of each arm, and under a variant's mean its difference from the baseline."""
    if not view.outcomes:
        return None
    head = [el("th", "outcome", scope="col")]
    head += [el("th", el("i", class_=f"swatch {style(arm, view)}"), arm.name, scope="col") for arm in view.trained]
    head += [el("th", floor.name, scope="col") for floor in view.floors]
    return el(
        "section",
        el("h2", "All outcomes"),
        el(
            "div",
            el(
                "table",
                el("thead", el("tr", *head)),
                el("tbody", *(_outcome(outcome, view) for outcome in view.outcomes)),
                class_="outcomes",
            ),
            class_="wide",
            tabindex="0",
            role="region",
            aria_label="All outcomes",
        ),
        el(
            "p",
            f"Mean over seeds; below it the difference from the baseline with its {interval_head(view)}, simultaneous over the "
            f"variants but not over the outcomes. Only {view.metric.name} was declared as the question beforehand: with many "
            "outcomes, some differ by chance.",
            class_="key",
        ),
    )


def _outcome(outcome: OutcomeView, view: View) -> Markup:
    info = outcome.info
    unit = el("small", info.unit) if info.unit else None
    cells = [el("th", info.name, " ", unit, title=info.definition, scope="row")]
    for arm in view.trained:
        mean = el("span", digits.figure(outcome.means[arm.name]), class_="value")
        cells.append(el("td", mean, _difference(outcome.rows.get(arm.name)), class_="number"))
    cells += [el("td", floor.of(info.name), class_="number muted") for floor in view.floors]
    return el("tr", *cells, class_="primary" if info.name == view.analysis.metric else None)


def _difference(row: Row | None) -> Markup | None:
    if row is None or row.contrast.effect is None:
        return None
    verdict = row.verdict if row.tone in ("good", "bad", "moved", "broken") else ""
    between = f" [{row.interval}]" if row.contrast.low is not None else ""
    return el(
        "small",
        f"{digits.signed(row.effect)}{between}",
        el("span", f" {verdict}", class_=f"word {row.tone}") if verdict else None,
    )


def replays(view: View) -> Markup | None:
    """Observation axes: the dense curve, the coarse ones read from it, and what each would have missed."""
    if not view.replays:
        return None
    figures = [_replay(axis, levels, view) for axis, levels in view.replays.items()]
    return el("section", el("h2", "Only looked at differently"), *figures, id="replays")


def _replay(axis: str, levels: tuple[ReplayedLevel, ...], view: View) -> Markup:
    arm = next((arm for arm in view.arms if arm.axis == axis), None)
    rows = [
        el(
            "tr",
            el("th", el("i", class_=f"swatch level l{place % 4 + 1}"), show(level.level), scope="row"),
            el("td", str(level.looks), class_="number"),
            el("td", f"step {digits.plain(level.first_look_steps)}", class_="number"),
            el("td", _share(level.share_decrease_before_first_eval), class_="picture"),
            el("td", ", ".join(digits.percent(share) for share in level.shares), class_="number muted"),
        )
        for place, level in enumerate(levels)
    ]
    head = ("level", "looks", "first look", "share of the fall before it", "per seed")
    return el(
        "div",
        el("h3", axis),
        el("p", arm.question, class_="asked") if arm and arm.question else None,
        el(
            "div",
            class_="plot short",
            data_replay=axis,
            role="img",
            aria_label=f"{axis}: curves as each level shows them",
        ),
        el(
            "div",
            el("table", el("thead", el("tr", *(el("th", text, scope="col") for text in head))), el("tbody", *rows)),
            class_="wide",
        ),
        el("p", "Read from the record of the baseline runs; nothing was trained again.", class_="key"),
    )


def _share(share: float | None) -> Markup:
    text = el("span", digits.percent(share))
    if share is None:
        return text
    filled = round(100 * min(1.0, max(0.0, share)), 1)
    return join(el("i", el("i", style=f"width:{filled}%"), class_="gauge", aria_hidden="true"), text)

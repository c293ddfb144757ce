"""The result as text for other documents: `report.md`. For a paper: `ablate.report.latex`."""

from __future__ import annotations

from ablate import formatting as digits
from ablate.report import attribution, budgets, effects, examples, mediation, variance
from ablate.report.adequacy import adequacy_rows
from ablate.report.imported import alarm_lines, looked_lines
from ablate.report.view import Row, View, beats_what, floors_sentence, interval_head, looked_differently, named


def markdown(view: View, methods: str = "") -> str:
    """`report.md`: header, conclusions, table, other outcomes, controls, how to reproduce. methods: what was done, in words."""
    analysis = view.analysis
    parts = [
        f"# {_md(analysis.study)}",
        _md(analysis.question),
        f"{_md(view.heading)}. Metric: {_md(named(view.metric))}, {view.direction}; "
        f"smallest effect that matters {analysis.smallest_effect:g}."
        + ("" if analysis.complete else " **Not complete.**"),
        _md(budgets.question(analysis)),
        *(f"**{_md(text)}**" for text in budgets.cautions(analysis)),
        "\n".join(f"- **{_md(label)}** {_md(sentence)}" for label, sentence in alarm_lines(analysis.imported)),
        "## What it says",
        "\n".join(f"- {_md(sentence)}" for sentence in view.conclusions),
        *_md_attribution(view),
        *_md_mediation(view),
        *_md_effects(view),
        _md_table(variance.head(analysis), [tuple(map(_md, row)) for row in variance.rows(analysis)])
        if analysis.variance
        else "",
        "## Contrasts with the baseline",
        *_md_contrasts(view),
        *(f"`{axis}`: {_md(looked_differently(levels))}." for axis, levels in view.replays.items()),
        *(f"`{arm}`: {_md(sentence)}." for arm, sentence in view.repeated.items()),
        floors_sentence(view),
        *_md_examples(view),
        "## Means over seeds",
        _md_means(view),
        *_md_adequacy(view),
        "\n".join(f"- {_md(sentence)}" for sentence in looked_lines(analysis.imported)),
        "## Controls",
        _md_controls(view),
        *(("## Methods", _md(methods)) if methods else ()),
        "## Reproduce",
        f"```\n{analysis.command}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def contrasts(view: View) -> str:
    """The tables alone: contrasts with the baseline, and the shares, effects or mediator of a study that asks for them."""
    head = f"{_md(view.heading)}. Metric: {_md(named(view.metric))}, {view.direction}."
    parts = [head, *_md_attribution(view), *_md_mediation(view), *_md_effects(view), *_md_contrasts(view)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _md_contrasts(view: View) -> tuple[str, ...]:
    head = ("arm", "effect", interval_head(view), "seeds", "verdict", beats_what(view.metric), "Hedges g", "p")
    said = f"Intervals: {view.method}; a placebo is judged by itself. p is adjusted for the variants."
    return _md_table(head, [_md_row(row) for row in view.primary]), said if view.primary else ""


def _md_attribution(view: View) -> tuple[str, ...]:
    about = view.analysis.attribution
    if about is None:
        return ()
    keys = [_md(line) for line in (*map(attribution.key_line, about.keys), *about.left_out)]
    cells = [tuple(map(_md, row)) for row in attribution.rows(about)]
    return "## What makes the difference", _md_table(attribution.HEAD, cells), "\n".join(f"- {line}" for line in keys)


def _md_examples(view: View) -> tuple[str, ...]:
    about = view.analysis.examples
    if about is None or not about.contrasts:
        return ()
    table = _md_table(examples.HEAD, [tuple(map(_md, row)) for row in examples.rows(view)])
    return "## For new examples as well?", _md(examples.scope(view)), table, examples.KEY


def _md_mediation(view: View) -> tuple[str, ...]:
    found = mediation.markdown(view.analysis.mediated)
    if found is None:
        return ()
    heading, cells, lines = found
    table = _md_table(mediation.HEAD, [tuple(map(_md, row)) for row in cells])
    return heading, table, "\n".join(f"- {_md(line)}" for line in lines)


def _md_effects(view: View) -> tuple[str, ...]:
    about = view.analysis.effects
    if about is None:
        return ()
    rows = [effects.part_row(part) for part in about.parts] or [effects.row(one) for one in about.effects]
    head = effects.PART_HEAD if about.parts else effects.HEAD
    said = "\n".join(f"- {_md(digits.typeset(text))}" for _, text in effects.lines(about))
    return (
        f"## {effects.title(about)}",
        _md_table(head, [tuple(map(_md, row)) for row in rows]),
        said,
        effects.key(about),
    )


def _md_adequacy(view: View) -> tuple[str, ...]:
    found = view.analysis.adequacy
    if not found:
        return ()
    head, rows = adequacy_rows(found)
    said = [f"- {_md(digits.typeset(text))}" for one in found for text in (one.sentence, one.advice) if text]
    return "## Was it looked at often enough?", "\n".join(said), _md_table(head, [tuple(map(_md, row)) for row in rows])


def _md_row(row: Row) -> tuple[str, ...]:
    differences = row.contrast.differences
    decimals = digits.effect_decimals(row.contrast.effect or 0.0, row.contrast.low, row.contrast.high)
    seeds = ", ".join(digits.number(difference, decimals) for difference in differences)
    verdict = f"**{row.verdict}** {row.remark}".rstrip()
    return (_md(row.arm.change), row.effect, row.interval, seeds, verdict, row.beats, row.hedges_g, _md(row.p))


def _md_means(view: View) -> str:
    head = ("outcome", *(_md(arm.name) for arm in view.trained), *(floor.name for floor in view.floors))
    rows = [
        (
            _md(named(outcome.info)),
            *(digits.figure(outcome.means[arm.name]) for arm in view.trained),
            *(floor.of(outcome.info.name) for floor in view.floors),
        )
        for outcome in view.outcomes
    ]
    return _md_table(head, rows)


def _md_controls(view: View) -> str:
    lines = [f"- {label}: {figures}" for label, figures in view.controls.summary]
    if view.controls.held:
        lines.append(f"- equal in every arm: {', '.join(view.controls.held)}")
    lines += [f"- **{_md(sentence)}**" for sentence in view.controls.failures]
    lines += [f"- {status}: {_md(sentence)}" for status, sentence in view.troubles]
    lines += [f"- note: {_md(note)}" for note in view.analysis.notes]
    return "\n".join(lines)


def _md_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    rule = ["---", *["---:" for _ in head[1:]]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def _md(text: str) -> str:
    """Text that stays text: no table cell ends early, no HTML, no emphasis."""
    escaped = "".join(f"\\{mark}" if mark in "\\`*_{}[]|#" else mark for mark in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")

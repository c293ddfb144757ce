"""The forest plot: the effect of every variant on one outcome after the other, with its interval and its seeds."""

from __future__ import annotations

import math
from typing import Any

from ablate import formatting as digits
from ablate.report.markup import Markup, el
from ablate.report.view import OutcomeView, Row, View, direction, interval_head


def forest(view: View) -> list[dict[str, Any]]:
    """One entry per outcome that has an effect, the primary one first; what the scripts draw."""
    return [_outcome(outcome, view) for outcome in _with_effects(view)]


def _with_effects(view: View) -> list[OutcomeView]:
    known = [
        outcome for outcome in view.outcomes if any(row.contrast.effect is not None for row in outcome.rows.values())
    ]
    return sorted(known, key=lambda outcome: outcome.info.name != view.metric.name)


def _outcome(outcome: OutcomeView, view: View) -> dict[str, Any]:
    primary = outcome.info.name == view.metric.name
    rows = [row for row in outcome.rows.values() if row.contrast.effect is not None]
    return {
        "name": outcome.info.name,
        "unit": outcome.info.unit,
        "smallest": view.analysis.smallest_effect if primary else None,
        "rows": [_row(row) for row in sorted(rows, key=lambda row: row.arm.kind == "placebo")],
    }


def _row(row: Row) -> dict[str, Any]:
    contrast = row.contrast
    return {
        "arm": row.arm.name,
        "change": row.arm.change,
        "effect": _finite(contrast.effect),
        "low": _finite(contrast.low),
        "high": _finite(contrast.high),
        "seeds": list(contrast.seeds),
        "differences": [_finite(one) for one in contrast.differences],
        "verdict": row.verdict,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def forest_section(view: View) -> Markup | None:
    """The choice of an outcome, and the place where the script draws it; what it means stands below."""
    outcomes = _with_effects(view)
    if not outcomes:
        return None
    options = [
        el(
            "option",
            f"{outcome.info.name}{' (the declared question)' if outcome.info.name == view.metric.name else ''}",
            value=outcome.info.name,
        )
        for outcome in outcomes
    ]
    meanings = [
        el(
            "p",
            f"{outcome.info.name}: {digits.typeset(outcome.info.definition.rstrip('.'))}; {direction(outcome.info)}.",
            class_="key",
            data_meaning=outcome.info.name,
            hidden=place > 0,
        )
        for place, outcome in enumerate(outcomes)
    ]
    return el(
        "section",
        el("h2", "Effect of each change, outcome by outcome"),
        el(
            "p",
            el("label", "Outcome", for_="forest-outcome"),
            " ",
            el("select", *options, id="forest-outcome"),
            class_="handle",
        ),
        el(
            "div",
            class_="plot",
            data_forest=True,
            role="img",
            aria_label="Forest plot of the effects on the chosen outcome",
        ),
        *meanings,
        el(
            "p",
            f"Each line is one change: its mean difference from the baseline (tick) with the {interval_head(view)} (bar) and "
            "every seed's own difference (dots). Left or right of the dashed line at 0 is less or more than the baseline; the "
            "shaded strip is too small to matter. Only the declared question has such a strip: only it was asked beforehand.",
            class_="key",
        ),
        id="forest",
    )

"""The answer of a study in one or two sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablate import formatting as fmt
from ablate.analysis.results import UNVERIFIED, Analysis
from ablate.metrics.metric import MetricInfo

if TYPE_CHECKING:
    from ablate.report.view_model import Row

MEDIATION_VERDICTS = {
    "all": "all of it",
    "some or all": "some or all of it",
    "part": "part of it",
    "not all": "not all of it",
    "none": "none of it",
    "against": "works against it",
    "beyond": "more than all of it",
    "inconclusive": "inconclusive",
    "not held": "NOT HELD",
    "none given": "none given",
}


def headline(analysis: Analysis, rows: Sequence[Row], observed: Sequence[str], metric: MetricInfo) -> str:
    """Return the answer. What takes every verdict its meaning comes first: a smoke run, or an arm that did not learn."""
    unlearned = any(one.learned is False for one in analysis.learning)
    first = analysis.conclusions[:1] if analysis.smoke_run or unlearned else ()
    if analysis.smoke_run:
        return fmt.typeset(" ".join(first))
    irregular = analysis.irregularity
    asked = irregular is not None and irregular.metric == analysis.metric
    verdicts = _answer(analysis) or ("" if asked else _verdicts(rows, observed, metric))
    symptom = irregular.answer if irregular is not None and (asked or irregular.present) else ""
    return " ".join(filter(None, (*map(fmt.typeset, first), verdicts, fmt.typeset(symptom))))


def _verdicts(rows: Sequence[Row], observed: Sequence[str], metric: MetricInfo) -> str:
    """Return `batch_size 8 → 64 hurts eval_loss (+0.178 nats); train_test_ratio 1 → 4 is inconclusive`."""
    parts = []
    for row in rows:
        if row.significant:
            change = f"{fmt.signed(row.effect)} {metric.unit}".rstrip()
            parts.append(f"{row.arm.change} {row.verdict} {metric.name} ({change})")
    others = dict.fromkeys(row.verdict for row in rows if not row.significant)
    for verdict in sorted(others, key=lambda word: word == "no verdict"):
        names = [row.arm.change for row in rows if row.verdict == verdict]
        verb = ("gets", "get") if verdict == "no verdict" else ("is", "are")
        parts.append(f"{fmt.joined(names)} {verb[len(names) > 1]} {verdict}")
    if parts and any(UNVERIFIED in row.contrast.labels for row in rows):
        parts.append("whether something else differed could not be checked")
    if observed:
        changes = "changes" if len(observed) == 1 else "change"
        parts.append(f"{fmt.joined(observed)} only {changes} how often the runs are evaluated")
    return "; ".join(parts) + "." if parts else ""


def _answer(analysis: Analysis) -> str:
    """Return the answer of a design that asks for more than contrasts with the baseline; empty for any other."""
    if analysis.attribution is not None:
        return fmt.typeset(analysis.attribution.sentence)
    if analysis.mediated is not None:
        through = [f"through {one.label}: {MEDIATION_VERDICTS[one.verdict]}" for one in analysis.mediated.held]
        sentences = [analysis.mediated.sentence, *([f"Goes {'; '.join(through)}."] if through else [])]
        return fmt.typeset(" ".join(sentences))
    if analysis.effects is not None:
        return fmt.typeset(" ".join(analysis.effects.sentences[:2]))
    return fmt.typeset(analysis.variance.sentence) if analysis.variance is not None else ""

"""Metrics of an eval curve, for any metric that a run records: `eval_loss`, `best_eval_f1`, `eval_loss_roughness`."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ablate.metric_direction import lower_is_better
from ablate.metrics.curve_fits import rms, valley
from ablate.metrics.decrease import decrease_before, orientation
from ablate.metrics.metric import COMMON_EVALUATIONS, FINAL_EVALUATION, Metric, MetricInfo, Reading, Record
from ablate.records.reader import EvalCurve

MIN_EVALUATIONS = 4
"""Three points are always a fall, a rise, or one of each; roughness begins with the fourth."""

FORMS = (
    "eval_{}",
    "best_eval_{}",
    "min_eval_{}",
    "max_eval_{}",
    "eval_{}_roughness",
    "eval_{}_auc",
    "eval_{}_decrease_before_first_eval",
)
"""Names of what can be read from the eval curve of a metric; `best` only where the metric's name says which side is better."""


def eval_metric(name: str) -> Metric | None:
    """Return the metric of a name of one of the `FORMS`; None for another name."""
    for form in reversed(FORMS):  # `eval_{}` last: it matches all the others
        head, _, tail = form.partition("{}")
        recorded = name[len(head) : len(name) - len(tail)]
        if not (name.startswith(head) and name.endswith(tail) and re.fullmatch(r"[\w./@-]+", recorded)):
            continue
        if form == "eval_{}_auc" and lower_is_better(recorded) is None:
            continue  # `eval_roc_auc` is the final value of `roc_auc`, and not the area under a curve of `roc`
        return _metric(form, name, recorded)
    return None


def _metric(form: str, name: str, recorded: str) -> Metric | None:
    side = lower_is_better(recorded)
    unit = "nats" if recorded == "loss" else ""

    def metric(read: Reading, better: bool | None, definition: str, cadence: str = COMMON_EVALUATIONS) -> Metric:
        share = form == "eval_{}_decrease_before_first_eval"
        info = MetricInfo(
            name=name, unit="" if share else unit, definition=definition, lower_is_better=better, cadence=cadence
        )
        return Metric(info, read, "eval", recorded)

    down, up = ("rise", "fall") if side is False else ("fall", "rise")
    if form == "eval_{}":
        texts = {"loss": "Mean loss over the evaluation set", "accuracy": "Share of the evaluation set that is right"}
        text = texts.get(recorded, f"Mean of `{recorded}` over the evaluation set")
        return metric(_last(recorded), side, f"{text} at {FINAL_EVALUATION}.", FINAL_EVALUATION)
    if form == "eval_{}_auc":
        early = {True: " Low when it falls early.", False: " High when it rises early."}[side is not False]
        text = f"Mean eval {recorded} over the budget: trapezoids over samples, at {COMMON_EVALUATIONS}.{early}"
        return metric(_common(recorded, _area), side, text)
    if form == "eval_{}_roughness":
        text = (
            f"Root mean square distance of the eval {recorded} from the nearest curve that {down}s and then {up}s, "
            f"at {COMMON_EVALUATIONS}. A smooth {down} is 0 however steep, and so is the smooth {up} of an overfit; "
            "a zigzag is not."
        )
        return metric(_common(recorded, lambda curve: _roughness(orientation(recorded) * curve.value)), True, text)
    if form == "eval_{}_decrease_before_first_eval":
        text = (
            f"Share of the whole {down} of the eval {recorded}, from the evaluation before training to the best one, that had "
            f"happened by the first evaluation after training began, at {COMMON_EVALUATIONS}. It measures how late the first "
            "evaluation was, not how well training went."
        )
        return metric(_common(recorded, lambda curve: decrease_before(curve, recorded)), None, text)
    lowest = side if form == "best_eval_{}" else form == "min_eval_{}"
    if lowest is None:
        return None
    first, more = ("Lowest", "a lower") if lowest else ("Highest", "a higher")
    subject = f"{first} eval {recorded} after training began, at {COMMON_EVALUATIONS}"
    text = f"{subject}: more evaluations alone would give {more} one."
    return metric(_common(recorded, lambda curve: _extreme(curve, lowest)), lowest, text)


def _common(recorded: str, read: Callable[[EvalCurve], float | None]) -> Reading:
    """Read the curve at the common evaluations."""

    def reading(record: Record) -> float | None:
        curve = record.common_curve(recorded)
        return None if curve is None else read(curve)

    return reading


def _last(recorded: str) -> Reading:
    def read(record: Record) -> float | None:
        curve = record.curves.get(recorded)
        return float(curve.value[-1]) if curve is not None and len(curve) and curve.step[-1] > 0 else None

    return read


def _extreme(curve: EvalCurve, lowest: bool) -> float | None:
    trained = curve.value[curve.samples > 0]
    return float(np.min(trained) if lowest else np.max(trained)) if len(trained) else None


def _roughness(values: NDArray[np.float64]) -> float | None:
    if len(values) < MIN_EVALUATIONS or not np.isfinite(values).all():
        return None
    return rms(values - valley(values))


def _area(curve: EvalCurve) -> float | None:
    if len(curve) < 2:
        return None
    samples = curve.samples.astype(np.float64)
    return float(np.trapezoid(curve.value, samples) / (samples[-1] - samples[0]))

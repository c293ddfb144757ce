"""Metrics of an eval curve, for any metric that a run records: `eval_loss`, `best_eval_f1`, `samples_to:eval_loss:0.6`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ablate.errors import ConfigError
from ablate.metric_direction import lower_is_better
from ablate.metrics.curves import MIN_EVALUATIONS, decrease_before, irregularity, orientation
from ablate.metrics.metric import COMMON_EVALUATIONS, FINAL_EVALUATION, Metric, MetricInfo, Reading, Record
from ablate.records.reader import EvalCurve

FORMS = (
    "eval_{}",
    "best_eval_{}",
    "min_eval_{}",
    "max_eval_{}",
    "eval_{}_irregularity",
    "eval_{}_auc",
    "eval_{}_decrease_before_first_eval",
)
"""Names of what can be read from the eval curve of a metric; `best` only where the metric's name says which side is better."""

_AMOUNTS: dict[str, Callable[[EvalCurve], NDArray[np.float64]]] = {
    "samples": lambda curve: curve.samples.astype(np.float64),
    "steps": lambda curve: curve.step.astype(np.float64),
    "seconds": lambda curve: curve.train_seconds,
}
TARGET_FORMS = tuple(f"{unit}_to:eval_<metric>:<value>" for unit in _AMOUNTS)
"""Names of the amount of training until a target is reached."""


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
    down, up = ("rise", "fall") if side is False else ("fall", "rise")
    unit, better, cadence = "nats" if recorded == "loss" else "", side, COMMON_EVALUATIONS
    read: Callable[[EvalCurve], float | None]
    if form == "eval_{}":
        texts = {"loss": "Mean loss over the evaluation set", "accuracy": "Share of the evaluation set that is right"}
        text = f"{texts.get(recorded, f'Mean of `{recorded}` over the evaluation set')} at {FINAL_EVALUATION}."
        read, cadence = _last, FINAL_EVALUATION
    elif form == "eval_{}_auc":
        early = "High when it rises early." if side is False else "Low when it falls early."
        text = f"Mean eval {recorded} over the budget: trapezoids over samples, at {COMMON_EVALUATIONS}. {early}"
        read = _area
    elif form == "eval_{}_irregularity":
        text = (
            f"How much of the height of the chart of eval {recorded} its jumps fill: the rms change from one evaluation to the "
            f"next of what the nearest curve that {down}s and then {up}s leaves over, relative to the range of the values, at "
            f"{COMMON_EVALUATIONS} after training began. 0 is smooth: a {down} however steep, and the {up} of an overfit; 1 is "
            f"like noise without a trend, however many evaluations; a zigzag is above 1. "
            f"Needs {MIN_EVALUATIONS} evaluations."
        )
        read, better, unit = lambda curve: irregularity(orientation(recorded) * curve.value[curve.step > 0]), True, ""
    elif form == "eval_{}_decrease_before_first_eval":
        text = (
            f"Share of the whole {down} of the eval {recorded}, from the evaluation before training to the best one, that had "
            f"happened by the first evaluation after training began, at {COMMON_EVALUATIONS}. It measures how late the first "
            "evaluation was, not how well training went."
        )
        read, better, unit = lambda curve: decrease_before(curve, recorded), None, ""
    else:
        better = side if form == "best_eval_{}" else form == "min_eval_{}"
        if better is None:
            return None
        first, more = ("Lowest", "a lower") if better else ("Highest", "a higher")
        subject = f"{first} eval {recorded} after training began, at {COMMON_EVALUATIONS}"
        text = f"{subject}: more evaluations alone would give {more} one."
        read = _lowest if better else _highest
    info = MetricInfo(name=name, unit=unit, definition=text, lower_is_better=better, cadence=cadence)
    return Metric(info, _reading(recorded, read, common=cadence == COMMON_EVALUATIONS), "eval", recorded)


def _reading(recorded: str, read: Callable[[EvalCurve], float | None], *, common: bool) -> Reading:
    """common: read the curve at the common evaluations, each once."""

    def reading(record: Record) -> float | None:
        curve = record.common_curve(recorded) if common else record.curves.get(recorded)
        return None if curve is None else read(curve)

    return reading


def _last(curve: EvalCurve) -> float | None:
    return float(curve.value[-1]) if len(curve) and curve.step[-1] > 0 else None


def _lowest(curve: EvalCurve) -> float | None:
    trained = curve.value[curve.samples > 0]
    return float(np.min(trained)) if len(trained) else None


def _highest(curve: EvalCurve) -> float | None:
    trained = curve.value[curve.samples > 0]
    return float(np.max(trained)) if len(trained) else None


def _area(curve: EvalCurve) -> float | None:
    if len(curve) < 2:
        return None
    samples = curve.samples.astype(np.float64)
    return float(np.trapezoid(curve.value, samples) / (samples[-1] - samples[0]))


def is_target(name: str) -> bool:
    """Return True for the name of a target, complete or not."""
    return name.partition(":")[0] in {f"{unit}_to" for unit in _AMOUNTS}


def target_metric(name: str, *, key: str) -> Metric:
    """Return the metric of a name that `is_target`. key: config key of the name. Raises ConfigError for an incomplete name."""
    head, _, rest = name.partition(":")
    curve, _, target = rest.rpartition(":")
    unit, recorded = head.removesuffix("_to"), curve.removeprefix("eval_")
    side = lower_is_better(recorded)
    example = f"{key}={head}:eval_loss:0.6"
    if not curve.startswith("eval_") or not recorded:
        raise ConfigError(f"{key}={name!r} names no curve and target: expected {head}:eval_<metric>:<value>", example)
    value = _number(target)
    if value is None:
        raise ConfigError(f"{key}={name!r}: the target {target!r} is not a number", example)
    if side is None:
        raise ConfigError(
            f"{key}={name!r}: the name of {recorded} does not say whether it is to fall to {target} or to rise to it",
            f"a metric whose name contains one of loss, error, accuracy, f1, ...: {example}",
        )
    info = MetricInfo(
        name=name,
        unit=unit,
        definition=(
            f"{unit.capitalize()} of training after which the eval {recorded} is first at {target} or "
            f"{'below' if side else 'above'}: on the straight line between two evaluations, of {COMMON_EVALUATIONS}. A run "
            "that never reaches it has no value."
        ),
        lower_is_better=True,
        cadence=COMMON_EVALUATIONS,
    )
    return Metric(
        info, _reading(recorded, lambda curve: _reached(curve, recorded, value, unit), common=True), "eval", recorded
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _reached(curve: EvalCurve, recorded: str, target: float, unit: str) -> float | None:
    amounts = _AMOUNTS[unit](curve)
    missing = (curve.value - target) * orientation(recorded)
    reached = np.flatnonzero(missing <= 0)
    if not len(reached):
        return None
    first = int(reached[0])
    if first == 0 or not np.isfinite(missing[first - 1]):
        return float(amounts[first])
    share = missing[first - 1] / (missing[first - 1] - missing[first])
    return float(amounts[first - 1] + share * (amounts[first] - amounts[first - 1]))

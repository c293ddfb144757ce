"""How soon a target is reached: `samples_to:eval_loss:0.6`, in samples, steps or seconds of training."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ablate.errors import ConfigError
from ablate.metric_direction import lower_is_better
from ablate.metrics.metric import COMMON_LOOKS, MetricInfo, Outcome, Record
from ablate.records.reader import EvalCurve

_AMOUNTS: dict[str, Callable[[EvalCurve], NDArray[np.float64]]] = {
    "samples": lambda curve: curve.samples.astype(np.float64),
    "steps": lambda curve: curve.step.astype(np.float64),
    "seconds": lambda curve: curve.train_seconds,
}
FORMS = tuple(f"{unit}_to:eval_<metric>:<value>" for unit in _AMOUNTS)


def is_target(name: str) -> bool:
    """Whether a name asks how soon a target is reached; it may still be incomplete."""
    return name.partition(":")[0] in {f"{unit}_to" for unit in _AMOUNTS}


def target_outcome(name: str, *, key: str) -> Outcome:
    """The outcome of a name that `is_target`. key: what it was typed for. Raises ConfigError where it is not complete."""
    head, _, rest = name.partition(":")
    what, _, typed = rest.rpartition(":")
    unit, metric = head.removesuffix("_to"), what.removeprefix("eval_")
    side = lower_is_better(metric)
    example = f"{key}={head}:eval_loss:0.6"
    if not what.startswith("eval_") or not metric:
        raise ConfigError(f"{key}={name!r} names no curve and target: expected {head}:eval_<metric>:<value>", example)
    value = _number(typed)
    if value is None:
        raise ConfigError(f"{key}={name!r}: the target {typed!r} is not a number", example)
    if side is None:
        raise ConfigError(
            f"{key}={name!r}: whether {metric} is to fall to {typed} or to rise to it, its name does not say",
            f"a metric whose name has one of loss, error, accuracy, f1, ... in it: {example}",
        )
    beyond = "below" if side else "above"
    info = MetricInfo(
        name=name,
        unit=unit,
        definition=(
            f"{unit.capitalize()} of training after which the eval {metric} is first at {typed} or {beyond}: on "
            f"the straight line between two looks, of {COMMON_LOOKS}. A run that never gets there has no value."
        ),
        lower_is_better=True,
        cadence=COMMON_LOOKS,
    )
    return Outcome(info, lambda record: _reached(record, metric, value, unit, falls=side), "eval", metric)


def _number(typed: str) -> float | None:
    try:
        value = float(typed)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _reached(record: Record, metric: str, target: float, unit: str, *, falls: bool) -> float | None:
    curve = record.common_curve(metric)
    if curve is None or not len(curve):
        return None
    amounts = _AMOUNTS[unit](curve)
    missing = (curve.value - target) * (1 if falls else -1)
    there = np.flatnonzero(missing <= 0)
    if not len(there):
        return None
    first = int(there[0])
    if first == 0 or not np.isfinite(missing[first - 1]):
        return float(amounts[first])
    share = missing[first - 1] / (missing[first - 1] - missing[first])
    return float(amounts[first - 1] + share * (amounts[first] - amounts[first - 1]))

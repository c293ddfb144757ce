"""Amount of training until a target is reached: `samples_to:eval_loss:0.6`, in samples, steps or seconds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ablate.errors import ConfigError
from ablate.metric_direction import lower_is_better
from ablate.metrics.decrease import orientation
from ablate.metrics.metric import COMMON_EVALUATIONS, Metric, MetricInfo, Record
from ablate.records.reader import EvalCurve

_AMOUNTS: dict[str, Callable[[EvalCurve], NDArray[np.float64]]] = {
    "samples": lambda curve: curve.samples.astype(np.float64),
    "steps": lambda curve: curve.step.astype(np.float64),
    "seconds": lambda curve: curve.train_seconds,
}
FORMS = tuple(f"{unit}_to:eval_<metric>:<value>" for unit in _AMOUNTS)


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
    return Metric(info, lambda record: _reached(record, recorded, value, unit), "eval", recorded)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _reached(record: Record, recorded: str, target: float, unit: str) -> float | None:
    curve = record.common_curve(recorded)
    if curve is None or not len(curve):
        return None
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

"""A metric: one number read from one run's record, with its unit, its definition and its better side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.records.reader import EvalCurve, Trace

FINAL_EVALUATION = "the final evaluation"
COMMON_EVALUATIONS = "the evaluations that all runs have in common"
EVERY_STEP = "every applied step"
WHOLE_RUN = "the whole run"

CurveKind = Literal["eval", "train loss", "grad norm", "speed", "any"]


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one finished run.

    curves: by metric, every evaluation; the first one is before training.
    common: sample counts at which every finished run of the study was evaluated, ascending.
    logged: of an imported run that did not log every step, sample counts at which every run of the study logged a training
        loss, ascending; None where every step is on record.
    """

    trace: Trace
    curves: dict[str, EvalCurve]
    common: NDArray[np.int64]
    logged: NDArray[np.float64] | None = None

    def common_curve(self, metric: str) -> EvalCurve | None:
        """Return the curve at the common evaluations, each once; None where the metric was not evaluated."""
        if metric not in self.curves:
            return None
        curve = self.curves[metric]
        samples, first = np.unique(curve.samples, return_index=True)
        return curve.at(first[np.isin(samples, self.common)])


Reading = Callable[[Record], float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """Name, unit and definition of a metric.

    lower_is_better: None for a metric without a better side. cadence: points at which runs are compared.
    """

    name: str
    unit: str
    definition: str
    lower_is_better: bool | None
    cadence: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that is read from a run.

    read: returns None where the record does not hold it. curve: the one that it is read from; `any` where that is unknown.
    recorded_as: name of its eval curve in the record; '' for any other metric.
    """

    info: MetricInfo
    read: Reading
    curve: CurveKind
    recorded_as: str = ""

    def __call__(self, record: Record) -> float | None:
        if self.curve == "grad norm" and record.logged is not None:
            return None  # computed from some of the steps it would be another metric
        value = self.read(record)
        return value if value is not None and np.isfinite(value) else None

    def named(self, name: str) -> Metric:
        """Return the same metric under another name."""
        return replace(self, info=replace(self.info, name=name))

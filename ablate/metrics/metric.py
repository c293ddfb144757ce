"""What an outcome is: one number that is read from one run's record, with its unit, its definition and its better side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

pass

from ablate.controls.control import Control as Control
from ablate.records.reader import EvalCurve, Trace

FINAL_LOOK = "the final look"
COMMON_LOOKS = "the looks that all runs have in common"
EVERY_STEP = "every applied step"
WHOLE_RUN = "the whole run"

CurveKind = Literal["eval", "train loss", "grad norm", "speed", "any"]


@dataclass(frozen=True, slots=True)
class Record:
    """What one finished run has left. curves: by metric, every look; the first one is before training.

    common: sample counts at which every finished run of the study was looked at, ascending.
    logged: of an imported run that did not log every step, sample counts at which every run of the study logged a training
        loss, ascending; None where every step is on record.
    """

    trace: Trace
    curves: dict[str, EvalCurve]
    common: NDArray[np.int64]
    logged: NDArray[np.float64] | None = None

    def at_common_looks(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Samples and values at the common looks; None where the metric was not evaluated."""
        curve = self.common_curve(metric)
        return None if curve is None else (curve.samples.astype(np.float64), curve.value)

    def common_curve(self, metric: str) -> EvalCurve | None:
        """The curve at the common looks, each once; None where the metric was not evaluated."""
        if metric not in self.curves:
            return None
        curve = self.curves[metric]
        samples, first = np.unique(curve.samples, return_index=True)
        return curve.at(first[np.isin(samples, self.common)])


Reading = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One number that is read from a run. read: None where the record does not carry it.

    curve: the one that it is read from; `any` where nobody can tell. metric: of an eval curve, the name it was recorded under.
    """

    info: MetricInfo
    read: Reading
    curve: CurveKind
    metric: str = ""

    def __call__(self, record: Record) -> float | None:
        if self.curve == "grad norm" and record.logged is not None:
            return None  # what is read from some of the steps is another outcome
        value = self.read(record)
        return value if value is not None and np.isfinite(value) else None

    def named(self, name: str) -> Outcome:
        """The same under another name."""
        return replace(self, info=replace(self.info, name=name))


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """name, unit, definition; lower_is_better: None for an outcome with no better side. cadence: where runs are compared."""

    name: str
    unit: str
    definition: str
    lower_is_better: bool | None
    cadence: str = ""

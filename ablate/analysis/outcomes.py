"""The outcomes: one number per run, each with its unit, its definition and its better side.

A definition states how arms of unequal length are made comparable: curve outcomes read only the looks that every
finished run of the study has in common, quantiles of the gradient norm are corrected for the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.curves import rms, valley
from ablate.analysis.noise_scale import noise_scale
from ablate.analysis.values import MetricInfo
from ablate.errors import ConfigError, nearest
from ablate.record.gradient_flags import spikes
from ablate.record.reader import EvalCurve, Trace

FEWEST_STEPS = 13
"""Below this number of steps the 95 % quantile would lie beyond the largest value."""
FEWEST_LOOKS = 4
"""Three points are always a fall, a rise, or one of each; roughness begins with the fourth."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one finished run has left. curves: by metric, every look; the first one is before training.

    common: sample counts at which every finished run of the study was looked at, ascending.
    """

    trace: Trace
    curves: dict[str, EvalCurve]
    common: NDArray[np.int64]

    def at_common_looks(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Samples and values at the common looks; None where the metric was not evaluated."""
        if metric not in self.curves:
            return None
        curve = self.curves[metric]
        samples, first = np.unique(curve.samples, return_index=True)
        keep = np.isin(samples, self.common)
        return samples[keep].astype(np.float64), curve.value[first][keep]


Reading = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One number that is read from a run. read: None where the record does not carry it."""

    info: MetricInfo
    read: Reading

    def __call__(self, record: Record) -> float | None:
        value = self.read(record)
        return value if value is not None and np.isfinite(value) else None


def _last(metric: str) -> Reading:
    def read(record: Record) -> float | None:
        curve = record.curves.get(metric)
        return float(curve.value[-1]) if curve is not None and len(curve) and curve.step[-1] > 0 else None

    return read


def _best(metric: str, pick: Callable[[NDArray[np.float64]], np.float64]) -> Reading:
    def read(record: Record) -> float | None:
        looks = record.at_common_looks(metric)
        if looks is None:
            return None
        trained = looks[1][looks[0] > 0]
        return float(pick(trained)) if len(trained) else None

    return read


def _roughness(record: Record) -> float | None:
    looks = record.at_common_looks("loss")
    if looks is None or len(looks[1]) < FEWEST_LOOKS or not np.isfinite(looks[1]).all():
        return None
    return rms(looks[1] - valley(looks[1]))


def _area(record: Record) -> float | None:
    looks = record.at_common_looks("loss")
    if looks is None or len(looks[0]) < 2:
        return None
    samples, values = looks
    return float(np.trapezoid(values, samples) / (samples[-1] - samples[0]))


def norms(trace: Trace) -> NDArray[np.float64]:
    """The finite gradient norms of the steps that were applied. Shape [steps]."""
    values = trace["grad_norm"]
    return np.asarray(values[np.isfinite(values) & (trace["applied"] == 1)])


def _norm(read: Callable[[NDArray[np.float64]], float], *, fewest: int = 1) -> Reading:
    def of(record: Record) -> float | None:
        values = norms(record.trace)
        return read(values) if len(values) >= fewest else None

    return of


def quantile(values: NDArray[np.float64], share: float) -> float:
    """The median-unbiased sample quantile (Hyndman and Fan's type 8): right on average at 16 values as at 128."""
    return float(np.quantile(values, share, method="median_unbiased"))


def spread(values: NDArray[np.float64]) -> float:
    """95 % minus 5 % quantile."""
    return quantile(values, 0.95) - quantile(values, 0.05)


def _noise(record: Record) -> float | None:
    trace = record.trace
    measured = (trace["micro_samples"] > 0) & (trace["applied"] == 1)
    step_samples = np.diff(trace["samples"], prepend=0.0)
    return noise_scale(
        trace["micro_grad_norm"][measured],
        trace["grad_norm"][measured],
        small=trace["micro_samples"][measured],
        big=step_samples[measured],
    )


def _clipped(record: Record) -> float | None:
    applied = record.trace["applied"] == 1
    return float(np.mean(record.trace["clip_coefficient"][applied] < 1)) if applied.any() else None


def _train_loss(record: Record) -> float | None:
    if not len(record.trace):
        return None
    samples = record.trace["samples"]
    late = samples > 0.9 * samples[-1]
    return float(np.average(record.trace["loss"][late], weights=np.diff(samples, prepend=0.0)[late]))


def _speed(record: Record) -> float | None:
    seconds = float(np.sum(record.trace["step_seconds"])) if len(record.trace) else 0.0
    return float(record.trace["samples"][-1]) / seconds if seconds > 0 else None


def _outcome(name: str, unit: str, lower_is_better: bool | None, read: Reading, definition: str) -> Outcome:
    info = MetricInfo(name=name, unit=unit, definition=definition, lower_is_better=lower_is_better)
    return Outcome(info, read)


_COMMON = "at the looks that all runs have in common"

_ALL = (
    _outcome("eval_loss", "nats", True, _last("loss"), "Mean loss over the evaluation set at the final look."),
    _outcome(
        "eval_accuracy",
        "",
        False,
        _last("accuracy"),
        "Share of the evaluation set that is right at the final look.",
    ),
    _outcome(
        "best_eval_loss",
        "nats",
        True,
        _best("loss", np.min),
        f"Lowest eval loss after training began, {_COMMON}: more looks alone would find a lower one.",
    ),
    _outcome(
        "best_eval_accuracy",
        "",
        False,
        _best("accuracy", np.max),
        f"Highest eval accuracy after training began, {_COMMON}: more looks alone would find a higher one.",
    ),
    _outcome(
        "eval_loss_roughness",
        "nats",
        True,
        _roughness,
        "Root mean square distance of the eval loss from the nearest curve that falls and then rises, "
        f"{_COMMON}. A smooth fall is 0 however steep, and so is a smooth overfit; a zigzag is not.",
    ),
    _outcome(
        "eval_loss_area",
        "nats",
        True,
        _area,
        f"Mean eval loss over the budget: trapezoids over samples, {_COMMON}. Low when the loss falls early.",
    ),
    _outcome(
        "grad_norm_median",
        "",
        None,
        _norm(lambda values: float(np.median(values))),
        "Median over the applied steps of the global gradient norm before clipping.",
    ),
    _outcome(
        "grad_norm_p95",
        "",
        None,
        _norm(lambda values: quantile(values, 0.95), fewest=FEWEST_STEPS),
        "95 % quantile of the gradient norm over the applied steps, corrected for the number of steps.",
    ),
    _outcome(
        "grad_norm_max",
        "",
        None,
        _norm(lambda values: float(np.max(values))),
        "Largest gradient norm of any applied step. It grows with the number of steps alone: to compare arms of unequal "
        "length read grad_norm_spread.",
    ),
    _outcome(
        "grad_norm_spread",
        "",
        None,
        _norm(spread, fewest=FEWEST_STEPS),
        "How spiky the gradient norm is: 95 % minus 5 % quantile over the applied steps, in the norm's own unit. The "
        "quantiles are corrected for the number of steps, so that few steps do not look calmer for being few; needs "
        f"{FEWEST_STEPS} steps.",
    ),
    _outcome(
        "grad_norm_spikes",
        "",
        None,
        _norm(lambda values: float(np.mean(spikes(values))), fewest=FEWEST_STEPS),
        "Share of the applied steps whose gradient norm is above 5 times the median of the 50 applied steps before.",
    ),
    _outcome(
        "grad_noise_scale",
        "samples",
        None,
        _noise,
        "Gradient noise scale: the batch size at which the gradient's noise is as large as the gradient. From the norms of the "
        "first forward pass and of the whole step, over the whole run; needs `observe.noise_scale=true` and `loop.accumulate` "
        "of 2 or more.",
    ),
    _outcome("clipped_share", "", None, _clipped, "Share of the applied steps whose gradient was clipped."),
    _outcome(
        "train_loss_final",
        "nats",
        None,
        _train_loss,
        "Training loss over the last tenth of the samples, before each update, dropout on.",
    ),
    _outcome(
        "samples_per_second",
        "samples/s",
        False,
        _speed,
        "Training samples per second of training time; evaluation is not part of it.",
    ),
)

OUTCOMES: dict[str, Outcome] = {outcome.info.name: outcome for outcome in _ALL}


def check_metric(name: str) -> None:
    """Raise ConfigError unless `name` is an outcome."""
    if name not in OUTCOMES:
        raise ConfigError(
            f"study.metric={name!r} is not an outcome; {nearest(name, OUTCOMES)}",
            f"study.metric=eval_loss, or one of {', '.join(OUTCOMES)}",
        )

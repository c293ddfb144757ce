"""Metrics of the optimizer steps: gradient norm, clipping, gradient noise scale, training loss, speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.metrics.metric import (
    EVERY_STEP,
    FINAL_EVALUATION,
    WHOLE_RUN,
    CurveKind,
    Metric,
    MetricInfo,
    Reading,
    Record,
)
from ablate.records.gradient_health import spikes

Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]
Values = NDArray[np.float64]


MIN_STEPS = 13
"""Fewer steps would put the 95% quantile beyond the largest value."""
MIN_STEPS_P99 = 67
"""The same for the 99% quantile."""


def noise_scale(small_norm: Numbers, big_norm: Numbers, *, small: Numbers, big: Numbers) -> float | None:
    """Return the gradient noise scale in samples; None without a step, or where the squared true gradient is not above zero.

    small_norm, big_norm: norms of the gradients of two batches within one step, [steps]. small, big: their samples, [steps].
    For each step |G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b) and S = (|G_b|^2 - |G_B|^2) / (1/b - 1/B) are unbiased; their means
    are divided, not their ratios averaged (McCandlish et al. 2018, 1812.06162, appendix A.1). The small batch is part of the
    big one, which does not bias the means.
    """
    small, big = np.asarray(small, dtype=np.float64), np.asarray(big, dtype=np.float64)
    of_small, of_big = np.asarray(small_norm, dtype=np.float64) ** 2, np.asarray(big_norm, dtype=np.float64) ** 2
    if not len(of_small):
        return None
    signal = float(np.mean((big * of_big - small * of_small) / (big - small)))
    noise = float(np.mean((of_small - of_big) / (1 / small - 1 / big)))
    return noise / signal if signal > 0 else None


def quantile(values: Values, share: float) -> float:
    """Return the median-unbiased sample quantile (Hyndman and Fan's type 8): correct on average for 16 values as for 128."""
    return float(np.quantile(values, share, method="median_unbiased"))


def spread(values: Values) -> float:
    """Return the 95% minus the 5% quantile."""
    return quantile(values, 0.95) - quantile(values, 0.05)


def _norm(read: Callable[[Values], float], *, min_steps: int = 1) -> Reading:
    """read: is given the finite gradient norms of the applied steps."""

    def reading(record: Record) -> float | None:
        norms = record.trace["grad_norm"]
        norms = norms[np.isfinite(norms) & (record.trace["applied"] == 1)]
        return read(norms) if len(norms) >= min_steps else None

    return reading


def _variation(values: Values) -> float:
    mean = float(np.mean(values))
    return float(np.std(values, ddof=1)) / mean if mean > 0 else float("nan")


def _noise(record: Record) -> float | None:
    trace = record.trace
    measured = (trace["micro_samples"] > 0) & (trace["applied"] == 1)
    small_norm, big_norm, small = (trace[name][measured] for name in ("micro_grad_norm", "grad_norm", "micro_samples"))
    return noise_scale(small_norm, big_norm, small=small, big=np.diff(trace["samples"], prepend=0.0)[measured])


def _clipped(record: Record) -> float | None:
    applied = record.trace["applied"] == 1
    if not record.trace.recorded("clip_coefficient").all():
        return None
    return float(np.mean(record.trace["clip_coefficient"][applied] < 1)) if applied.any() else None


def _train_loss(record: Record) -> float | None:
    trace = record.trace
    if not len(trace):
        return None
    logged = trace.recorded("loss") if record.logged is not None else np.ones(len(trace), dtype=np.bool_)
    samples, losses, start = trace["samples"][logged], trace["loss"][logged], 0.9 * trace["samples"][-1]
    late = samples > start
    # The mean of a log with gaps is compared only where every run of the study has the same rows.
    if record.logged is not None and not np.array_equal(samples[late], record.logged[record.logged > start]):
        return None
    return float(np.average(losses[late], weights=np.diff(samples, prepend=0.0)[late])) if late.any() else None


def _generalization_gap(record: Record) -> float | None:
    curve, trained = record.curves.get("loss"), _train_loss(record)
    if curve is None or not len(curve) or curve.step[-1] == 0 or trained is None:
        return None
    return float(curve.value[-1]) - trained


def _speed(column: str) -> Reading:
    def reading(record: Record) -> float | None:
        seconds = float(np.sum(record.trace["step_seconds"])) if len(record.trace) else 0.0
        done = float(record.trace[column][-1]) if seconds > 0 else 0.0
        return done / seconds if done > 0 else None

    return reading


def _metric(
    name: str,
    read: Reading,
    definition: str,
    *,
    unit: str = "",
    curve: CurveKind = "grad norm",
    cadence: str = EVERY_STEP,
    lower_is_better: bool | None = None,
) -> Metric:
    info = MetricInfo(name=name, unit=unit, definition=definition, lower_is_better=lower_is_better, cadence=cadence)
    return Metric(info, read, curve)


_LAST_TENTH = "the last tenth of the samples"

STEP_METRICS = (
    _metric(
        "grad_norm_median", _norm(lambda norms: float(np.median(norms))),
        "Median over the applied steps of the global gradient norm before clipping.",
    ),
    _metric(
        "grad_norm_p95", _norm(lambda norms: quantile(norms, 0.95), min_steps=MIN_STEPS),
        "95% quantile of the gradient norm over the applied steps, corrected for the number of steps.",
    ),
    _metric(
        "grad_norm_p99", _norm(lambda norms: quantile(norms, 0.99), min_steps=MIN_STEPS_P99),
        "99% quantile of the gradient norm over the applied steps, corrected for the number of steps; needs "
        f"{MIN_STEPS_P99} steps.",
    ),
    _metric(
        "grad_norm_max", _norm(lambda norms: float(np.max(norms))),
        "Largest gradient norm of any applied step. It grows with the number of steps alone: to compare arms of unequal "
        "length use grad_norm_p95_p5.",
    ),
    _metric(
        "grad_norm_p95_p5", _norm(spread, min_steps=MIN_STEPS),
        "Spread of the gradient norm: 95% minus 5% quantile over the applied steps, in the norm's own unit. The quantiles are "
        f"corrected for the number of steps, so that a short run does not appear calmer; needs {MIN_STEPS} steps.",
    ),
    _metric(
        "grad_norm_cv", _norm(_variation, min_steps=2),
        "Coefficient of variation of the gradient norm: its sd over the applied steps divided by its mean. It counts rare "
        "spikes, which the spread leaves out, and has no unit, so that a smaller norm does not appear calmer.",
    ),
    _metric(
        "grad_norm_spikes", _norm(lambda norms: float(np.mean(spikes(norms))), min_steps=MIN_STEPS),
        "Share of the applied steps whose gradient norm is above 5 times the median of the 50 applied steps before.",
    ),
    _metric(
        "grad_noise_scale", _noise,
        "Gradient noise scale: the batch size at which the gradient's noise is as large as the gradient. From the norms of the "
        "first forward pass and of the whole step, over the whole run; needs `record.grad_noise_scale=true` and "
        "`train.grad_accum_steps` of 2 or more.",
        unit="samples",
    ),
    _metric("clip_fraction", _clipped, "Share of the applied steps whose gradient was clipped."),
    _metric(
        "final_train_loss", _train_loss,
        f"Training loss over {_LAST_TENTH}, before each update, dropout on.",
        unit="nats", curve="train loss", cadence=_LAST_TENTH,
    ),
    _metric(
        "generalization_gap", _generalization_gap,
        "eval_loss minus final_train_loss: how much worse the loss is on examples that were not trained on. Dropout, which is "
        "on in training alone, makes it smaller; a model that learns nothing has none.",
        unit="nats", curve="train loss", cadence=f"{FINAL_EVALUATION}, and {_LAST_TENTH}",
    ),
    _metric(
        "samples_per_second", _speed("samples"),
        "Training samples per second of training time, without evaluation.",
        unit="samples/s", curve="speed", cadence=WHOLE_RUN, lower_is_better=False,
    ),
    _metric(
        "tokens_per_second", _speed("tokens"),
        "Real tokens trained on per second of training time, without padding; none where samples have no tokens.",
        unit="tokens/s", curve="speed", cadence=WHOLE_RUN, lower_is_better=False,
    ),
)  # fmt: skip

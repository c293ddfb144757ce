"""The gradient noise scale: how large a batch must be before its gradient says more than its noise does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.metrics.metric import EVERY_STEP, FINAL_LOOK, WHOLE_RUN, CurveKind, MetricInfo, Outcome, Reading, Record
from ablate.records.gradient_health import spikes
from ablate.records.reader import Trace

Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]


def noise_scale(small_norm: Numbers, big_norm: Numbers, *, small: Numbers, big: Numbers) -> float | None:
    """In samples; None where the estimate of the true gradient's square is not above zero, or there is no step.

    small_norm, big_norm: norms of the gradients of two batches within one step, [steps]; small, big: their samples, [steps].
    For each step |G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b) and S = (|G_b|^2 - |G_B|^2) / (1/b - 1/B) are unbiased; their means
    are divided, not their ratios averaged (McCandlish et al. 2018, 1812.06162, appendix A.1). The small batch is part of the
    big one, which biases nothing in the means.
    """
    small, big = np.asarray(small, dtype=np.float64), np.asarray(big, dtype=np.float64)
    of_small, of_big = np.asarray(small_norm, dtype=np.float64) ** 2, np.asarray(big_norm, dtype=np.float64) ** 2
    if not len(of_small):
        return None
    signal = float(np.mean((big * of_big - small * of_small) / (big - small)))
    noise = float(np.mean((of_small - of_big) / (1 / small - 1 / big)))
    return noise / signal if signal > 0 else None


# Outcomes of the steps: the gradient's norm, clipping, noise scale, training loss, speed.

FEWEST_STEPS = 13
"""Below this number of steps the 95 % quantile would lie beyond the largest value."""
FEWEST_STEPS_P99 = 67
"""The same for the 99 % quantile."""


def norms(trace: Trace) -> NDArray[np.float64]:
    """The finite gradient norms of the steps that were applied. Shape [steps]."""
    values = trace["grad_norm"]
    return np.asarray(values[np.isfinite(values) & (trace["applied"] == 1)])


def quantile(values: NDArray[np.float64], share: float) -> float:
    """The median-unbiased sample quantile (Hyndman and Fan's type 8): right on average at 16 values as at 128."""
    return float(np.quantile(values, share, method="median_unbiased"))


def spread(values: NDArray[np.float64]) -> float:
    """95 % minus 5 % quantile."""
    return quantile(values, 0.95) - quantile(values, 0.05)


def _norm(read: Callable[[NDArray[np.float64]], float], *, fewest: int = 1) -> Reading:
    def of(record: Record) -> float | None:
        values = norms(record.trace)
        return read(values) if len(values) >= fewest else None

    return of


def _variation(values: NDArray[np.float64]) -> float:
    mean = float(np.mean(values))
    return float(np.std(values, ddof=1)) / mean if mean > 0 else float("nan")


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
    if not record.trace.told("clip_coefficient").all():
        return None
    return float(np.mean(record.trace["clip_coefficient"][applied] < 1)) if applied.any() else None


def _train_loss(record: Record) -> float | None:
    if not len(record.trace):
        return None
    if record.logged is not None:
        return _logged_train_loss(record.trace, record.logged)
    samples = record.trace["samples"]
    late = samples > 0.9 * samples[-1]
    return float(np.average(record.trace["loss"][late], weights=np.diff(samples, prepend=0.0)[late]))


def _logged_train_loss(trace: Trace, common: NDArray[np.float64]) -> float | None:
    """Of a log with gaps: the rows of the last tenth, where every run of the study has the same ones; else it has no value."""
    told = trace.told("loss")
    samples, losses = trace["samples"][told], trace["loss"][told]
    if not len(samples):
        return None
    late = samples > 0.9 * trace["samples"][-1]
    weights = np.diff(samples, prepend=0.0)[late]
    same = np.array_equal(samples[late], common[common > 0.9 * trace["samples"][-1]])
    return float(np.average(losses[late], weights=weights)) if same and late.any() else None


def _overfit(record: Record) -> float | None:
    curve, trained = record.curves.get("loss"), _train_loss(record)
    if curve is None or not len(curve) or curve.step[-1] == 0 or trained is None:
        return None
    return float(curve.value[-1]) - trained


def _speed(column: str) -> Reading:
    def read(record: Record) -> float | None:
        seconds = float(np.sum(record.trace["step_seconds"])) if len(record.trace) else 0.0
        done = float(record.trace[column][-1]) if seconds > 0 else 0.0
        return done / seconds if done > 0 else None

    return read


def _outcome(
    name: str,
    unit: str,
    read: Reading,
    definition: str,
    *,
    curve: CurveKind = "grad norm",
    cadence: str = EVERY_STEP,
    lower_is_better: bool | None = None,
) -> Outcome:
    info = MetricInfo(name=name, unit=unit, definition=definition, lower_is_better=lower_is_better, cadence=cadence)
    return Outcome(info, read, curve)


STEP_OUTCOMES = (
    _outcome(
        "grad_norm_median",
        "",
        _norm(lambda values: float(np.median(values))),
        "Median over the applied steps of the global gradient norm before clipping.",
    ),
    _outcome(
        "grad_norm_p95",
        "",
        _norm(lambda values: quantile(values, 0.95), fewest=FEWEST_STEPS),
        "95 % quantile of the gradient norm over the applied steps, corrected for the number of steps.",
    ),
    _outcome(
        "grad_norm_p99",
        "",
        _norm(lambda values: quantile(values, 0.99), fewest=FEWEST_STEPS_P99),
        "99 % quantile of the gradient norm over the applied steps, corrected for the number of steps; needs "
        f"{FEWEST_STEPS_P99} steps.",
    ),
    _outcome(
        "grad_norm_max",
        "",
        _norm(lambda values: float(np.max(values))),
        "Largest gradient norm of any applied step. It grows with the number of steps alone: to compare arms of unequal "
        "length read grad_norm_p95_p5.",
    ),
    _outcome(
        "grad_norm_p95_p5",
        "",
        _norm(spread, fewest=FEWEST_STEPS),
        "How spiky the gradient norm is: 95 % minus 5 % quantile over the applied steps, in the norm's own unit. The "
        "quantiles are corrected for the number of steps, so that few steps do not look calmer for being few; needs "
        f"{FEWEST_STEPS} steps.",
    ),
    _outcome(
        "grad_norm_cv",
        "",
        _norm(_variation, fewest=2),
        "Coefficient of variation of the gradient norm: its sd over the applied steps by its mean. It sees rare spikes, which "
        "the spread leaves out, and has no unit, so that a smaller norm does not look calmer for being smaller.",
    ),
    _outcome(
        "grad_norm_spikes",
        "",
        _norm(lambda values: float(np.mean(spikes(values))), fewest=FEWEST_STEPS),
        "Share of the applied steps whose gradient norm is above 5 times the median of the 50 applied steps before.",
    ),
    _outcome(
        "grad_noise_scale",
        "samples",
        _noise,
        "Gradient noise scale: the batch size at which the gradient's noise is as large as the gradient. From the norms of the "
        "first forward pass and of the whole step, over the whole run; needs `record.grad_noise_scale=true` and `train.grad_accum_steps` "
        "of 2 or more.",
    ),
    _outcome("clip_fraction", "", _clipped, "Share of the applied steps whose gradient was clipped."),
    _outcome(
        "final_train_loss",
        "nats",
        _train_loss,
        "Training loss over the last tenth of the samples, before each update, dropout on.",
        curve="train loss",
        cadence="the last tenth of the samples",
    ),
    _outcome(
        "generalization_gap",
        "nats",
        _overfit,
        "eval_loss minus final_train_loss: how much worse the loss is on examples that were not trained on. Dropout, which is "
        "on in training alone, makes it smaller; a model that learns nothing has none.",
        curve="train loss",
        cadence=f"{FINAL_LOOK}, and the last tenth of the samples",
    ),
    _outcome(
        "samples_per_second",
        "samples/s",
        _speed("samples"),
        "Training samples per second of training time; evaluation is not part of it.",
        curve="speed",
        cadence=WHOLE_RUN,
        lower_is_better=False,
    ),
    _outcome(
        "tokens_per_second",
        "tokens/s",
        _speed("tokens"),
        "Real tokens trained on per second of training time, padding not counted; where samples have no tokens, none.",
        curve="speed",
        cadence=WHOLE_RUN,
        lower_is_better=False,
    ),
)

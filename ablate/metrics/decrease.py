"""Share of a curve's total decrease that had happened by each of its points: the one definition that all reports use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ablate.metric_direction import lower_is_better
from ablate.metrics.curve_fits import Values, falling
from ablate.records.reader import EvalCurve, Trace

BLOCK_SAMPLES = 64
"""Samples over which the training loss is averaged before its decrease is measured: single small batches are mostly noise."""


def decrease_shares(values: Values, *, fitted: bool = False, weights: Values | None = None) -> Values | None:
    """Return the share of the decrease, from the first value to the lowest, that had happened by each value. Shape [values].

    fitted: measure it on the never-rising curve nearest to the values, for curves that are noisy. weights: of that fit.
    None where there is no finite decrease; a fit also needs finite values throughout.
    """
    if not len(values) or (fitted and not np.isfinite(values).all()):
        return None
    curve = falling(values, weights=weights) if fitted else values
    total = float(curve[0] - np.min(curve))
    return np.asarray((curve[0] - curve) / total) if 0 < total < np.inf else None


def orientation(metric: str) -> int:
    """Return the factor that makes a metric's curve one that training lowers: -1 where higher is better, else 1."""
    return -1 if lower_is_better(metric) is False else 1


def decrease_before(curve: EvalCurve, metric: str, samples: int | None = None) -> float | None:
    """Return the share of the decrease, from before training to the best evaluation, that had happened by one evaluation.

    samples: position of that evaluation; None takes the first one after training began. For a metric where higher is better
    it is the share of the increase. Negative where the metric got worse first. None without an evaluation before training,
    without a later one, or where the metric never improved.
    """
    later = np.flatnonzero(curve.step > 0 if samples is None else curve.samples == samples)
    if not len(curve) or curve.step[0] != 0 or not len(later):
        return None
    shares = decrease_shares(orientation(metric) * curve.value)
    return None if shares is None else float(shares[later[0]])


def train_loss_decrease(trace: Trace) -> NDArray[np.float64] | None:
    """Return the share of the training loss's decrease that had happened by each step, shape [steps].

    Measured on the never-rising curve nearest to the mean loss of every 64 samples. None where that curve does not decrease or
    the loss was not finite.
    """
    blocks = np.floor((trace["samples"] - 1) / BLOCK_SAMPLES).astype(np.int64)
    used, number, count = np.unique(blocks, return_inverse=True, return_counts=True)
    means = np.bincount(number, weights=trace["loss"], minlength=len(used)) / count
    shares = decrease_shares(means, fitted=True, weights=count.astype(np.float64))
    return None if shares is None else np.asarray(shares[number])

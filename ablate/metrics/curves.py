"""The shape of a curve: the nearest monotone and valley-shaped ones, its irregularity, and how its decrease is spread."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ablate.metric_direction import lower_is_better
from ablate.records.reader import EvalCurve, Trace

Values = NDArray[np.float64]

BLOCK_SAMPLES = 64
"""Samples over which the training loss is averaged before its decrease is measured: single small batches are mostly noise."""

MIN_EVALUATIONS = 8
"""Fewest evaluations after training began of which a curve is called irregular, or regular."""


def falling(values: Values, weights: Values | None = None) -> Values:
    """Return the never-rising sequence nearest to `values` in (weighted) squares. Shape [values]."""
    from scipy.optimize import isotonic_regression  # slow to import, and planning fits nothing

    return np.asarray(isotonic_regression(values, weights=weights, increasing=False).x, dtype=np.float64)


def valley(values: Values) -> Values:
    """Return the sequence nearest to `values` in squares that falls, then rises; either part may be empty. Shape [values].

    Unimodal regression by prefix isotonic regression (Stout 2008, doi:10.1016/j.csda.2008.08.005).
    """
    fall = _errors_of_starts(values)
    rise = _errors_of_starts(values[::-1])[::-1]
    turn = int(np.argmin(fall + rise))
    return np.concatenate([falling(values[:turn]), -falling(-values[turn:])]) if turn else -falling(-values)


def irregularity(values: Values) -> float | None:
    """Return how much of the height of a curve's chart its jumps fill: 0 if the curve is smooth, 1 if it is white noise.

    I(y) = u_n sqrt(mean_i (r_(i+1) - r_i)^2 / 2) / (max y - min y),  r = y - m
    u_n = 7.09 - 2.13 L + 0.541 L^2 - 0.036 L^3,  L = ln n

    m is the least-squares curve that falls, then rises (`valley`): what remains is what neither learning nor an overfit
    explains. It is measured from one evaluation to the next (mean square successive difference: von Neumann et al. 1941,
    doi:10.1214/aoms/1177731677), so that a second dip which the evaluations resolve is smooth, and one that they only touch
    is a jump. The height is the range of the values, as a chart shows them: a steep decrease makes what follows appear small,
    and a curve recorded from after the decrease on does not have it. u_n, 4.5 to 6, gives white noise a mean of 1 whatever
    the number of evaluations; it was measured for n from 8 to 400. A zigzag is above 1. I has no unit: it is the same for
    a + b y with b > 0.

    values: lower is better, shape [evaluations]. A constant curve has 0. None for fewer than `MIN_EVALUATIONS` values, to
    which a valley can often be fitted closely, and where a value is not finite.
    """
    count = len(values)
    if count < MIN_EVALUATIONS or not np.isfinite(values).all():
        return None
    height = np.max(values) - np.min(values)
    if height <= 1e-12 * np.max(np.abs(values)):
        return 0.0  # constant up to rounding
    noise_has_one = np.polynomial.polynomial.polyval(np.log(count), [7.09, -2.13, 0.541, -0.036])
    jumps = np.diff(values - valley(values))
    return float(noise_has_one * np.sqrt(np.mean(np.square(jumps)) / 2) / height)


def _errors_of_starts(values: Values) -> Values:
    """Sum of squares between the first 0, 1, 2, ... values and the never-rising sequence nearest to them. Shape [values + 1].

    Pools adjacent violators value by value, so that all of them together cost no more than the last one.
    """
    blocks: list[tuple[int, float, float, float]] = []  # count, mean, squares inside the block, squares before it
    errors = [0.0]
    for value in values.tolist():
        count, mean, inside, before = 1, value, 0.0, errors[-1]
        while blocks and blocks[-1][1] < mean:
            other, other_mean, other_inside, before = blocks.pop()
            inside += other_inside + (mean - other_mean) ** 2 * count * other / (count + other)
            mean = (mean * count + other_mean * other) / (count + other)
            count += other
        blocks.append((count, mean, inside, before))
        errors.append(before + inside)
    return np.asarray(errors)


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

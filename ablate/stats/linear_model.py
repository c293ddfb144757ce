"""The seed-blocked linear model: value = cell + seed + residual, with one residual variance for all cells.

A study is a randomised complete block design whose blocks are the seeds. Pooling the residual over all cells is what makes
three to five seeds informative: with k variants and n seeds it has k * (n - 1) degrees of freedom where a paired t has n - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Ratios = tuple[Values, NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Contrasts of cell means from least squares. Leading dimensions `...` are those of the values.

    effects: [..., contrasts], in the values' unit; NaN where no chain of common seeds connects the cells of the contrast.
    errors: [..., contrasts], their standard errors; NaN where the residual has no degrees of freedom or no spread.
    scales: [..., contrasts], standard error over residual sd: sqrt(2 / n) for two cells of a complete layout.
    correlation: [..., contrasts, contrasts], of the estimates: 0.5 for variants against a baseline in a complete layout.
    sd, df: [...], residual standard deviation and its degrees of freedom.
    square_sum: [...], of the residuals.
    """

    effects: Values
    errors: Values
    scales: Values
    correlation: Values
    sd: Values
    df: NDArray[np.int64]
    square_sum: Values


def many_to_one(arms: int) -> Values:
    """Return the weights [arms - 1, arms] of every variant minus the baseline, which is arm 0."""
    return np.hstack([-np.ones((arms - 1, 1)), np.eye(arms - 1)])


def blocked(values: Values, weights: Values | None = None) -> Blocked:
    """Fit cell + seed to `values`, shape [..., cells, seeds], by least squares; NaN where a run has no value.

    An incomplete block contributes what it holds: a seed that lost one cell still counts in the contrasts among the others
    and narrows their residual. Nothing is imputed. Source: the intrablock analysis of incomplete blocks (Yates 1940;
    John and Williams 1995, ch. 1).

    weights: [contrasts, cells], each row adding up to 0; default `many_to_one`. Raises ValueError below two cells.
    """
    if values.ndim < 2 or values.shape[-2] < 2:
        raise ValueError(f"values of shape {values.shape}: expected [..., arms, seeds] with at least two arms")
    lead, (cells, seeds) = values.shape[:-2], values.shape[-2:]
    weights = many_to_one(cells) if weights is None else weights
    num = len(weights)
    flat = values.reshape(-1, cells, seeds)
    present = np.isfinite(flat)
    layouts, which = np.unique(present.reshape(len(flat), -1), axis=0, return_inverse=True)
    effects = np.full((len(flat), num), np.nan)
    scales, sd, square_sum = np.full_like(effects, np.nan), np.full(len(flat), np.nan), np.zeros(len(flat))
    correlation, df = np.full((len(flat), num, num), np.nan), np.zeros(len(flat), dtype=np.int64)
    for number, layout in enumerate(layouts.reshape(-1, cells, seeds)):
        rows = which.reshape(-1) == number
        design = _layout(layout.shape, layout.tobytes(), weights.tobytes())
        scales[rows], correlation[rows], df[rows] = design.scales, design.correlation, design.df
        effects[rows], residuals = design.solve(flat[rows])
        square_sum[rows] = np.sum(residuals**2, axis=(-2, -1))
        if design.df:
            sd[rows] = np.where(_spread(flat[rows], residuals), np.sqrt(square_sum[rows] / design.df), np.nan)
    return Blocked(
        effects=effects.reshape(*lead, num),
        errors=(scales * sd[:, None]).reshape(*lead, num),
        scales=scales.reshape(*lead, num),
        correlation=correlation.reshape(*lead, num, num),
        sd=sd.reshape(lead),
        df=df.reshape(lead),
        square_sum=square_sum.reshape(lead),
    )


def variance_ratios(values: Values) -> Ratios:
    """Return the variance of each arm over that of all others: F and its two degrees of freedom, each [..., arms].

    F is what an arm's runs add to the residual sum of squares of the model without that arm, over the residual variance
    of that model. With equal variances it follows the F distribution exactly, because the two are independent. NaN, with
    0 degrees of freedom, where the other arms have no residual: with two arms there is nothing to compare.
    """
    if values.shape[-2] < 3:
        none = np.zeros(values.shape[:-1], dtype=np.int64)
        return np.full(values.shape[:-1], np.nan), none, none
    found = _complete_ratios(values)
    return _refitted_ratios(values) if found is None else found


def _complete_ratios(values: Values) -> Ratios | None:
    """The same in closed form, where every arm has all of its runs or none; None elsewhere, and where spread is lacking."""
    present = np.isfinite(values)
    complete, seeds = np.all(present, axis=-1), values.shape[-1]
    if np.any(present & ~complete[..., None]):
        return None
    arms = np.sum(complete, axis=-1, keepdims=True)
    in_seed = np.sum(np.where(present, values, 0.0), axis=-2, keepdims=True) / np.maximum(arms, 1)[..., None]
    centred = np.where(present, values - in_seed, 0.0)
    squares = np.sum((centred - np.mean(centred, axis=-1, keepdims=True)) ** 2, axis=-1)
    added = squares * arms / np.maximum(arms - 1, 1)
    rest = np.sum(squares, axis=-1, keepdims=True) - added
    lower = np.where(complete, (arms - 2) * (seeds - 1), 0)
    usable = lower > 0
    size = np.max(np.where(present, np.abs(values), 0.0), axis=(-2, -1), keepdims=True)[..., 0]
    if np.any(usable & (rest <= 1e-9 * added + 1e-24 * size**2)):
        return None
    ratios = added / (seeds - 1) / (np.where(usable, rest, 1.0) / np.maximum(lower, 1)) if seeds > 1 else added
    return np.where(usable, ratios, np.nan), np.where(usable, seeds - 1, 0), np.where(usable, lower, 0)


def _refitted_ratios(values: Values) -> Ratios:
    whole = blocked(values)
    ratios = np.full(values.shape[:-1], np.nan)
    upper, lower = np.zeros(ratios.shape, dtype=np.int64), np.zeros(ratios.shape, dtype=np.int64)
    for arm in range(values.shape[-2]):
        rest = blocked(np.delete(values, arm, axis=-2))
        added = whole.df - rest.df
        usable = (added > 0) & (rest.df > 0) & np.isfinite(rest.sd) & np.isfinite(whole.sd)
        upper[..., arm], lower[..., arm] = np.where(usable, added, 0), np.where(usable, rest.df, 0)
        own = np.maximum(whole.square_sum - rest.square_sum, 0.0) / np.where(usable, added, 1)
        ratios[..., arm] = np.where(usable, own / np.where(usable, rest.sd, 1.0) ** 2, np.nan)
    return ratios, upper, lower


def seed_correlation(values: Values) -> float | None:
    """Return the measured rho of `values` [arms, seeds]: mean covariance of two arms over seeds by mean variance of an arm.

    This is the intraclass correlation for consistency, ICC(3,1) of Shrout and Fleiss 1979; seeds without all arms are
    left out. None below three such seeds or without spread.
    """
    whole = values[:, np.all(np.isfinite(values), axis=0)]
    if whole.shape[0] < 2 or whole.shape[1] < 3:
        return None
    covariance = np.cov(whole)
    variances = np.diag(covariance)
    if not np.all(np.ptp(whole, axis=1) > 1e-12 * np.max(np.abs(whole), axis=1)):
        return None
    arms = len(variances)
    return float((np.sum(covariance) - np.sum(variances)) / (arms - 1) / np.sum(variances))


class _Layout:
    """What depends only on which runs have a value: the contrasts' scales, correlations and degrees of freedom."""

    def __init__(self, present: Flags, weights: Values) -> None:
        self.present = present.astype(np.float64)
        self.in_seed = np.sum(self.present, axis=0)
        self.share = np.divide(self.present, self.in_seed, out=np.zeros_like(self.present), where=self.in_seed > 0)
        information = np.diag(np.sum(self.present, axis=1)) - self.share @ self.present.T
        self.inverse = np.linalg.pinv(information, rcond=1e-9, hermitian=True)
        rank = int(np.linalg.matrix_rank(information, tol=1e-9 * max(1.0, float(np.max(self.present.sum(axis=1))))))
        self.df = max(0, int(np.sum(present)) - int(np.sum(self.in_seed > 0)) - rank)
        self.weights = weights
        self.estimable = np.all(np.abs(weights @ self.inverse @ information - weights) < 1e-6, axis=1)
        covariance = weights @ self.inverse @ weights.T
        self.scales = np.sqrt(np.where(self.estimable, np.diag(covariance), np.nan))
        with np.errstate(invalid="ignore"):
            self.correlation = covariance / np.outer(self.scales, self.scales)

    def solve(self, values: Values) -> tuple[Values, Values]:
        """Return effects [studies, contrasts] and residuals [studies, cells, seeds] (0 where a run has no value)."""
        known = np.where(self.present > 0, values, 0.0)
        centre = np.sum(known, axis=(-2, -1), keepdims=True) / max(1.0, float(np.sum(self.present)))
        known = (known - centre) * self.present
        adjusted = np.sum(known, axis=-1) - np.sum(known, axis=-2) @ self.share.T
        cell = adjusted @ self.inverse
        left = (known - cell[:, :, None]) * self.present
        seed = np.sum(left, axis=-2) / np.maximum(self.in_seed, 1.0)
        residuals = (left - seed[:, None, :]) * self.present
        return np.where(self.estimable, cell @ self.weights.T, np.nan), residuals


@lru_cache(maxsize=1024)
def _layout(shape: tuple[int, int], present: bytes, weights: bytes) -> _Layout:
    """Cache layouts: studies, metrics and left-out cells share few of them, and each costs a pseudo-inverse."""
    return _Layout(
        np.frombuffer(present, dtype=bool).reshape(shape),
        np.frombuffer(weights, dtype=np.float64).reshape(-1, shape[0]),
    )


def _spread(values: Values, residuals: Values) -> Flags:
    """Return whether residuals exceed rounding: values that agree exactly give no standard error."""
    size = np.max(np.where(np.isfinite(values), np.abs(values), 0.0), axis=(-2, -1))
    return np.asarray(np.max(np.abs(residuals), axis=(-2, -1)) > 1e-13 * size)


ENOUGH_SEEDS = 5
"""Below this number of seeds every finding is labelled LOW POWER."""

BASELINE_ALARM = 0.02
EARLY_BASELINE_ALARM = 0.2
VARIANT_ALARM = 0.01
"""False alarm rates of the variance guard on one arm of a many-to-one design, when all variances are equal.

The baseline's error enters every contrast, so its guard is the more sensitive. An alarm there changes the method of the
whole table: it costs no error rate, but the power of pooling, and at .05 two hundredths of it at five seeds where at .02 a
noisy baseline still gives less than 10% false positives. Below five seeds it seldom detects anything and is set higher.

An alarm on a variant takes the noisiest arm out of the pool and makes the pooled variance too small. At .2 per arm the
familywise error of five variants at five seeds rises from 5.0% to 11.5%, at .05 to 7.6%, at .01 not measurably. What so
strict a guard misses, the variant's own paired analysis catches (see contrasts.py).
"""


def baseline_alarm(seeds: int) -> float:
    """Return the false alarm rate of the baseline's guard in a study with this number of seeds."""
    return BASELINE_ALARM if seeds >= ENOUGH_SEEDS else EARLY_BASELINE_ALARM


def set_aside(values: Values, weights: Values, alarms: Values) -> Flags:
    """Return the cells [..., cells] whose spread is too unlike the others' to share one residual variance.

    The noisiest cell that the F-guard detects is set aside and the rest is checked again, because two noisy cells would hide
    each other. It stops when none is detected, when no contrast could be pooled any more, or when two cells are left.

    weights: [contrasts, cells]. alarms: [cells], false alarm rate of the guard on each cell.
    """
    lead, (cells, seeds) = values.shape[:-2], values.shape[-2:]
    flat, needs = values.reshape(-1, cells, seeds), weights != 0
    aside = np.zeros((len(flat), cells), dtype=bool)
    rows = np.arange(len(flat))
    for _ in range(max(0, cells - 2)):
        if not len(rows):
            break
        p_values = _p_values(np.where(aside[rows, :, None], np.nan, flat[rows]))
        detected = p_values < alarms
        worst = np.argmin(np.where(detected, p_values / alarms, np.inf), axis=1)
        rows, worst = rows[np.any(detected, axis=1)], worst[np.any(detected, axis=1)]
        aside[rows, worst] = True
        rows = rows[~np.all(aside[rows] @ needs.T, axis=1)]
    return aside.reshape(*lead, cells)


def _p_values(values: Values) -> Values:
    ratios, upper, lower = variance_ratios(values)
    known = np.isfinite(ratios) & (upper > 0) & (lower > 0)
    p_values = np.ones(ratios.shape)
    p_values[known] = stats.f.sf(ratios[known], upper[known], lower[known])
    return p_values

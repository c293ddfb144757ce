"""The seed-blocked linear model: value = cell + seed + residual, with one residual variance for all cells.

A study is a randomised complete block design whose blocks are the seeds. Pooling the residual over all cells is what makes
three to five seeds informative: with k variants and n seeds it has k * (n - 1) degrees of freedom where a paired t has n - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

ENOUGH_SEEDS = 5
"""Below this number of seeds every finding is labelled LOW POWER."""

ROUNDING = 2.0**-22
"""Relative spread that float32 values have by rounding alone; no error is based on it."""


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
    """Return whether residuals exceed rounding: values that agree give no standard error."""
    size = np.max(np.where(np.isfinite(values), np.abs(values), 0.0), axis=(-2, -1))
    return np.asarray(np.max(np.abs(residuals), axis=(-2, -1)) > ROUNDING * size)

"""Paired differences: their t interval, the exact sign-flip test, how often a variant is better, and Hedges' g."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ablate.stats.linear_model import ROUNDING

Values = NDArray[np.float64]

MAX_PAIRS = 40
"""Number of pairs up to which the sign-flip test counts all signs."""


@dataclass(frozen=True, slots=True)
class PairedT:
    """Paired t analyses, one per contrast; all of shape [..., contrasts] unless said.

    differences: [..., contrasts, seeds], NaN where a seed does not give one.
    pairs: number of seeds that do.
    effects: mean difference, NaN without a pair.
    errors: its standard error, NaN below two pairs or without spread: equal coarse values do not show a zero error.
    """

    differences: Values
    pairs: NDArray[np.int64]
    effects: Values
    errors: Values

    @property
    def df(self) -> NDArray[np.int64]:
        return np.maximum(self.pairs - 1, 0)

    @property
    def p_values(self) -> Values:
        """Two-sided p of no difference, not corrected for the number of contrasts."""
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * stats.t.sf(np.abs(self.effects) / self.errors, np.maximum(self.df, 1)))


def paired_t(differences: Values, size: Values | float = 0.0) -> PairedT:
    """Return the paired t analysis of `differences` [..., contrasts, seeds]; NaN where a seed gives none.

    size: [..., contrasts], of the values that were subtracted: spread within their rounding as float32 is none.
    """
    present = np.isfinite(differences)
    pairs = np.sum(present, axis=-1)
    known = np.where(present, differences, 0.0)
    effects = np.where(pairs > 0, np.sum(known, axis=-1) / np.maximum(pairs, 1), np.nan)
    square_sum = np.sum(np.where(present, known - effects[..., None], 0.0) ** 2, axis=-1)
    sd = np.sqrt(square_sum / np.maximum(pairs - 1, 1))
    spread = (pairs > 1) & (sd > ROUNDING * np.maximum(size, np.max(np.abs(known), axis=-1, initial=0.0)))
    errors = np.where(spread, sd / np.sqrt(np.maximum(pairs, 1)), np.nan)
    return PairedT(np.where(present, differences, np.nan), pairs, effects, errors)


def signflip_p(differences: Values) -> float:
    """Return the exact two-sided p of the mean of `differences`, shape [pairs], over all 2^pairs signs.

    Without an effect every difference could as well have been its negative. Sums of one half of the pairs are counted
    against the sorted sums of the other, so 40 pairs are still exact. Raises ValueError above; NaN without a pair.
    Source: Fisher 1935, ch. 3.
    """
    if len(differences) > MAX_PAIRS:
        raise ValueError(f"{len(differences)} pairs: all signs are counted for up to {MAX_PAIRS}; use the t interval")
    if not len(differences) or not np.all(np.isfinite(differences)):
        return float("nan")
    size = np.abs(differences)
    observed = abs(float(np.sum(differences))) - 1e-12 * float(np.sum(size))
    left, right = _sums(size[::2]), np.sort(_sums(size[1::2]))
    above = len(right) - np.searchsorted(right, observed - left, side="left")
    below = np.searchsorted(right, -observed - left, side="right")
    return float(min(1.0, (np.sum(above) + np.sum(below)) / 2.0 ** len(differences)))


def smallest_p(pairs: int) -> float:
    """Return the smallest sign-flip p that `pairs` nonzero differences can reach: .25 for 3, .0625 for 5, .031 for 6."""
    return min(1.0, 2.0 ** (1 - pairs))


def _sums(sizes: Values) -> Values:
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums + size, sums - size])
    return sums


def beats(baseline: Values, variant: Values, lower_is_better: bool) -> float:
    """Return the share of seeds in which the variant is better; a tie counts half. Shapes [pairs]; NaN without a pair.

    A lost run may have an infinite value, the worst. For a metric without a better side, `lower_is_better=False` gives the
    share in which the variant is higher.
    """
    if not len(variant):
        return float("nan")
    gain = ((variant > baseline).astype(float) - (variant < baseline)) * (-1 if lower_is_better else 1)
    return float(np.mean((gain + 1) / 2))


def small_sample(df: float) -> float:
    """Return Hedges' exact correction J(df) of a standardised difference, about 1 - 3 / (4 df - 1)."""
    if df < 2:
        return float("nan")
    return float(np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2))


def hedges_g(baseline: Values, variant: Values) -> float:
    """Return the difference of means over the pooled sd of single runs, corrected; shapes [runs], without unit.

    It measures how far apart the arms are among runs of either, however well the seeds are paired. NaN below two runs per
    arm or without spread. Source: Hedges 1981.
    """
    df = len(baseline) + len(variant) - 2
    if min(len(baseline), len(variant)) < 2:
        return float("nan")
    square_sum = sum(float(np.sum((arm - np.mean(arm)) ** 2)) for arm in (baseline, variant))
    sd = float(np.sqrt(square_sum / df))
    if sd <= 1e-12 * max(float(np.max(np.abs(arm))) for arm in (baseline, variant)):
        return float("nan")
    return float(np.mean(variant) - np.mean(baseline)) / sd * small_sample(df)

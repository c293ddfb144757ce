"""Small-sample inference on paired differences: arrays in, values out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Paired:
    """mean, sd: of the differences. low, high: 95 % t interval of the mean. inner_low, inner_high: 90 %, for equivalence.

    p_value: two-sided paired t test of no difference.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    inner_low: float
    inner_high: float
    p_value: float

    def within(self, margin: float) -> bool:
        """Two one-sided tests at 5 %: the 90 % interval lies inside plus or minus `margin` (Lakens 2017)."""
        return -margin < self.inner_low and self.inner_high < margin

    @property
    def differs(self) -> bool:
        """Whether the 95 % interval leaves 0 out."""
        return self.low > 0 or self.high < 0


def paired(differences: Values) -> Paired | None:
    """t inference on the mean of `differences`, shape [pairs].

    None where there is nothing to infer from: fewer than two differences, or differences without any spread, from
    which no standard error can be had (equal to rounding: two coarse values that agree are not a proof).
    """
    n = len(differences)
    if n < 2:
        return None
    mean, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if sd <= 1e-12 * float(np.max(np.abs(differences))):
        return None
    error = sd / np.sqrt(n)
    half, inner = (float(stats.t.ppf(share, n - 1) * error) for share in (0.975, 0.95))
    p_value = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return Paired(n, mean, sd, mean - half, mean + half, mean - inner, mean + inner, p_value)


def correlation(left: Values, right: Values) -> float | None:
    """Pearson's rho between two arms over seeds; None below three pairs (two always give 1 or -1) or without spread."""
    if len(left) < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    return float(np.corrcoef(left, right)[0, 1])

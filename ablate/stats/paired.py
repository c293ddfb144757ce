"""Each variant on its own: the paired t of variant minus baseline, from nothing but these two arms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OwnPairs:
    """All of shape [..., variants].

    pairs: seeds in which both arms have a value. effects: mean difference, NaN without a pair. errors: its standard error,
    NaN below two pairs or without spread: coarse values that happen to agree are no proof.
    """

    pairs: NDArray[np.int64]
    effects: Values
    errors: Values

    @property
    def df(self) -> NDArray[np.int64]:
        return np.maximum(self.pairs - 1, 0)

    @property
    def p_values(self) -> Values:
        """Two-sided, of no difference; not corrected for the number of variants."""
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * stats.t.sf(np.abs(self.effects) / self.errors, np.maximum(self.df, 1)))

    def half_width(self, level: float) -> Values:
        """Of the two-sided t interval at `level`, in the values' unit."""
        most = int(np.max(self.df, initial=1))
        limits = np.concatenate([[np.nan], stats.t.ppf(0.5 + level / 2, np.arange(1, most + 1))])
        return np.asarray(limits[self.df] * self.errors)


def own_pairs(values: Values) -> OwnPairs:
    """Of `values` [..., arms, seeds], the baseline first; NaN where a run has no value."""
    values = np.where(np.isfinite(values), values, np.nan)
    differences = values[..., 1:, :] - values[..., :1, :]
    seen = np.isfinite(differences)
    pairs = np.sum(seen, axis=-1)
    known = np.where(seen, differences, 0.0)
    effects = np.where(pairs > 0, np.sum(known, axis=-1) / np.maximum(pairs, 1), np.nan)
    square_sum = np.sum(np.where(seen, known - effects[..., None], 0.0) ** 2, axis=-1)
    sd = np.sqrt(square_sum / np.maximum(pairs - 1, 1))
    spread = (pairs > 1) & (sd > 1e-12 * np.max(np.abs(known), axis=-1, initial=0.0))
    return OwnPairs(pairs, effects, np.where(spread, sd / np.sqrt(np.maximum(pairs, 1)), np.nan))

"""Several p-values read at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def holm(p_values: Values, family: int | None = None) -> Values:
    """Holm's step-down adjusted p, in the order given (Holm 1979). Shape [tests]; NaN stays NaN and counts for nothing.

    family: how many claims are made in all, when these are only some of them: the smallest p is multiplied by it. Default
        is the number of p-values. Raises ValueError below that number.
    """
    adjusted = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    family = len(known) if family is None else family
    if family < len(known):
        raise ValueError(f"family {family}: it holds at least the {len(known)} p-values that are given")
    if len(known):
        order = known[np.argsort(p_values[known], kind="stable")]
        steps = p_values[order] * (family - np.arange(len(order)))
        adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted

"""Which arms cannot share one residual variance with the others, and are analysed by their own paired t."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.blocked import variance_ratios

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

ENOUGH_SEEDS = 5
"""Below this number of seeds every claim is LOW POWER."""

BASELINE_LEVEL = 0.02
EARLY_BASELINE_LEVEL = 0.2
VARIANT_LEVEL = 0.01
"""False alarms of the guard on one arm, when all variances are equal.

The baseline's error stands in every contrast, so its guard is the more watchful. An alarm there changes the method of the
whole table: it costs no error rate, but the power of pooling, and at .05 two hundredths of it at five seeds where at .02 a
noisy baseline still gives less than 10 % false claims. Below five seeds it seldom sees anything and is set higher.

An alarm on a variant takes the noisiest arm out of the pool and makes the pool look calmer than it is. At .2 per arm the
familywise error of five variants at five seeds rises from 5.0 to 11.5 %, at .05 to 7.6 %, at .01 not measurably. What so
strict a guard misses, the variant's own paired analysis catches (see decide.py).
"""


def baseline_level(seeds: int) -> float:
    """False alarms of the baseline's guard in a study of so many seeds."""
    return BASELINE_LEVEL if seeds >= ENOUGH_SEEDS else EARLY_BASELINE_LEVEL


def fallback(values: Values) -> Flags:
    """Which variants fall back to their own paired t: [..., variants], of `values` [..., arms, seeds].

    The noisiest variant that the F-guard finds is set aside and the rest looked at again, until none is found: two noisy
    arms would hide each other. A noisy baseline makes all variants fall back. At least two variants stay to be compared.
    """
    aside = set_aside(values)
    return np.asarray(aside[..., 1:] | aside[..., :1])


def set_aside(values: Values) -> Flags:
    """The arms themselves that `fallback` is about: [..., arms]."""
    lead, (arms, seeds) = values.shape[:-2], values.shape[-2:]
    flat = values.reshape(-1, arms, seeds)
    aside = np.zeros((len(flat), arms), dtype=bool)
    going = np.ones(len(flat), dtype=bool)
    for _ in range(max(0, arms - 2)):
        rows = np.flatnonzero(going)
        if not len(rows):
            break
        p_values = _p_values(np.where(aside[rows, :, None], np.nan, flat[rows]))
        limits = np.full(arms, VARIANT_LEVEL)
        limits[0] = baseline_level(seeds)
        found = p_values < limits
        worst = np.argmin(np.where(found, p_values / limits, np.inf), axis=1)
        any_found = np.any(found, axis=1)
        aside[rows[any_found], worst[any_found]] = True
        # The rest cannot be compared any more once the baseline is out.
        going[rows] = any_found & ~aside[rows, 0]
    return aside.reshape(*lead, arms)


def _p_values(values: Values) -> Values:
    ratios, upper, lower = variance_ratios(values)
    known = np.isfinite(ratios) & (upper > 0) & (lower > 0)
    p_values = np.ones(ratios.shape)
    p_values[known] = stats.f.sf(ratios[known], upper[known], lower[known])
    return p_values

"""How large an effect is beside the spread from run to run, and how often the variant beats the baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Values = NDArray[np.float64]


def small_sample(df: float) -> float:
    """Hedges' exact correction J(df), by which a standardised difference is too large on average; 1 - 3 / (4 df - 1)."""
    if df < 2:
        return float("nan")
    return float(np.exp(special.gammaln(df / 2) - special.gammaln((df - 1) / 2)) / np.sqrt(df / 2))


def hedges_g(baseline: Values, variant: Values) -> float:
    """Difference of means over the pooled sd of the runs, corrected; shapes [runs], without unit.

    It says how far apart the arms lie among runs of either, however well the seeds are paired. NaN below two runs per arm
    or without spread. Source: Hedges 1981.
    """
    df = len(baseline) + len(variant) - 2
    if min(len(baseline), len(variant)) < 2:
        return float("nan")
    square_sum = sum(float(np.sum((arm - np.mean(arm)) ** 2)) for arm in (baseline, variant))
    return _over(float(np.mean(variant) - np.mean(baseline)), np.sqrt(square_sum / df), df, baseline, variant)


def hedges_g_paired(differences: Values) -> float:
    """Mean difference over the sd of the differences, corrected; shape [pairs]. Grows with the seeds' correlation."""
    df = len(differences) - 1
    if df < 1:
        return float("nan")
    return _over(float(np.mean(differences)), float(np.std(differences, ddof=1)), df, differences)


def beats(baseline: Values, variant: Values, lower_is_better: bool) -> float:
    """Share of seeds in which the variant is better; a tie counts half. Shapes [pairs]; NaN without a pair.

    Where an outcome has no better side, `lower_is_better=False` gives the share in which the variant is higher.
    """
    if not len(variant):
        return float("nan")
    gain = np.sign(variant - baseline) * (-1 if lower_is_better else 1)
    return float(np.mean((gain + 1) / 2))


def _over(effect: float, sd: float, df: int, *values: Values) -> float:
    if sd <= 1e-12 * max(float(np.max(np.abs(arm))) for arm in values):
        return float("nan")
    return effect / sd * small_sample(df)

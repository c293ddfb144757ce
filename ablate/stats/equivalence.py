"""Two one-sided tests: no effect is a claim of its own, and has to be earned."""

from __future__ import annotations

import math

from scipy import stats


def tost_p(effect: float, error: float, df: float, margin: float) -> float:
    """p of the claim that the true effect lies inside plus or minus `margin`: the larger of two one-sided t tests.

    effect, error, margin in the same unit. Below .05 exactly when the 90 % interval lies inside. NaN where the error is
    not known. Raises ValueError for a margin that is not positive. Source: Schuirmann 1987; Lakens 2017.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin}: a positive number is needed, the smallest effect that matters")
    if not (math.isfinite(effect) and error > 0 and df > 0):
        return float("nan")
    return float(stats.t.sf((margin - abs(effect)) / error, df))


def inner_interval(effect: float, error: float, df: float, level: float = 0.95) -> tuple[float, float]:
    """The interval at 2 * level - 1 (90 % for 5 % tests) that has to lie inside the margin. Of one contrast alone.

    A table of several variants is read from `dunnett.equivalence_value` instead: with five variants at their margin, one
    false `no effect` somewhere in the table is three times as likely as in a single row.
    """
    half = float(stats.t.ppf(level, df)) * error if df > 0 else float("nan")
    return effect - half, effect + half

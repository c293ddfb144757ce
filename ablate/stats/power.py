"""Power of the decision rule in contrasts.py, smallest detectable effect, and number of seeds needed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, special

from ablate.stats.contrasts import CONFIDENCE, estimate
from ablate.stats.dunnett import complete, critical_value, equivalence_value

Values = NDArray[np.float64]

DRAWN_VALUES = 100_000
"""Of the simulated studies behind a power: ten times as many change it by less than half a point."""

POWER = 0.8
MAX_SEEDS = 1000


def residual_sd(run_sd: float, rho: float) -> float:
    """Return the residual sd of the seed-blocked model from the sd of single runs and their correlation over seeds."""
    return float(run_sd * np.sqrt(max(0.0, 1 - rho)))


def detection_power(seeds: int, variants: int, effect: float, sd: float, confidence: float = CONFIDENCE) -> float:
    """Return the power to detect a true `effect` of one variant; 0 below two seeds.

    sd: of the residual, in the effect's unit. confidence: of the intervals; an interim analysis has its own. Where other
    variants have effects too, the step-down test detects more.
    """
    if seeds < 2:
        return 0.0
    shift = abs(effect) / (sd * np.sqrt(2 / seeds))
    bar = _half_widths(seeds, variants, confidence, sides=2)
    return float(np.mean(special.ndtr(shift - bar) + special.ndtr(-bar - shift)))


def equivalence_power(seeds: int, variants: int, margin: float, sd: float, confidence: float = CONFIDENCE) -> float:
    """Return the power to show equivalence of one variant that truly has no effect; 0 below two seeds."""
    if seeds < 2:
        return 0.0
    room = margin / (sd * np.sqrt(2 / seeds)) - _half_widths(seeds, variants, confidence, sides=1)
    return float(np.mean(2 * special.ndtr(np.maximum(room, 0.0)) - 1))


def detectable_effect(
    seeds: int, variants: int, sd: float, power: float = POWER, confidence: float = CONFIDENCE
) -> float:
    """Return the smallest true effect detected with this power, in the unit of the residual `sd`; infinite below two seeds."""
    if seeds < 2:
        return float("inf")
    most = 1.0

    def missing(effect: float) -> float:
        return detection_power(seeds, variants, effect, 1.0, confidence) - power

    if missing(0.0) >= 0:  # the false positive rate alone reaches this power
        return 0.0
    while missing(most) < 0:
        most *= 2
    return float(optimize.brentq(missing, 0.0, most, xtol=1e-6)) * sd


@lru_cache(maxsize=4096)  # variants that are judged together share it
def seeds_to_decide(
    sd: float, margin: float, variants: int, power: float = POWER, confidence: float = CONFIDENCE
) -> int | None:
    """Return the fewest seeds with this power for both: an effect of `margin`, and equivalence where there is none.

    It plans for the effect of interest, not for the one measured, which would only repeat the p-value. None above 1,000.
    """

    def enough(seeds: int) -> bool:
        detects = detection_power(seeds, variants, margin, sd, confidence) >= power
        return detects and equivalence_power(seeds, variants, margin, sd, confidence) >= power

    low, high = 2, 4
    while not enough(high):
        if high == MAX_SEEDS:
            return None
        low, high = high + 1, min(2 * high, MAX_SEEDS)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


@lru_cache(maxsize=512)
def _half_widths(seeds: int, variants: int, confidence: float, sides: int) -> Values:
    """Half widths of the intervals of simulated studies, over the true error of an effect; sides: 1 for equivalence.

    Under normal noise they are independent of the effects, so that a power is a mean of normal probabilities over them.
    """
    freedom, errors = _simulated(seeds, variants)
    kinds, which = np.unique(freedom, return_inverse=True)
    limits = np.exp(_log_limit(variants, confidence, sides)(1 / kinds))
    return np.asarray(limits[which.reshape(freedom.shape)] * errors)


@lru_cache(maxsize=128)
def _simulated(seeds: int, variants: int) -> tuple[Values, Values]:
    """Degrees of freedom of the errors of simulated studies, and the errors over the true one."""
    cells = variants + 1
    draws = max(DRAWN_VALUES // (cells * seeds), 16)
    found = estimate(np.random.default_rng(1955).normal(size=(draws, cells, seeds)))
    return found.df.ravel(), found.errors.ravel() / np.sqrt(2 / seeds)


@lru_cache(maxsize=256)
def _log_limit(variants: int, confidence: float, sides: int) -> interpolate.CubicSpline:
    """Log of the critical value over 1 / df, interpolated to about four digits: a plan asks for dozens of them."""
    value = critical_value if sides == 2 else equivalence_value
    freedom = np.asarray([1e6, 80, 30, 15, 9, 6, 4, 3, 2, 1.5, 1.2, 1])
    return interpolate.CubicSpline(1 / freedom, np.log([value(confidence, df, complete(variants)) for df in freedom]))

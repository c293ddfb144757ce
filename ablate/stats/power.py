"""Power of the decision rule in contrasts.py, smallest detectable effect, and number of seeds needed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, special, stats

from ablate.stats.contrasts import ALARM, CONFIDENCE, EARLY_ALARM, satterthwaite
from ablate.stats.dunnett import complete, critical_value, equivalence_value
from ablate.stats.linear_model import ENOUGH_SEEDS

TYPICAL_WEIGHT, TYPICAL_EARLY_WEIGHT = 0.65, 0.5
"""Of the pooled error where all arms vary alike, from five seeds on and below: the power at this weight is within two points
of the mean over all weights (simulated, 2 to 10 seeds, 2 to 20 variants)."""

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
    rules = _rules(seeds, variants, confidence, sides=2)
    return sum(share * _beyond(limit, shift, df) for share, limit, df in rules)


def equivalence_power(seeds: int, variants: int, margin: float, sd: float, confidence: float = CONFIDENCE) -> float:
    """Return the power to show equivalence of one variant that truly has no effect; 0 below two seeds."""
    if seeds < 2:
        return 0.0
    room = margin / (sd * np.sqrt(2 / seeds))
    rules = _rules(seeds, variants, confidence, sides=1)
    return sum(share * _inside(limit, room, df) for share, limit, df in rules)


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


def _rules(seeds: int, variants: int, confidence: float, sides: int) -> list[tuple[float, float, float]]:
    """Return (share of studies, critical value, degrees of freedom): with a typical weight of the pooled error, and without."""
    alarms = 0.0 if variants == 1 else EARLY_ALARM if seeds < ENOUGH_SEEDS or variants < 5 else ALARM
    weight = 1.0 if variants == 1 else TYPICAL_WEIGHT if seeds >= ENOUGH_SEEDS else TYPICAL_EARLY_WEIGHT
    rules = []
    for share, w in ((1 - alarms, weight), (alarms, 0.0)):
        df = float(satterthwaite(w, variants * (seeds - 1), seeds - 1))
        rules.append((share, float(np.exp(_log_limit(variants, confidence, sides)(1 / df))), df))
    return rules


@lru_cache(maxsize=256)
def _log_limit(variants: int, confidence: float, sides: int) -> interpolate.CubicSpline:
    """Log of the critical value over 1 / df, interpolated to about four digits: a plan asks for dozens of them."""
    value = critical_value if sides == 2 else equivalence_value
    freedom = np.asarray([1e6, 80, 30, 15, 9, 6, 4, 3, 2, 1.5, 1.2, 1])
    return interpolate.CubicSpline(1 / freedom, np.log([value(confidence, df, complete(variants)) for df in freedom]))


def _beyond(limit: float, shift: float, df: float) -> float:
    bar = limit * _observed_sd(df)
    return float(np.mean(special.ndtr(shift - bar) + special.ndtr(-bar - shift)))


def _inside(limit: float, room: float, df: float) -> float:
    left = np.maximum(room - limit * _observed_sd(df), 0.0)
    return float(np.mean(2 * special.ndtr(left) - 1))


@lru_cache(maxsize=512)
def _observed_sd(df: float) -> NDArray[np.float64]:
    """The residual sd over the true one, at 2,000 equal shares of its distribution: powers are means over them."""
    shares = (np.arange(2000) + 0.5) / 2000
    return np.asarray(np.sqrt(stats.chi2.ppf(shares, df) / df))

"""What a number of seeds can show under the decision rule of decide.py: power, smallest detectable effect, seeds needed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ablate.stats.contrasts import CONFIDENCE, Claim, variant_agreement
from ablate.stats.dunnett import complete, critical_value, equivalence_value
from ablate.stats.linear_model import VARIANT_ALARM, baseline_alarm

CHANCE = 0.8
MOST_SEEDS = 1000


def residual_sd(run_sd: float, rho: float) -> float:
    """Residual sd of the seed-blocked model from the sd of single runs and their correlation over seeds."""
    return float(run_sd * np.sqrt(max(0.0, 1 - rho)))


def detection_chance(seeds: int, variants: int, effect: float, sd: float, confidence: float = CONFIDENCE) -> float:
    """Chance of `helps` or `hurts` for one variant with a true `effect`; sd: residual, in the effect's unit. level: of the
    intervals; a look of a sequential study has its own.

    The verdict needs the pooled and the variant's own analysis, which mostly agree: the smaller of the two chances, at
    most some hundredths too high. Where the guard alarms for nothing, the variant is judged alone. 0 below two seeds.
    """
    if seeds < 2:
        return 0.0
    shift = abs(effect) / (sd * np.sqrt(2 / seeds))
    pooled, own, alone = (_beyond(limit, shift, df) for limit, df in _limits(seeds, variants, confidence, "difference"))
    return _mixed(min(pooled, own), alone, seeds, variants)


def equivalence_chance(seeds: int, variants: int, margin: float, sd: float, confidence: float = CONFIDENCE) -> float:
    """Chance of `no effect` for one variant that truly has none."""
    if seeds < 2:
        return 0.0
    room = margin / (sd * np.sqrt(2 / seeds))
    pooled, own, alone = (_inside(limit, room, df) for limit, df in _limits(seeds, variants, confidence, "equivalence"))
    return _mixed(min(pooled, own), alone, seeds, variants)


def detectable_effect(
    seeds: int, variants: int, sd: float, chance: float = CHANCE, confidence: float = CONFIDENCE
) -> float:
    """The smallest true effect that is found with this chance, in the unit of the residual `sd`. Infinite below two seeds."""
    if seeds < 2:
        return float("inf")
    most = 1.0

    def missing(effect: float) -> float:
        return detection_chance(seeds, variants, effect, 1.0, confidence) - chance

    if missing(0.0) >= 0:  # so little is asked that chance alone gives it
        return 0.0
    while missing(most) < 0:
        most *= 2
    return float(optimize.brentq(missing, 0.0, most, xtol=1e-6)) * sd


@lru_cache(maxsize=4096)  # variants that are judged together ask alike
def seeds_to_decide(
    sd: float, margin: float, variants: int, chance: float = CHANCE, confidence: float = CONFIDENCE
) -> int | None:
    """The fewest seeds with this chance of both: finding an effect of `margin`, and saying `no effect` where there is none.

    It plans for the effect that matters, not for the one measured, which would only repeat the p-value. None above 1,000.
    """

    def enough(seeds: int) -> bool:
        detects = detection_chance(seeds, variants, margin, sd, confidence) >= chance
        return detects and equivalence_chance(seeds, variants, margin, sd, confidence) >= chance

    low, high = 2, 4
    while not enough(high):
        if high == MOST_SEEDS:
            return None
        low, high = high + 1, min(2 * high, MOST_SEEDS)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


@lru_cache(maxsize=4096)
def _limits(seeds: int, variants: int, confidence: float, claim: Claim) -> tuple[tuple[float, int], ...]:
    """Critical value and degrees of freedom of the pooled analysis, of the own one that must agree, and of the own alone."""
    sides = 2 if claim == "difference" else 1
    df, own_df = variants * (seeds - 1), seeds - 1
    value = critical_value if claim == "difference" else equivalence_value
    agrees = float(variant_agreement(np.asarray(seeds), claim)) / sides
    return (
        (value(confidence, df, complete(variants)), df),
        (float(stats.t.isf(agrees, own_df)), own_df),
        (float(stats.t.isf((1 - confidence) / sides / variants, own_df)), own_df),
    )


def _mixed(together: float, alone: float, seeds: int, variants: int) -> float:
    alarm = baseline_alarm(seeds) + VARIANT_ALARM if variants > 1 and seeds > 2 else 0.0
    return (1 - alarm) * together + alarm * alone


def _beyond(limit: float, shift: float, df: int) -> float:
    bar = limit * _seen_sd(df)
    return float(np.mean(special.ndtr(shift - bar) + special.ndtr(-bar - shift)))


def _inside(limit: float, room: float, df: int) -> float:
    left = np.maximum(room - limit * _seen_sd(df), 0.0)
    return float(np.mean(2 * special.ndtr(left) - 1))


@lru_cache(maxsize=512)
def _seen_sd(df: int) -> NDArray[np.float64]:
    """The residual sd over the true one, at 2,000 equal shares of its distribution: powers are means over them."""
    shares = (np.arange(2000) + 0.5) / 2000
    return np.asarray(np.sqrt(stats.chi2.ppf(shares, df) / df))

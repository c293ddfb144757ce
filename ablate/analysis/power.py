"""How many seeds would decide an undecided contrast, and how small an effect so many seeds can find."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special  # and not stats, whose import takes half as long as planning a study

MOST_SEEDS = 1000
CHANCE = 0.8


def detection_power(n: int, effect: float, sd: float) -> float:
    """Chance that a two-sided paired t test at 5 % over `n` pairs finds a true `effect`; sd of the differences."""
    limit = special.stdtrit(n - 1, 0.975) * _seen_sd(n)
    shift = effect / sd * np.sqrt(n)
    return float(np.mean(special.ndtr(shift - limit) + special.ndtr(-limit - shift)))


def equivalence_power(n: int, margin: float, sd: float) -> float:
    """Chance that two one-sided tests at 5 % over `n` pairs say `no effect` when there is truly none."""
    room = margin / sd * np.sqrt(n) - special.stdtrit(n - 1, 0.95) * _seen_sd(n)
    return float(np.mean(2 * special.ndtr(np.maximum(room, 0.0)) - 1))


def _seen_sd(n: int) -> NDArray[np.float64]:
    """The sample's sd over the true one, at 2,000 equal shares of its chi distribution: powers are means over them.

    scipy's noncentral t loses its way at large noncentrality; this does not.
    """
    shares = (np.arange(2000) + 0.5) / 2000
    return np.asarray(np.sqrt(2 * special.gammaincinv((n - 1) / 2, shares) / (n - 1)))


def smallest_detectable(n: int, sd: float = 1.0) -> float:
    """The effect that a two-sided paired t test at 5 % over `n` pairs finds with a chance of 80 %.

    sd: of the paired differences; the result is in its unit. 80 % is the convention of Cohen 1988, Statistical Power Analysis
    for the Behavioral Sciences.
    """
    if n < 2:
        return np.inf
    low, high = 0.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if detection_power(n, middle, 1.0) >= CHANCE else (middle, high)
    return high * sd


def seeds_needed(sd: float, smallest_effect: float) -> int | None:
    """Seeds with which a study of this spread would most likely be decided, one way or the other.

    That is the smallest n with an 80 % chance of both: finding an effect as large as the smallest one that matters, and
    saying `no effect` when there is none. It plans for the effect that matters, not for the one measured, which would
    only repeat the p-value. Between the two it may stay undecided. None above 1,000.
    """

    def enough(n: int) -> bool:
        detects = detection_power(n, smallest_effect, sd) >= CHANCE
        return detects and equivalence_power(n, smallest_effect, sd) >= CHANCE

    if not enough(MOST_SEEDS):
        return None
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low

"""Sequential studies: alpha spending over interim analyses that are declared beforehand.

Testing at five seeds and again at eight, ten and fifteen, each time at 5%, gives a false positive in 13% of studies without
an effect. Here the interim analyses share the 5%: each has its own, higher confidence, and all of them together err in about
5% of studies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Values = NDArray[np.float64]
Spending = Literal["obrien_fleming", "pocock", "anytime"]
"""How interim analyses share the error rate; `anytime` is valid at any number of them."""

ANYTIME_BAR, FEWEST_ANYTIME = 20, 5
"""The e-value that decides (Ville 1939: it is ever reached in at most 1 of 20 studies without an effect); and the fewest seeds
with which it can be."""

ALPHA = 0.045
"""What the interim analyses share. The boundaries are those of normal statistics; used with t at 5 to 20 seeds they err in up
to 5.5% of studies when they share .05 (5.8% with an analysis at three), and in 4.5% to 5.2% when they share .045."""


def spent(fraction: float, spending: Spending, alpha: float = ALPHA) -> float:
    """Return how much of `alpha` may be spent when this fraction of the maximum seeds has been run (Lan and DeMets 1983).

    obrien_fleming: next to nothing early and nearly all at the end, so that the last analysis is almost the fixed test.
    pocock: about evenly, for studies in which an early stop is worth a weaker end.
    """
    if spending == "pocock":
        return float(alpha * np.log1p((np.e - 1) * fraction))
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(fraction)))


def interim_confidences(
    interim_seeds: Sequence[int], spending: Spending = "obrien_fleming", alpha: float = ALPHA
) -> tuple[float, ...]:
    """Return the confidence of each interim analysis, at these numbers of seeds; the last is the maximum that will be run.

    Each is 1 - the nominal two-sided p of a normal boundary, from recursive integration (Armitage, McPherson and Rowe 1969),
    and is used for the t and Dunnett intervals of that analysis. Raises ValueError for numbers that are not ascending whole
    numbers of at least two seeds.
    """
    seeds = tuple(int(number) for number in interim_seeds)
    fewest = FEWEST_ANYTIME if spending == "anytime" else 2
    if not seeds or seeds[0] < fewest or any(a >= b for a, b in pairwise(seeds)) or not 0 < alpha < 1:
        raise ValueError(
            f"interim seeds {list(interim_seeds)}, alpha {alpha:g}: expected ascending numbers of seeds from {fewest} on, and "
            "alpha between 0 and 1"
        )
    if spending == "anytime":
        return tuple(map(anytime_confidence, seeds))
    return _confidences(seeds, spending, alpha)


def anytime_confidence(seeds: int) -> float:
    """Return the confidence at which a t interval of `seeds` pairs excludes 0 exactly where the e-value reaches `ANYTIME_BAR`.

    The e-value of a t statistic t is its mean likelihood ratio over effects from a normal distribution whose sd is one sd of a
    difference (Lai 1976; Perez-Ortiz et al. 2024): (1 + n)^(-1/2) ((1 + x) / (1 + x / (1 + n)))^(n / 2), x = t^2 / (n - 1).
    """
    wide = 1 + seeds
    ratio = (ANYTIME_BAR * wide**0.5) ** (2 / seeds)
    statistic = ((seeds - 1) * (ratio - 1) / (1 - ratio / wide)) ** 0.5
    return 1 - 2 * float(stats.t.sf(statistic, seeds - 1))


@lru_cache(maxsize=64)
def _confidences(seeds: tuple[int, ...], spending: Spending, alpha: float) -> tuple[float, ...]:
    times = np.asarray(seeds) / seeds[-1]
    nodes, weights = np.polynomial.legendre.leggauss(200)
    confidences: list[float] = []
    before, position, density = 0.0, np.zeros(1), np.ones(1)
    for number, time in enumerate(times):
        step = float(np.sqrt(time - (times[number - 1] if number else 0.0)))
        budget = spent(float(time), spending, alpha) - before
        before += budget

        def leaves(bound: float, position: Values = position, mass: Values = density, step: float = step) -> float:
            return float(mass @ (special.ndtr((position - bound) / step) + special.ndtr((-position - bound) / step)))

        bound = optimize.brentq(lambda b: leaves(b) - budget, 0.0, 40.0 * float(np.sqrt(time)), xtol=1e-12)  # noqa: B023
        confidences.append(1 - 2 * float(stats.norm.sf(bound / np.sqrt(time))))
        reached = bound * nodes
        steps = np.exp(-0.5 * ((reached[:, None] - position[None, :]) / step) ** 2) / (step * np.sqrt(2 * np.pi))
        density = bound * weights * (steps @ density)
        position = reached
    return tuple(confidences)

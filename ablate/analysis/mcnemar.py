"""The paired view of two arms on the same examples: only those that one arm gets right and the other wrong count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of examples by which arm is right; p_value exact, mid_p less cautious and nearer its level, both two-sided."""

    both: int
    only_baseline: int
    only_variant: int
    neither: int

    @property
    def p_value(self) -> float:
        return mcnemar_p(self.only_baseline, self.only_variant)

    @property
    def mid_p(self) -> float:
        return mcnemar_mid_p(self.only_baseline, self.only_variant)


def agreement(baseline_right: NDArray[np.bool_], variant_right: NDArray[np.bool_]) -> Agreement:
    """Count one pair of runs, shapes [examples], the same examples in the same order.

    It speaks about these two runs, not about the recipe: examples do not know how another seed would have come out. For
    several seeds see `crossed`. Raises ValueError when the shapes differ.
    """
    if baseline_right.shape != variant_right.shape or baseline_right.ndim != 1:
        raise ValueError(
            f"shapes {baseline_right.shape} and {variant_right.shape}: the same examples are needed in both arms"
        )
    left, right = baseline_right.astype(bool), variant_right.astype(bool)
    both, only_left, only_right = int(np.sum(left & right)), int(np.sum(left & ~right)), int(np.sum(~left & right))
    return Agreement(both, only_left, only_right, len(left) - both - only_left - only_right)


def mcnemar_p(only_baseline: int, only_variant: int) -> float:
    """Exact two-sided McNemar test: a fair coin for every example on which the arms disagree (McNemar 1947)."""
    disagree = only_baseline + only_variant
    return min(1.0, 2 * float(stats.binom.cdf(min(only_baseline, only_variant), disagree, 0.5))) if disagree else 1.0


def mcnemar_mid_p(only_baseline: int, only_variant: int) -> float:
    """The exact p less the chance of the counts themselves: near its level where the exact test is too cautious.

    Source: Fagerland, Lydersen and Laake 2013.
    """
    disagree, fewer = only_baseline + only_variant, min(only_baseline, only_variant)
    if not disagree or only_baseline == only_variant:
        return 1.0 if not disagree else 1.0 - float(stats.binom.pmf(fewer, disagree, 0.5))
    return min(1.0, 2 * float(stats.binom.cdf(fewer, disagree, 0.5)) - float(stats.binom.pmf(fewer, disagree, 0.5)))

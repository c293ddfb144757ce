"""Runs that diverged stay in the denominator: how often does each arm diverge, and is it more often than the baseline?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.mcnemar import mcnemar_p
from ablate.analysis.multiplicity import holm


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """A variant's rate beside the baseline's. runs: seeds that both arms ended, one way or the other.

    low, high: 95 % Clopper-Pearson interval of the variant's rate. p_value: Fisher's exact test, two-sided; adjusted_p:
    Holm over the variants. paired_p: exact McNemar on the same seeds, for the record.
    """

    baseline_count: int
    variant_count: int
    runs: int
    rate: float
    low: float
    high: float
    p_value: float
    adjusted_p: float
    paired_p: float


def divergence(diverged: NDArray[np.bool_], ended: NDArray[np.bool_] | None = None) -> tuple[Divergence, ...]:
    """Compare every variant's divergence with the baseline's; shapes [arms, seeds], the baseline first.

    ended: False where a run is missing or gave no answer; such a seed is left out of that pair. Default: all ended.

    The test is the unpaired one although the seeds are shared. McNemar counts only seeds of which one run diverged and
    needs six of them for p < .05: at five seeds it could not even tell 5 of 5 from 0 of 5, where Fisher gives .008.
    Ignoring the pairing is safe: runs of one seed diverge together if anything, which makes the two rates more alike than
    Fisher reckons with, and the test more cautious.
    """
    ended = np.ones_like(diverged, dtype=bool) if ended is None else ended
    rows = []
    for variant, variant_ended in zip(diverged[1:], ended[1:], strict=True):
        both = variant_ended & ended[0]
        left, right = diverged[0, both], variant[both]
        rows.append((int(np.sum(left)), int(np.sum(right)), int(np.sum(both)), left, right))
    p_values = np.asarray([_fisher(left, right, runs) for left, right, runs, *_ in rows], dtype=np.float64)
    adjusted = holm(p_values)
    found = []
    for number, (count, variant_count, runs, left, right) in enumerate(rows):
        low, high = rate_interval(variant_count, runs)
        found.append(
            Divergence(
                baseline_count=count,
                variant_count=variant_count,
                runs=runs,
                rate=variant_count / runs if runs else float("nan"),
                low=low,
                high=high,
                p_value=float(p_values[number]),
                adjusted_p=float(adjusted[number]),
                paired_p=mcnemar_p(int(np.sum(left & ~right)), int(np.sum(right & ~left))),
            )
        )
    return tuple(found)


def rate_interval(count: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a rate (Clopper and Pearson 1934). 0 of 5 is 0 to .52: five good runs promise little."""
    if not runs:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, count, runs - count + 1)) if count else 0.0
    high = float(stats.beta.isf(tail, count + 1, runs - count)) if count < runs else 1.0
    return low, high


def _fisher(baseline: int, variant: int, runs: int) -> float:
    table = [[baseline, runs - baseline], [variant, runs - variant]]
    return float(stats.fisher_exact(table).pvalue) if runs else float("nan")

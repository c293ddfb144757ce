"""Counts: how often arms diverge, and which examples only one of two arms gets right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from ablate.stats.contrasts import holm

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """Divergence rate of a variant and of the baseline, over the seeds in which both runs finished or diverged.

    low, high: 95% Clopper-Pearson interval of the variant's rate.
    p_value: Fisher's exact test, two-sided. adjusted_p: Holm over the variants.
    """

    baseline_count: int
    variant_count: int
    runs: int
    rate: float
    low: float
    high: float
    p_value: float
    adjusted_p: float


def divergence(diverged: NDArray[np.bool_], ended: NDArray[np.bool_] | None = None) -> tuple[Divergence, ...]:
    """Compare the divergence of every variant with the baseline's; shapes [arms, seeds], the baseline first.

    ended: False where a run is missing or failed for another reason; such a seed is left out of that pair. Default: all True.

    The test is unpaired although the seeds are shared. McNemar's counts only seeds of which one run diverged and needs six of
    them for p < .05: at five seeds it could not separate 5 of 5 from 0 of 5, where Fisher gives .008. Ignoring the pairing is
    safe: runs of one seed diverge together if anything, which makes the two rates more alike than Fisher's test assumes, and
    the test more cautious.
    """
    ended = np.ones_like(diverged, dtype=bool) if ended is None else ended
    both = ended[1:] & ended[0]
    runs = np.sum(both, axis=1).tolist()
    baseline, variants = (np.sum(arm & both, axis=1).tolist() for arm in (diverged[0], diverged[1:]))
    p_values = np.asarray([_fisher(*counts) for counts in zip(baseline, variants, runs, strict=True)], dtype=np.float64)
    adjusted = holm(p_values)
    found = []
    for number, (left, right, total) in enumerate(zip(baseline, variants, runs, strict=True)):
        low, high = rate_interval(right, total)
        found.append(
            Divergence(
                baseline_count=left,
                variant_count=right,
                runs=total,
                rate=right / total if total else float("nan"),
                low=low,
                high=high,
                p_value=float(p_values[number]),
                adjusted_p=float(adjusted[number]),
            )
        )
    return tuple(found)


def rate_interval(count: int, runs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate (Clopper and Pearson 1934): 0 to .52 for 0 of 5."""
    if not runs:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, count, runs - count + 1)) if count else 0.0
    high = float(stats.beta.isf(tail, count + 1, runs - count)) if count < runs else 1.0
    return low, high


COLLAPSE = 6.0
"""Robust standard deviations from the median of its arm, on the worse side, from which on a run counts as collapsed."""


def collapsed(values: Values, lower_is_better: bool | None, margin: float | None = None) -> NDArray[np.bool_]:
    """Return the runs of `values` [arms, seeds] that are far worse than the others of their arm; missing ones are none.

    margin: the smallest effect of interest; a run that is worse by less has not collapsed.

    The standard deviation is 1.48 times the median of the absolute deviations from the arms' medians, over all arms and
    without those that are 0. Without a better side, and below five runs an arm, no run counts as collapsed.
    """
    found = np.zeros(values.shape, dtype=bool)
    known = np.isfinite(values)
    if lower_is_better is None or np.max(np.sum(known, axis=1), initial=0) < 5:
        return found
    rows = np.any(known, axis=1)
    worse = np.full(values.shape, np.nan)
    medians = np.asarray([np.median(row[np.isfinite(row)]) for row in values[rows]])
    worse[rows] = (values[rows] - medians[:, None]) * (1 if lower_is_better else -1)
    sizes = np.abs(worse[known])
    if np.any(sizes > 0):  # a run that is its arm's median has no deviation
        found[known] = worse[known] > max(COLLAPSE * 1.4826 * float(np.median(sizes[sizes > 0])), margin or 0.0)
    return found


def highest_rate(count: int, runs: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper bound of a rate (Clopper and Pearson 1934): .26 for 0 of 10."""
    return float(stats.beta.isf(1 - confidence, count + 1, runs - count)) if count < runs else 1.0


def _fisher(baseline: int, variant: int, runs: int) -> float:
    table = [[baseline, runs - baseline], [variant, runs - variant]]
    return float(stats.fisher_exact(table).pvalue) if runs else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedExamples:
    """Which of two arms gets an example right, on the same examples and seeds.

    only_baseline, only_arm: number of examples that only one of them gets right, the mean over seeds.
    always_baseline, always_arm: number of examples for which it is so in every seed.
    p_value: exact, two-sided, of how much more often the arm is right: the sign of each example's score over all seeds is
        flipped. It is about these runs; the interval is about new seeds too.
    """

    examples: int
    only_baseline: float
    only_arm: float
    always_baseline: int
    always_arm: int
    p_value: float


def paired_examples(baseline: Values, arm: Values, groups: NDArray[np.int64]) -> PairedExamples:
    """Compare two arms example by example.

    baseline, arm: 1 where an example is right and 0 where not, [seeds, examples], paired in both.
    groups: [examples], number of each example's group; examples of a group change sides together.

    With one seed and groups of one the p is McNemar's exact one. With several seeds, counting every pair of runs by itself
    would take an example that is evaluated ten times for ten examples.
    """
    score = np.sum(arm - baseline, axis=0)
    only_baseline, only_arm = (baseline > arm), (arm > baseline)
    by_group = np.bincount(groups, weights=score)
    return PairedExamples(
        examples=baseline.shape[1],
        only_baseline=float(np.mean(np.sum(only_baseline, axis=1))),
        only_arm=float(np.mean(np.sum(only_arm, axis=1))),
        always_baseline=int(np.sum(np.all(only_baseline, axis=0))),
        always_arm=int(np.sum(np.all(only_arm, axis=0))),
        p_value=sign_flips(np.rint(by_group).astype(np.int64)),
    )


def sign_flips(scores: NDArray[np.int64]) -> float:
    """Return the exact two-sided p of a sum of whole numbers, each of which might as well have had the other sign.

    Every sum is counted; the rounding is that of a product of polynomials, about 1e-12.
    """
    total = abs(int(np.sum(scores)))
    sizes, counts = np.unique(np.abs(scores[scores != 0]), return_counts=True)
    probabilities, lowest = np.ones(1), 0  # of the sums lowest, lowest + 1, ...
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        ups = np.arange(count + 1)
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = stats.binom.pmf(ups, count, 0.5)
        lowest -= size * count
        probabilities = signal.fftconvolve(probabilities, own) if len(probabilities) > 1 else own
    sums = lowest + np.arange(len(probabilities))
    return float(np.clip(np.sum(probabilities[np.abs(sums) >= total]), 0.0, 1.0))

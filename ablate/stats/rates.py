"""Runs that diverged stay in the denominator: how often does each arm diverge, and is it more often than the baseline?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

pass

from ablate.controls.control import Control as Control
from ablate.stats.contrasts import holm

# The paired view of two arms on the same examples: only those that one arm gets right and the other wrong
# count.


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


# McNemar's view of two arms at several seeds: which examples does only one of them get right?

Values = NDArray[np.float64]


def paired_examples(baseline: Values, arm: Values, place: NDArray[np.int64]) -> PairedExamples:
    """baseline, arm: 1 where an example is right and 0 where not, [seeds, examples], paired in both. place: [examples], of each
    example's group; examples of a group change sides together.

    With one seed and groups of one the p is McNemar's exact one. With several seeds, to count every pair of runs by itself
    would take an example that is judged ten times for ten examples.
    """
    score = np.sum(arm - baseline, axis=0)
    only_baseline, only_arm = (baseline > arm), (arm > baseline)
    by_group = np.bincount(place, weights=score)
    return PairedExamples(
        examples=baseline.shape[1],
        only_baseline=float(np.mean(np.sum(only_baseline, axis=1))),
        only_arm=float(np.mean(np.sum(only_arm, axis=1))),
        always_baseline=int(np.sum(np.all(only_baseline, axis=0))),
        always_arm=int(np.sum(np.all(only_arm, axis=0))),
        p_value=sign_flips(np.rint(by_group).astype(np.int64)),
    )


def sign_flips(scores: NDArray[np.int64]) -> float:
    """Chance that the sum of whole numbers is as far from 0 as it is, if each might as well have had the other sign.

    Every sum is counted; what is rounded is a product of polynomials, to about 1e-12.
    """
    total = abs(int(np.sum(scores)))
    sizes, counts = np.unique(np.abs(scores[scores != 0]), return_counts=True)
    chances, lowest = np.ones(1), 0  # of the sums lowest, lowest + 1, ...
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        ups = np.arange(count + 1)
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = stats.binom.pmf(ups, count, 0.5)
        lowest -= size * count
        chances = signal.fftconvolve(chances, own) if len(chances) > 1 else own
    sums = lowest + np.arange(len(chances))
    return float(np.clip(np.sum(chances[np.abs(sums) >= total]), 0.0, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedExamples:
    """Which of two arms gets an example right, on the same examples and seeds.

    only_baseline, only_arm: examples that only one of them gets right, the mean over seeds. always_baseline, always_arm: those
    for which it is so in every seed. p_value: exact, two-sided: each example's score over all seeds, how much more often the
    arm is right, might as well have had the other sign. It is about these runs; the interval is about new seeds too.
    """

    examples: int
    only_baseline: float
    only_arm: float
    always_baseline: int
    always_arm: int
    p_value: float

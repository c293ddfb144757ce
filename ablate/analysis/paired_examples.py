"""McNemar's view of two arms at several seeds: which examples does only one of them get right?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal, stats

from ablate.analysis.example_values import PairedExamples

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

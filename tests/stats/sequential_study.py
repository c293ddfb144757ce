"""The stopping rule of sequential studies over arrays, so that thousands of studies can be simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.stats.contrasts import decide
from ablate.stats.dunnett import complete

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """How a sequential study ended, every array [..., variants].

    differs, within: decided at the analysis at which the variant stopped. effects, low, high: at that analysis, low and high
    at its confidence. seeds: number that the variant used. Effects of variants that stopped early are overstated on average.
    """

    differs: NDArray[np.bool_]
    within: NDArray[np.bool_]
    effects: Values
    low: Values
    high: Values
    seeds: NDArray[np.int64]


def stop_early(
    values: Values, interim_seeds: Sequence[int], confidences: Sequence[float], margin: float | None = None
) -> Stopped:
    """Analyse `values` [..., arms, seeds] at every interim analysis; a decided variant stops, and its later seeds are not read.

    interim_seeds: number of seeds of the analyses made so far, the first of the declared ones. confidences: as
    `interim_confidences` gives them. The baseline runs as long as any variant does, and what stopped variants left behind
    still serves the pooled residual.
    """
    lead, variants = values.shape[:-2], values.shape[-2] - 1
    open_ = np.ones((*lead, variants), dtype=bool)
    differs, within = np.zeros_like(open_), np.zeros_like(open_)
    effects, low, high = (np.full(open_.shape, np.nan) for _ in range(3))
    used = np.zeros(open_.shape, dtype=np.int64)
    left = np.array(values, dtype=np.float64)
    for num_seeds, confidence in zip(interim_seeds, confidences, strict=False):
        found = decide(left[..., :num_seeds], margin, confidence, complete(variants))
        for target, source in ((effects, found.effects), (low, found.low), (high, found.high)):
            target[open_] = source[open_]
        used[open_] = num_seeds
        differs |= open_ & found.differs & ~found.within
        within |= open_ & found.within
        open_ &= ~(found.differs | found.within)
        left[..., 1:, num_seeds:] = np.where(open_[..., None], left[..., 1:, num_seeds:], np.nan)
        if not np.any(open_):
            break
    return Stopped(differs=differs, within=within, effects=effects, low=low, high=high, seeds=used)

"""The gradient noise scale: how large a batch must be before its gradient says more than its noise does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]


def noise_scale(small_norm: Numbers, big_norm: Numbers, *, small: Numbers, big: Numbers) -> float | None:
    """In samples; None where the estimate of the true gradient's square is not above zero, or there is no step.

    small_norm, big_norm: norms of the gradients of two batches within one step, [steps]; small, big: their samples, [steps].
    For each step |G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b) and S = (|G_b|^2 - |G_B|^2) / (1/b - 1/B) are unbiased; their means
    are divided, not their ratios averaged (McCandlish et al. 2018, 1812.06162, appendix A.1). The small batch is part of the
    big one, which biases nothing in the means.
    """
    small, big = np.asarray(small, dtype=np.float64), np.asarray(big, dtype=np.float64)
    of_small, of_big = np.asarray(small_norm, dtype=np.float64) ** 2, np.asarray(big_norm, dtype=np.float64) ** 2
    if not len(of_small):
        return None
    signal = float(np.mean((big * of_big - small * of_small) / (big - small)))
    noise = float(np.mean((of_small - of_big) / (1 / small - 1 / big)))
    return noise / signal if signal > 0 else None

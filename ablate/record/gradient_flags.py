"""Signs of trouble in a run's gradient norms: spikes, vanishing, exploding. Arrays in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 50
"""Steps that a step is compared with."""
SPIKE = 5.0
"""A spike is a norm above this many times the median of the `WINDOW` applied steps before it."""
VANISHED, EXPLODED = 1e-4, 1e3
"""A norm has vanished, or exploded, at this share of its own median over the first `WINDOW` applied steps."""

_FEWEST = 10
_CHUNK = 8192


def spikes(norms: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which steps are spikes, [steps]. norms: of the applied steps, in order. The first ten have too little to compare with."""
    found = np.zeros(len(norms), dtype=bool)
    if len(norms) <= _FEWEST:
        return found
    for start in range(_FEWEST, min(WINDOW, len(norms))):
        found[start] = norms[start] > SPIKE * np.median(norms[:start])
    windows = np.lib.stride_tricks.sliding_window_view(norms, min(WINDOW, len(norms)))[:-1]
    # In pieces: the medians of a million windows at once would need a copy of all of them.
    for start in range(0, len(windows), _CHUNK):
        chunk = windows[start : start + _CHUNK]
        steps = slice(start + WINDOW, start + WINDOW + len(chunk))
        found[steps] = norms[steps] > SPIKE * np.median(chunk, axis=1)
    return found


def _at_the_end(norms: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Median over the last steps as a share of the median over the first ones, [...]; 1 for a run too short to tell."""
    if len(norms) < 2 * _FEWEST:
        return np.ones(norms.shape[1:])
    size = min(WINDOW, len(norms) // 2)
    first, last = np.median(norms[:size], axis=0), np.median(norms[-size:], axis=0)
    return np.asarray(np.where(first > 0, last / np.where(first > 0, first, 1), 1.0))


def gradient_flags(
    norms: NDArray[np.floating[Any]], group_norms: NDArray[np.floating[Any]], groups: Sequence[str]
) -> dict[str, Any]:
    """`spikes` (how many), `vanished` (names of groups), `exploded` (bool).

    norms: [applied steps]; group_norms: [applied steps, groups]. Failed fine-tunes of BERT are gradients that vanish early in
    all layers but the top ones (Mosbach et al. 2021, 2006.04884), so vanishing is told group by group.
    """
    share = _at_the_end(group_norms) if len(groups) else np.empty(0)
    return {
        "spikes": int(spikes(norms).sum()),
        "vanished": [name for name, one in zip(groups, share, strict=True) if one < VANISHED],
        "exploded": bool(_at_the_end(norms) > EXPLODED),
    }

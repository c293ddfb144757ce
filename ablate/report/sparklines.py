"""Pictures made of characters: a seed strip for an effect, a sparkline for a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.results import Contrast

DOT, BAR, ZERO = "•", "─", "┊"
BLOCKS = "▁▂▃▄▅▆▇█"


def scale(contrasts: Sequence[Contrast]) -> tuple[float, float]:
    """Return the common range of several contrasts, including zero."""
    marks = [0.0]
    for contrast in contrasts:
        ends = [contrast.low, contrast.high, *contrast.differences]
        marks += [end for end in ends if end is not None and math.isfinite(end)]
    low, high = min(marks), max(marks)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def strip(contrast: Contrast, low: float, high: float, width: int) -> str:
    """Return a line from the interval's low to its high end, a dot at every seed's difference, and a tick at zero."""

    def cell(value: float) -> int:
        return round((value - low) / (high - low) * (width - 1))

    cells = [" "] * width
    if contrast.low is not None and contrast.high is not None:
        for index in range(cell(contrast.low), cell(contrast.high) + 1):
            cells[index] = BAR
    cells[cell(0.0)] = ZERO
    for difference in contrast.differences:
        if math.isfinite(difference):
            cells[cell(difference)] = DOT
    return "".join(cells)


def sparkline(values: NDArray[np.float64], top: float, width: int) -> str:
    """Return the highest value of each of `width` buckets as a block between 0 and top: spikes stay visible.

    values: shape [points], not negative; a bucket without a finite value is blank. A curve of fewer points than `width`
    is stretched, so that arms of different lengths align.
    """
    edges = np.linspace(0, len(values), width + 1)
    text = ""
    for start, stop in pairwise(edges):
        bucket = values[math.floor(start) : max(math.ceil(stop), math.floor(start) + 1)]
        bucket = bucket[np.isfinite(bucket)]
        text += BLOCKS[_level(float(bucket.max()), top)] if len(bucket) else " "
    return text


def _level(value: float, top: float) -> int:
    share = value / top if top > 0 else 0.0
    return min(len(BLOCKS) - 1, max(0, int(share * len(BLOCKS))))

"""How many looks a curve needs, evenly and log-spaced, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.curves import falling
from ablate.analysis.words import counted, figure, percent
from ablate.config import ObserveConfig
from ablate.interval import Interval
from ablate.loop.schedule import looks

PIECE = 0.1
"""Largest share of a curve's fall that may lie between two looks in a row, or before the first one."""

_MOST_LOOKS = 1000

Values = NDArray[np.float64]


def fallen(values: Values) -> Values | None:
    """Share of a curve's fall that had happened by each look, from the never-rising curve nearest to it. Shape [looks].

    None where it does not fall or is not finite.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    fit = falling(values)
    fall = float(fit[0] - fit[-1])
    return np.asarray((fit[0] - fit) / fall) if fall > 0 else None


def log_advice(
    samples: Values, curves: Sequence[Values], *, samples_per_step: int, seconds_per_look: float | None
) -> str:
    """What to type for log-spaced looks, with their number and seconds beside those of even looks and of the record.

    samples: of each look, the first one 0. curves: one per seed, lower is better, shape [looks]. '' where none of them falls.
    """
    shares = [share for curve in curves if (share := fallen(curve)) is not None]
    if not shares or samples[0] > 0:
        return ""
    done = np.mean(shares, axis=0)
    recorded = len(samples) - 1
    has = f"the record has {_cost(recorded, seconds_per_look)}"
    if done[1] > PIECE:
        count = ObserveConfig().eval_looks
        return (
            f"{_typed(count)} begins at step 1: {_cost(count, seconds_per_look)} per run; {has}, and {percent(float(done[1]))} "
            "of the fall lies before its first one"
        )

    log, even = (_enough(samples, done, spacing, samples_per_step) for spacing in ("log", "even"))
    shown = f"shows the fall in pieces of at most {percent(PIECE)}"
    if log is None or (even is not None and even <= log):
        return (
            f"even looks do: {_cost(even, seconds_per_look)} per run {shown.replace('shows', 'show')}; {has}"
            if even
            else ""
        )
    instead = f"even looks would take {_cost(even, seconds_per_look)}" if even else "no even spacing does"
    return f"{_typed(log)} {shown} with {_cost(log, seconds_per_look)} per run; {instead}, {has}"


def _enough(samples: Values, done: Values, spacing: str, samples_per_step: int) -> int | None:
    """The fewest looks that show the fall in small pieces, by halving; None where as many as there are steps do not."""
    total = int(samples[-1])
    low, high = 1, min(_MOST_LOOKS, total // samples_per_step)
    found = None
    while low <= high:
        count = (low + high) // 2
        at = looks(
            every=Interval(float(-(-total // count)), "samples"),
            spacing=spacing,
            count=count,
            total_samples=total,
            samples_per_step=samples_per_step,
            samples_per_epoch=total,
        )
        if np.diff(np.interp([0, *at], samples, done)).max() <= PIECE + 1e-9:
            found, high = len(at), count - 1
        else:
            low = count + 1
    return found


def _typed(count: int) -> str:
    return f"observe.eval_spacing=log observe.eval_looks={count}"


def _cost(count: int, seconds_per_look: float | None) -> str:
    """`20 looks (30 s)`."""
    seconds = f" ({figure(count * seconds_per_look, 2)} s)" if seconds_per_look is not None else ""
    return f"{counted(count, 'look')}{seconds}"

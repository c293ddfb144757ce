"""Two configs that differ in several keys: how much of the difference each key explains. The shares add up exactly.

A corner is the set of keys that have the second config's value; corner 0 is the first config. Bit i of a corner's number says
whether key i has moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.design.corners import draw_paths as draw_paths
from ablate.design.corners import path_corners as path_corners

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of the total difference: effect in the outcome's unit with its 95 % t interval over seeds.

    share: effect over total. share_low, share_high: Fieller's 95 % interval of this ratio; None where the total is not
    itself told from 0, because then a share of it means nothing.
    sampling_error: standard error from the paths not drawn, 0 when all corners were run. df: of the t interval.
    """

    name: str
    effect: float
    low: float | None
    high: float | None
    share: float | None
    share_low: float | None
    share_high: float | None
    sampling_error: float = 0.0
    df: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shares:
    """Two ways to divide the same total, each adding up to it.

    alone: what each key does by itself from the first config, and `interaction`: what they do only together.
    shapley: the interaction divided evenly among the keys that make it (Shapley 1953): each key's mean effect over all
    orders of moving the keys. alone and interaction are empty and None when only paths were run.
    """

    total: Part
    alone: tuple[Part, ...]
    interaction: Part | None
    shapley: tuple[Part, ...]


def shares(names: Sequence[str], corners: Values) -> Shares:
    """From all corners' values [2^keys, seeds], paired by seed, all present. Raises ValueError when the shape does not fit."""
    keys = len(names)
    if keys < 1 or corners.shape[0] != 2**keys or not np.all(np.isfinite(corners)):
        raise ValueError(
            f"{corners.shape[0]} corners for {keys} keys: all {2**keys} are needed, with a value for every seed"
        )
    total = corners[-1] - corners[0]
    alone = np.stack([corners[1 << key] - corners[0] for key in range(keys)])
    shapley = np.stack([_shapley(corners, key, keys) for key in range(keys)])
    return Shares(
        total=_part("total", total, total),
        alone=tuple(_part(name, own, total) for name, own in zip(names, alone, strict=True)),
        interaction=_part("interaction", total - np.sum(alone, axis=0), total),
        shapley=tuple(_part(name, own, total) for name, own in zip(names, shapley, strict=True)),
    )


def path_shares(names: Sequence[str], values: Mapping[int, Values], paths: Sequence[Sequence[int]]) -> Shares:
    """Shapley shares from some paths only; values: {corner: [seeds]}. Every path adds up to the total, so their mean does.

    sampling_error is that of the mean over pairs of a path and its reverse; NaN with a single pair. Paths must come in such
    pairs, as `draw_paths` gives them; ValueError otherwise.
    """
    if len(paths) % 2 or any(tuple(a) != tuple(b)[::-1] for a, b in zip(paths[::2], paths[1::2], strict=True)):
        raise ValueError("paths: every path is followed by its reverse, as draw_paths() gives them")
    keys = len(names)
    moved = np.stack([_steps(values, path) for path in paths])
    pairs = (moved[::2] + moved[1::2]) / 2
    total = np.asarray(values[2**keys - 1] - values[0])
    own = np.mean(pairs, axis=0)
    error = (
        np.std(np.mean(pairs, axis=2), axis=0, ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else np.full(keys, np.nan)
    )
    shapley = tuple(_part(name, own[key], total, float(error[key])) for key, name in enumerate(names))
    return Shares(total=_part("total", total, total), alone=(), interaction=None, shapley=shapley)


def alone_and_together(names: Sequence[str], values: Mapping[int, Values]) -> tuple[tuple[Part, ...], Part]:
    """What each key does by itself, and the interaction, from the corners that have none, one or all of the keys."""
    keys = len(names)
    total = np.asarray(values[2**keys - 1] - values[0])
    alone = np.stack([values[1 << key] - values[0] for key in range(keys)])
    parts = tuple(_part(name, own, total) for name, own in zip(names, alone, strict=True))
    return parts, _part("interaction", total - np.sum(alone, axis=0), total)


def _shapley(corners: Values, key: int, keys: int) -> Values:
    share = np.zeros(corners.shape[1])
    for corner in range(2**keys):
        if not corner >> key & 1:
            before = corner.bit_count()
            weight = factorial(before) * factorial(keys - before - 1) / factorial(keys)
            share += weight * (corners[corner | 1 << key] - corners[corner])
    return share


def _steps(values: Mapping[int, Values], path: Sequence[int]) -> Values:
    """What each key moved when its turn came, [keys, seeds]."""
    moved = np.empty((len(path), len(values[0])))
    corner = 0
    for key in path:
        moved[key] = values[corner | 1 << key] - values[corner]
        corner |= 1 << key
    return moved


def _part(name: str, own: Values, total: Values, sampling_error: float = 0.0, level: float = 0.95) -> Part:
    seeds, effect, whole = len(own), float(np.mean(own)), float(np.mean(total))
    half = None
    if seeds > 1:
        half = float(stats.t.ppf(0.5 + level / 2, seeds - 1) * np.std(own, ddof=1) / seeds**0.5)
    low_high = ratio_interval(own, total, level)
    return Part(
        name=name,
        effect=effect,
        low=None if half is None else effect - half,
        high=None if half is None else effect + half,
        share=effect / whole if whole else None,
        share_low=low_high[0] if low_high else None,
        share_high=low_high[1] if low_high else None,
        sampling_error=sampling_error,
        df=seeds - 1,
    )


def ratio_interval(part: Values, whole: Values, level: float = 0.95) -> tuple[float, float] | None:
    """Fieller's interval of mean(part) / mean(whole), paired over seeds, shapes [seeds] (Fieller 1954).

    All ratios r that a t test of mean(part - r * whole) = 0 does not reject. None where this is no finite interval: the
    whole is not told from 0 at this level, or there are fewer than two seeds.
    """
    seeds = len(part)
    if seeds < 2:
        return None
    limit = float(stats.t.ppf(0.5 + level / 2, seeds - 1)) ** 2 / seeds
    covariance = np.cov(np.stack([part, whole]))
    a = float(np.mean(whole)) ** 2 - limit * float(covariance[1, 1])
    b = float(np.mean(part)) * float(np.mean(whole)) - limit * float(covariance[0, 1])
    c = float(np.mean(part)) ** 2 - limit * float(covariance[0, 0])
    if a <= 1e-12 * float(np.mean(whole)) ** 2:
        return None
    root = max(b * b - a * c, 0.0) ** 0.5
    return (b - root) / a, (b + root) / a

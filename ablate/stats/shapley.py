"""The parts of a difference between two configs, as contrasts of the corners between them, with one residual for all.

The corners are a randomised complete block whose blocks are the seeds, as the arms of a study are (see blocked.py), and a part
is a weighted sum of corner means. Pooling gives its error (corners - 1) * (seeds - 1) degrees of freedom where the seeds' own
values of the part have seeds - 1. As in decide.py, what the pool says must not be at odds with the part's own seeds:

    pooled      weights' error from the pooled residual
    own         the part's own values over seeds, at a lenient level: an interval is the wider of the two
    fallback    parts with weight on a corner that the guard sets aside: own values alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.design.attribution import draw_paths as draw_paths
from ablate.design.attribution import path_corners as path_corners
from ablate.stats.dunnett import simultaneous_p
from ablate.stats.linear_model import ENOUGH_SEEDS

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

GUARD_LEVEL = 0.05
EARLY_GUARD_LEVEL = 0.2
"""False alarms of the guard on one corner, from five seeds on and below, when all spreads are equal."""

LEVEL = 0.95


def lenient_level(seeds: int) -> float:
    """At which two-sided level a part's own seeds must agree. Below five the guard sees little, and more is asked."""
    return 0.15 if seeds >= ENOUGH_SEEDS else 0.10


@dataclass(frozen=True, slots=True)
class PartFigures:
    """All of shape [..., parts]. NaN where the corners give no figure.

    effects: in the values' unit. halves: half width of the 95 % interval, for this part alone. errors, df: of the pooled
    residual, or of the own values where `alone` says so. p_values: two-sided, for this part alone. own_p: from its own
    values. weights: [parts, corners]. sd: [...], the pooled residual; own: [..., parts, seeds], the part in each seed.
    """

    effects: Values
    halves: Values
    errors: Values
    df: NDArray[np.int64]
    p_values: Values
    own_p: Values
    alone: Flags
    weights: Values
    sd: Values
    own: Values


def part_figures(values: Values, weights: Values) -> PartFigures:
    """Of complete `values` [..., corners, seeds]; weights: [parts, corners], each summing to 0. Corner 0 is the first."""
    seeds = values.shape[-1]
    own = np.einsum("pc,...cs->...ps", weights, values)
    effects = np.mean(own, axis=-1)
    aside = set_aside(values)
    sd, df = pooled_residual(values, aside)
    alone = np.einsum("pc,...c->...p", np.abs(weights) > 1e-12, aside) > 0
    size = np.max(np.abs(own), axis=-1, initial=0.0)
    own_error = np.std(own, axis=-1, ddof=1) / seeds**0.5 if seeds > 1 else np.full(effects.shape, np.nan)
    own_error = np.where(own_error > 1e-13 * size, own_error, np.nan)
    own_df = np.full(effects.shape, max(seeds - 1, 0))
    pooled_error = sd[..., None] * np.linalg.norm(weights, axis=1) / seeds**0.5
    errors = np.where(alone, own_error, pooled_error)
    freedom = np.where(alone, own_df, df[..., None])
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = 2 * stats.t.sf(np.abs(effects) / errors, np.maximum(freedom, 1))
        own_p = 2 * stats.t.sf(np.abs(effects) / own_error, max(seeds - 1, 1))
    lenient = lenient_level(seeds)
    halves = errors * stats.t.isf((1 - LEVEL) / 2, np.maximum(freedom, 1))
    least = own_error * stats.t.isf(lenient / 2, max(seeds - 1, 1))
    return PartFigures(
        effects, np.fmax(halves, least), errors, freedom, p_values, own_p, np.asarray(alone), weights, sd, own
    )


def pooled_residual(values: Values, aside: Flags) -> tuple[Values, NDArray[np.int64]]:
    """Residual sd of corner + seed and its degrees of freedom, shapes [...], without the corners set aside."""
    seeds = values.shape[-1]
    kept = ~aside[..., None]
    corners = np.sum(~aside, axis=-1)
    in_seed = np.sum(values * kept, axis=-2, keepdims=True) / corners[..., None, None]
    centred = (values - in_seed) * kept
    residual = (centred - np.mean(centred, axis=-1, keepdims=True)) * kept
    df = np.maximum((corners - 1) * (seeds - 1), 0)
    sd = np.sqrt(np.sum(residual**2, axis=(-2, -1)) / np.maximum(df, 1))
    size = np.max(np.abs(values), axis=(-2, -1))
    return np.where((df > 0) & (sd > 1e-13 * size), sd, np.nan), df


def set_aside(values: Values) -> Flags:
    """Corners whose spread is unlike the others', [..., corners]: the F-guard of guard.py, in its complete layout.

    The noisiest that it finds is set aside and the rest looked at again; two at least stay.
    """
    corners, seeds = values.shape[-2:]
    aside = np.zeros(values.shape[:-1], dtype=bool)
    if seeds < 2:
        return aside
    level = GUARD_LEVEL if seeds >= ENOUGH_SEEDS else EARLY_GUARD_LEVEL
    for _ in range(max(0, corners - 2)):
        left = np.sum(~aside, axis=-1)
        in_seed = np.sum(np.where(aside[..., None], 0.0, values), axis=-2) / left[..., None]
        centred = np.where(aside[..., None], 0.0, values - in_seed[..., None, :])
        squares = np.sum((centred - np.mean(centred, axis=-1, keepdims=True)) ** 2, axis=-1)
        whole = np.sum(squares, axis=-1, keepdims=True)
        added = squares * (left / np.maximum(left - 1, 1))[..., None]
        lower = np.maximum((left - 2) * (seeds - 1), 1)[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = (added / (seeds - 1)) / (np.maximum(whole - added, 0.0) / lower)
        p_values = np.where(
            (left[..., None] > 2) & ~aside & np.isfinite(ratios), stats.f.sf(ratios, seeds - 1, lower), 1.0
        )
        worst = np.argmin(p_values, axis=-1)[..., None]
        found = np.take_along_axis(p_values, worst, axis=-1) < level
        if not np.any(found):
            break
        np.put_along_axis(aside, worst, found | np.take_along_axis(aside, worst, axis=-1), axis=-1)
    return aside


def told(found: PartFigures, level: float = LEVEL) -> Flags:
    """Which parts are told from 0, so that any false one appears in 5 % of studies: steps of a closed test, shape [parts].

    The last part is the total, to which the others add up: of all of them together, it cannot be that exactly one is not 0.
    So once anything is told, one fewer of the rest may be without effect (Shaffer 1986). Every part's own seeds must agree,
    and each step is the exact multivariate t of what is left, or Bonferroni's where one of them does not share the pooled
    residual.
    """
    parts = len(found.effects)
    agrees = found.alone | (found.own_p < lenient_level(found.own.shape[-1]))
    done = np.zeros(parts, dtype=bool)
    for number in np.argsort(found.p_values):
        rest = np.flatnonzero(~done & np.isfinite(found.p_values))
        families = [rest[rest != number]]
        if np.count_nonzero(done) == 1 and len(families[0]):
            families = [np.delete(families[0], place) for place in range(len(families[0]))]
        if not np.isfinite(found.p_values[number]):
            break
        if not max(_adjusted(found, int(number), others) for others in families) < 1 - level:
            break
        done[number] = agrees[number]
    return done


def _adjusted(found: PartFigures, number: int, others: NDArray[np.int64]) -> float:
    family = np.asarray([number, *others])
    if np.any(found.alone[family]):
        return float(found.p_values[number]) * len(family)
    weights = found.weights[family]
    scales = np.linalg.norm(weights, axis=1)
    statistic = abs(found.effects[number]) / found.errors[number]
    return simultaneous_p(float(statistic), int(found.df[number]), weights @ weights.T / np.outer(scales, scales))


def weights_of_keys(numbers: Sequence[int], keys: int) -> dict[str, Values]:
    """Per reading, [keys or 1, corners]: `total`, `alone` (from the first config), `undone` (from the second), `interaction`.

    numbers: of the corners, ascending; `undone` is there only where the corners that lack one key are.
    """
    place, last = {corner: row for row, corner in enumerate(numbers)}, 2**keys - 1

    def step(before: int, after: int) -> Values:
        row = np.zeros(len(numbers))
        row[place[after]] += 1
        row[place[before]] -= 1
        return row

    alone = np.stack([step(0, 1 << key) for key in range(keys)])
    total = step(0, last)[None]
    found = {"total": total, "alone": alone, "interaction": total - np.sum(alone, axis=0)}
    if all(last & ~(1 << key) in place for key in range(keys)):
        found["undone"] = np.stack([step(last & ~(1 << key), last) for key in range(keys)])
    return found


# Two configs that differ in several keys: how much of the difference each key explains. The shares add up
# exactly. A corner is the set of keys that have the second config's value; corner 0 is the first config. Bit i
# of a corner's number says whether key i has moved.


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of the total difference: effect in the outcome's unit with its 95 % interval, for this part alone.

    share: effect over total. share_low, share_high: Fieller's 95 % interval of this ratio; None where the total is not
    itself told from 0, because then a share of it means nothing.
    sampling_error: standard error from the paths not drawn, 0 when all corners were run. df: of the error, which is pooled
    over all corners unless the guard has set aside one that the part needs.
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
    undone: what each key does as the last to move, the rest being the second config's; empty where these corners were not
    run. told, told_evenly: names of the parts of either division that are told from 0, simultaneously over its parts.
    """

    total: Part
    alone: tuple[Part, ...]
    interaction: Part | None
    shapley: tuple[Part, ...]
    undone: tuple[Part, ...] = ()
    told: tuple[str, ...] = ()
    told_evenly: tuple[str, ...] = ()


def shares(names: Sequence[str], corners: Values) -> Shares:
    """From all corners' values [2^keys, seeds], paired by seed, all present. Raises ValueError when the shape does not fit."""
    keys = len(names)
    if keys < 1 or corners.shape[0] != 2**keys or not np.all(np.isfinite(corners)):
        raise ValueError(
            f"{corners.shape[0]} corners for {keys} keys: all {2**keys} are needed, with a value for every seed"
        )
    found = alone_and_together(names, dict(enumerate(corners)))
    weights = np.stack([_shapley(key, keys) for key in range(keys)])
    shapley, evenly = _evenly(names, _weights(range(2**keys), keys)["total"], weights, corners)
    return replace(found, shapley=shapley, told_evenly=evenly)


def path_shares(names: Sequence[str], values: Mapping[int, Values], paths: Sequence[Sequence[int]]) -> Shares:
    """Shapley shares from some paths only; values: {corner: [seeds]}. Every path adds up to the total, so their mean does.

    sampling_error is that of the mean over pairs of a path and its reverse; NaN with a single pair. Paths must come in such
    pairs, as `draw_paths` gives them; ValueError otherwise.
    """
    if len(paths) % 2 or any(tuple(a) != tuple(b)[::-1] for a, b in zip(paths[::2], paths[1::2], strict=True)):
        raise ValueError("paths: every path is followed by its reverse, as draw_paths() gives them")
    keys = len(names)
    numbers, corners = _stacked(values)
    steps = np.stack([_steps(numbers, path) for path in paths])
    pairs = (steps[::2] + steps[1::2]) / 2
    moved = np.mean(pairs @ corners, axis=2)
    error = np.std(moved, axis=0, ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else np.full(keys, np.nan)
    whole = _row(numbers, 0, 2**keys - 1)[None]
    shapley, evenly = _evenly(names, whole, np.mean(pairs, axis=0), corners)
    shapley = tuple(replace(part, sampling_error=float(own)) for part, own in zip(shapley, error, strict=True))
    total = _parts(["total"], part_figures(corners, whole))[0]
    return Shares(total=total, alone=(), interaction=None, shapley=shapley, told_evenly=evenly)


def alone_and_together(names: Sequence[str], values: Mapping[int, Values]) -> Shares:
    """What each key does by itself and as the last to move, and the interaction; the corners that have none, one or all of the
    keys are needed, and those with all but one for `undone`. shapley is empty."""
    keys = len(names)
    numbers, corners = _stacked(values)
    weights = _weights(numbers, keys)
    figures = part_figures(corners, np.concatenate([weights["alone"], weights["interaction"], weights["total"]]))
    *alone, interaction, total = _parts([*names, "interaction", "total"], figures)
    undone: tuple[Part, ...] = ()
    if "undone" in weights:
        figures_undone = part_figures(corners, np.concatenate([weights["undone"], weights["total"]]))
        undone = _parts([*names, "total"], figures_undone)[:-1]
    return Shares(
        total=total,
        alone=tuple(alone),
        interaction=interaction,
        shapley=(),
        undone=undone,
        told=_told([*names, "interaction", "total"], figures),
    )


def _stacked(values: Mapping[int, Values]) -> tuple[list[int], Values]:
    numbers = sorted(values)
    return numbers, np.stack([np.asarray(values[number], dtype=np.float64) for number in numbers])


def _weights(numbers: Sequence[int], keys: int) -> dict[str, Values]:
    return weights_of_keys(numbers, keys)


def _evenly(
    names: Sequence[str], whole: Values, weights: Values, corners: Values
) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    figures, called = part_figures(corners, np.concatenate([weights, whole])), [*names, "total"]
    return _parts(called, figures)[:-1], _told(called, figures)


def _told(names: Sequence[str], figures: PartFigures) -> tuple[str, ...]:
    """Of the parts; the last one is the total, which is not one of them."""
    return tuple(name for name, is_told in zip(names[:-1], told(figures)[:-1], strict=True) if is_told)


def _shapley(key: int, keys: int) -> Values:
    """Weights of the corners, [2^keys]."""
    row = np.zeros(2**keys)
    for corner in range(2**keys):
        if not corner >> key & 1:
            before = corner.bit_count()
            weight = factorial(before) * factorial(keys - before - 1) / factorial(keys)
            row[corner | 1 << key] += weight
            row[corner] -= weight
    return row


def _row(numbers: Sequence[int], before: int, after: int) -> Values:
    row = np.zeros(len(numbers))
    row[list(numbers).index(after)] += 1
    row[list(numbers).index(before)] -= 1
    return row


def _steps(numbers: Sequence[int], path: Sequence[int]) -> Values:
    """Weights of what each key moves when its turn comes, [keys, corners]."""
    rows = np.empty((len(path), len(numbers)))
    corner = 0
    for key in path:
        rows[key] = _row(numbers, corner, corner | 1 << key)
        corner |= 1 << key
    return rows


def _parts(names: Sequence[str], figures: PartFigures) -> tuple[Part, ...]:
    """The last one is the total."""
    return tuple(_part(name, figures, number) for number, name in enumerate(names))


def _part(name: str, figures: PartFigures, number: int) -> Part:
    effect, half, whole = (float(x) for x in (figures.effects[number], figures.halves[number], figures.effects[-1]))
    known = bool(np.isfinite(half))
    low_high = _share_interval(figures, number)
    return Part(
        name=name,
        effect=effect,
        low=effect - half if known else None,
        high=effect + half if known else None,
        share=effect / whole if whole else None,
        share_low=low_high[0] if low_high else None,
        share_high=low_high[1] if low_high else None,
        df=int(figures.df[number]),
    )


def _share_interval(figures: PartFigures, number: int) -> tuple[float, float] | None:
    """The wider of two as every interval is: from the pooled residual, and from the own seeds at a lenient level."""
    own, whole = figures.own[number], figures.own[-1]
    if figures.alone[number] or figures.alone[-1]:
        return ratio_interval(own, whole)
    part, total = figures.weights[number], figures.weights[-1]
    seeds = len(own)
    limit = float(stats.t.ppf(0.5 + LEVEL / 2, max(int(figures.df[number]), 1))) ** 2 * float(figures.sd) ** 2 / seeds
    variances = (float(part @ part) * limit, float(part @ total) * limit, float(total @ total) * limit)
    pooled = _fieller(float(figures.effects[number]), float(figures.effects[-1]), *variances)
    lenient = ratio_interval(own, whole, 1 - lenient_level(seeds))
    if pooled is None or lenient is None:
        return None
    return min(pooled[0], lenient[0]), max(pooled[1], lenient[1])


def ratio_interval(part: Values, whole: Values, level: float = 0.95) -> tuple[float, float] | None:
    """Fieller's interval of mean(part) / mean(whole), paired over seeds, shapes [seeds] (Fieller 1954).

    All ratios r that a t test of mean(part - r * whole) = 0 does not reject. None where this is no finite interval: the
    whole is not told from 0 at this level, or there are fewer than two seeds.
    """
    seeds = len(part)
    if seeds < 2:
        return None
    limit = float(stats.t.ppf(0.5 + level / 2, seeds - 1)) ** 2 / seeds
    covariance = np.cov(np.stack([part, whole])) * limit
    return _fieller(
        float(np.mean(part)),
        float(np.mean(whole)),
        float(covariance[0, 0]),
        float(covariance[0, 1]),
        float(covariance[1, 1]),
    )


def _fieller(part: float, whole: float, own: float, both: float, other: float) -> tuple[float, float] | None:
    """own, both, other: variances and covariance of the two estimates, times the square of the critical t."""
    a, b, c = whole**2 - other, part * whole - both, part**2 - own
    if not a > 1e-12 * whole**2:
        return None
    root = max(b * b - a * c, 0.0) ** 0.5
    return (b - root) / a, (b + root) / a

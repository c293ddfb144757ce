"""The parts of a difference between two configs, as contrasts of the corners between them, with one residual for all.

The corners are a randomised complete block whose blocks are the seeds, as the arms of a study are (see blocked.py), and a part
is a weighted sum of corner means. Pooling gives its error (corners - 1) * (seeds - 1) degrees of freedom where the seeds' own
values of the part have seeds - 1. As in decide.py, what the pool says must not be at odds with the part's own seeds:

    pooled      weights' error from the pooled residual
    own         the part's own values over seeds, at a lenient level: an interval is the wider of the two
    fallback    parts with weight on a corner that the guard sets aside: own values alone
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.dunnett import simultaneous_p
from ablate.analysis.guard import ENOUGH_SEEDS

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

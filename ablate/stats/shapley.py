"""Contributions of config keys to the difference between two configs. They add up to the difference exactly.

A combination is the set of keys that have the second config's value; bit i of its number is set when key i has moved, so
that combination 0 is the first config. Contributions are contrasts of the combinations' means (see contrasts.py): each has
an interval of its own, and `significant` tests them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.contrasts import CONFIDENCE, Contrasts, estimate, known
from ablate.stats.dunnett import simultaneous_p

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """A contribution to the total difference: effect in the metric's unit with its own 95% interval.

    share: effect over total. share_low, share_high: Fieller's 95% interval of this ratio; None where the total is not itself
        significant, because a share of it then has no meaning.
    sampling_error: standard error from the paths that were not drawn, 0 when all combinations were run.
    df: of the error.
    """

    name: str
    effect: float
    low: float | None
    high: float | None
    share: float | None
    share_low: float | None
    share_high: float | None
    sampling_error: float = 0.0
    df: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Contributions:
    """Two ways to divide the same total, each adding up to it.

    alone, interaction: the effect of each key by itself from the first config, and of the keys only together.
    shapley: the interaction divided evenly among the keys that make it (Shapley 1953): each key's mean effect over all
        orders of moving the keys. alone and interaction are empty and None when only paths were run.
    undone: the effect of each key when it moves last; empty where these combinations were not run.
    significant, shapley_significant: names of the contributions of either division that are significant, simultaneously.
    """

    total: Contribution
    alone: tuple[Contribution, ...]
    interaction: Contribution | None
    shapley: tuple[Contribution, ...]
    undone: tuple[Contribution, ...] = ()
    significant: tuple[str, ...] = ()
    shapley_significant: tuple[str, ...] = ()


def contributions(names: Sequence[str], values: Values) -> Contributions:
    """Divide the difference of complete `values` [2^keys, seeds], paired by seed.

    Raises ValueError where a combination or a value is missing.
    """
    keys = len(names)
    if keys < 1 or values.shape[0] != 2**keys or not np.all(np.isfinite(values)):
        raise ValueError(
            f"{values.shape[0]} combinations of {keys} keys: expected all {2**keys}, with a value for every seed"
        )
    numbers = range(2**keys)
    shapley, significant_ = _divide_evenly(
        names, np.stack([_shapley(key, keys) for key in range(keys)]), numbers, values
    )
    found = main_contributions(names, dict(zip(numbers, values, strict=True)))
    return replace(found, shapley=shapley, shapley_significant=significant_)


def path_contributions(
    names: Sequence[str], values: Mapping[int, Values], paths: Sequence[Sequence[int]]
) -> Contributions:
    """Estimate Shapley values from some paths only. Every path adds up to the total, so their mean does.

    values: {combination: [seeds]}. paths: orders of the keys, each followed by its reverse as `draw_paths` gives them;
    ValueError otherwise. sampling_error is that of the mean over pairs of a path and its reverse; NaN with a single pair.
    """
    if len(paths) % 2 or any(tuple(a) != tuple(b)[::-1] for a, b in zip(paths[::2], paths[1::2], strict=True)):
        raise ValueError("paths: expected every path to be followed by its reverse, as draw_paths() gives them")
    numbers, stacked = _stacked(values)
    steps = np.stack([_steps(numbers, path) for path in paths])
    pairs = (steps[::2] + steps[1::2]) / 2
    moved = np.mean(pairs @ stacked, axis=2)
    errors = np.std(moved, axis=0, ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else np.full(len(names), np.nan)
    shapley, significant_ = _divide_evenly(names, np.mean(pairs, axis=0), numbers, stacked)
    shapley = tuple(replace(one, sampling_error=float(error)) for one, error in zip(shapley, errors, strict=True))
    total = _named(["total"], _estimate(stacked, _row(numbers, 0, 2 ** len(names) - 1)[None]))[0]
    return Contributions(total=total, alone=(), interaction=None, shapley=shapley, shapley_significant=significant_)


def main_contributions(names: Sequence[str], values: Mapping[int, Values]) -> Contributions:
    """Return what each key contributes when it moves first and when it moves last, and the interaction.

    values: {combination: [seeds]}, of those with none, one or all of the keys, and with all but one for `undone`.
    """
    numbers, stacked = _stacked(values)
    weights = key_weights(numbers, len(names))
    called = [*names, "interaction", "total"]
    found = _estimate(stacked, np.concatenate([weights["alone"], weights["interaction"], weights["total"]]))
    *alone, interaction, total = _named(called, found)
    undone: tuple[Contribution, ...] = ()
    if "undone" in weights:
        last = _estimate(stacked, np.concatenate([weights["undone"], weights["total"]]))
        undone = _named([*names, "total"], last)[:-1]
    return Contributions(
        total=total,
        alone=tuple(alone),
        interaction=interaction,
        shapley=(),
        undone=undone,
        significant=_significant_names(called, found),
    )


def significant(contrasts: Contrasts) -> Flags:
    """Return the significant contributions [contributions] of one study, with any false one in 5% of studies.

    A closed test in steps. The last contribution is the total, to which the others add up: it cannot be that exactly one of
    them all is not 0, so once one is significant, one fewer of the rest may be without effect (Shaffer 1986). Each step uses
    the exact multivariate t of what is left.
    """
    statistics = np.nan_to_num(np.abs(contrasts.effects) / contrasts.errors, nan=-1.0)
    done = np.zeros(len(statistics), dtype=bool)
    for number in np.argsort(-statistics, kind="stable"):
        rest = np.flatnonzero(~done & (statistics >= 0))
        families = [rest[rest != number]]
        if np.count_nonzero(done) == 1 and len(families[0]):
            families = [np.delete(families[0], i) for i in range(len(families[0]))]
        if statistics[number] < 0 or not all(_excludes_zero(contrasts, int(number), others) for others in families):
            break
        done[number] = True
    return done


def _excludes_zero(contrasts: Contrasts, number: int, others: NDArray[np.int64]) -> bool:
    family = np.asarray([number, *others])
    statistic = float(abs(contrasts.effects[number]) / contrasts.errors[number])
    p_value = simultaneous_p(statistic, float(contrasts.df[number]), contrasts.pool.correlation[np.ix_(family, family)])
    return p_value < 1 - CONFIDENCE


def key_weights(numbers: Sequence[int], keys: int) -> dict[str, Values]:
    """Return weights [keys or 1, combinations] of `total`, `alone`, `undone` and `interaction`.

    numbers: of the combinations, ascending. `undone` is there only where the combinations that lack one key are.
    """
    last = 2**keys - 1
    alone = np.stack([_row(numbers, 0, 1 << key) for key in range(keys)])
    total = _row(numbers, 0, last)[None]
    weights = {"total": total, "alone": alone, "interaction": total - np.sum(alone, axis=0)}
    if all(last & ~(1 << key) in numbers for key in range(keys)):
        weights["undone"] = np.stack([_row(numbers, last & ~(1 << key), last) for key in range(keys)])
    return weights


def _estimate(values: Values, weights: Values) -> Contrasts:
    """Estimate contributions to complete `values`, where the effects are plain means over seeds."""
    found = estimate(values, weights)
    return replace(found, effects=found.own.effects)


def _stacked(values: Mapping[int, Values]) -> tuple[list[int], Values]:
    numbers = sorted(values)
    return numbers, np.stack([np.asarray(values[number], dtype=np.float64) for number in numbers])


def _divide_evenly(
    names: Sequence[str], weights: Values, numbers: Sequence[int], values: Values
) -> tuple[tuple[Contribution, ...], tuple[str, ...]]:
    found = _estimate(values, np.concatenate([weights, _row(numbers, 0, 2 ** len(names) - 1)[None]]))
    called = [*names, "total"]
    return _named(called, found)[:-1], _significant_names(called, found)


def _significant_names(names: Sequence[str], contrasts: Contrasts) -> tuple[str, ...]:
    """Of the contributions; the last one is the total, which is not one of them."""
    return tuple(name for name, one in zip(names[:-1], significant(contrasts)[:-1], strict=True) if one)


def _shapley(key: int, keys: int) -> Values:
    """Weights of the combinations, [2^keys]."""
    row = np.zeros(2**keys)
    for number in range(2**keys):
        if not number >> key & 1:
            before = number.bit_count()
            weight = factorial(before) * factorial(keys - before - 1) / factorial(keys)
            row[number | 1 << key] += weight
            row[number] -= weight
    return row


def _row(numbers: Sequence[int], before: int, after: int) -> Values:
    row = np.zeros(len(numbers))
    row[numbers.index(after)] += 1
    row[numbers.index(before)] -= 1
    return row


def _steps(numbers: Sequence[int], path: Sequence[int]) -> Values:
    """Weights of what each key moves when its turn comes, [keys, combinations]."""
    rows = np.empty((len(path), len(numbers)))
    number = 0
    for key in path:
        rows[key] = _row(numbers, number, number | 1 << key)
        number |= 1 << key
    return rows


def _named(names: Sequence[str], contrasts: Contrasts) -> tuple[Contribution, ...]:
    """The last one is the total."""
    halves, total = contrasts.errors * _critical_t(contrasts), float(contrasts.effects[-1])
    made = []
    for number, name in enumerate(names):
        effect, half = float(contrasts.effects[number]), known(halves[number])
        share = _share_interval(contrasts, number)
        made.append(
            Contribution(
                name=name,
                effect=effect,
                low=None if half is None else effect - half,
                high=None if half is None else effect + half,
                share=effect / total if total else None,
                share_low=share[0] if share else None,
                share_high=share[1] if share else None,
                df=float(contrasts.df[number]),
            )
        )
    return tuple(made)


def _share_interval(contrasts: Contrasts, number: int) -> tuple[float, float] | None:
    """Fieller's interval, from the same mean of pooled and own variance as the error of each contribution."""
    rows, weight = contrasts.weights[[number, -1]], float(min(contrasts.pool_weight[[number, -1]]))
    differences = contrasts.own.differences[[number, -1]]
    seeds = differences.shape[1]
    if seeds < 2:
        return None
    limit = float(_critical_t(contrasts)[number]) ** 2 / seeds
    pooled = rows @ rows.T * np.nan_to_num(float(contrasts.pool.sd)) ** 2
    (own, both), (_, other) = ((weight * pooled + (1 - weight) * np.cov(differences)) * limit).tolist()
    return _fieller(float(contrasts.effects[number]), float(contrasts.effects[-1]), own, both, other)


def _critical_t(contrasts: Contrasts) -> Values:
    return np.asarray(stats.t.ppf(0.5 + CONFIDENCE / 2, np.where(contrasts.df > 0, contrasts.df, np.nan)))


def ratio_interval(part: Values, total: Values, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return Fieller's interval of mean(part) / mean(total), paired over seeds, shapes [seeds] (Fieller 1954).

    It holds all ratios r that a t test of mean(part - r * total) = 0 does not reject. None where this is not a finite
    interval: the total is not significant at this confidence, or there are fewer than two seeds.
    """
    seeds = len(part)
    if seeds < 2:
        return None
    limit = float(stats.t.ppf(0.5 + confidence / 2, seeds - 1)) ** 2 / seeds
    (own, both), (_, other) = (np.cov(np.stack([part, total])) * limit).tolist()
    return _fieller(float(np.mean(part)), float(np.mean(total)), own, both, other)


def _fieller(part: float, total: float, own: float, both: float, other: float) -> tuple[float, float] | None:
    """own, both, other: variances and covariance of the two estimates, times the square of the critical t."""
    a, b, c = total**2 - other, part * total - both, part**2 - own
    if not a > 1e-12 * total**2:
        return None
    root = max(b * b - a * c, 0.0) ** 0.5
    return (b - root) / a, (b + root) / a

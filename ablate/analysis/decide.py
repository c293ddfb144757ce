"""The decision rule of a table of variants against one baseline, for one study or for thousands at once.

    pooled      seed-blocked model, Dunnett's simultaneous interval over all variants
    steps       from five pairs on: of the variants that are left once others are decided, with the smaller critical value of
                the fewer comparisons
    own         the variant's own paired t, which must agree at a lenient level
    fallback    variants that the variance guard sets aside: own paired t alone, Holm over the whole table

The third line is what makes pooling safe. A variant whose runs vary three times as much as the others gets 11 to 13 % false
positives from the pooled analysis; asking its own differences as well bounds them by `own_level` whatever the variances are,
and costs little power, because a difference that the pooled analysis finds is nearly always plain to the pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.blocked import Blocked, blocked
from ablate.analysis.dunnett import critical_value, equivalence_value
from ablate.analysis.guard import ENOUGH_SEEDS, fallback
from ablate.analysis.multiplicity import holm
from ablate.analysis.own_pairs import OwnPairs, own_pairs

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEVEL = 0.95
"""Of the simultaneous intervals, and of all claims of no effect together: both error rates are counted over the table."""

MANY_SEEDS = 8
"""From here on a stricter own paired analysis costs next to no power."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """All of shape [..., variants] unless said. Unit of the values.

    low, high: interval at `level`, simultaneous over the variants. inner_low, inner_high: the interval for equivalence.
    differs: the verdict's two analyses both exclude 0. within: both lie inside the margin.
    by_steps: differs, though the simultaneous interval holds 0: the variants before it were decided, and fewer are left.
    pooled_differs, pooled_within: what the pooled analysis alone would say.
    alone: the variant was set aside by the guard; its effect, error and intervals are those of its own pairs.
    own_p: of the paired t, not corrected. holm_p: of variants set aside, else NaN.
    correlation: [..., variants, variants]. df: of the error. pool: the model without the variants set aside.
    """

    effects: Values
    errors: Values
    df: NDArray[np.int64]
    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    differs: Flags
    by_steps: Flags
    within: Flags
    pooled_differs: Flags
    pooled_within: Flags
    alone: Flags
    holm_p: Values
    correlation: Values
    pool: Blocked
    own: OwnPairs


def own_level(pairs: NDArray[np.int64], claim: Literal["difference", "equivalence"] = "difference") -> Values:
    """At which two-sided level a variant's own paired t must agree, by its number of pairs.

    5 %, but 15 % at 5 to 7 pairs, where 5 % would cost an eighth of the power, and 7 % for the claim of no effect, which
    gains nothing by more. Fewer pairs are LOW POWER and no guard sees a noisy arm there; with more the stricter level costs
    little, and keeps a table with one noisy arm below 7 %.
    """
    lenient = 0.15 if claim == "difference" else 0.07
    return np.where((pairs >= ENOUGH_SEEDS) & (pairs < MANY_SEEDS), lenient, 0.05)


def decide(
    values: Values, margin: float | None = None, level: float = LEVEL, correlation: Values | None = None
) -> Decisions:
    """Decide every contrast of `values` [..., arms, seeds], the baseline first; NaN where a run has no value.

    margin: the smallest effect that matters, in the values' unit; None where no effect is not to be claimed.
    level: of the simultaneous intervals; a look of a sequential study has its own.
    correlation: [variants, variants], of the family's estimates where it is declared; default is that of the runs at hand.

    Raises ValueError for a margin that is not positive or a level outside (0, 1).
    """
    if margin is not None and not margin > 0:
        raise ValueError(f"margin {margin}: a positive number is needed, the smallest effect that matters")
    alone, own = fallback(values), own_pairs(values)
    set_aside = np.concatenate([np.zeros((*alone.shape[:-1], 1), dtype=bool), alone], axis=-1)
    pool = blocked(np.where(set_aside[..., None], np.nan, values))
    layout = pool.correlation
    if correlation is not None:
        layout = np.broadcast_to(correlation, layout.shape)
    elif np.any(alone):
        layout = blocked(np.where(np.isfinite(values), 0.0, np.nan)).correlation
    outer, inner = (_limits(value, level, pool.df, layout) for value in (critical_value, equivalence_value))
    holm_p, holm_half = _holm(own, alone, level)
    half = np.where(alone, holm_half, outer[..., None] * pool.errors)
    inner_half = np.where(alone, _bonferroni_half(own, level), inner[..., None] * pool.errors)
    effects = np.where(alone, own.effects, pool.effects)
    limit = margin if margin is not None else 0.0
    pooled_differs = np.abs(effects) > half
    pooled_within = np.abs(effects) + inner_half < limit
    agrees = alone | _own_differs(own, effects)
    may = agrees & ~alone & (own.pairs >= ENOUGH_SEEDS)
    differs = _step_down(pooled_differs & agrees, may, np.abs(effects) / pool.errors, level, pool.df, layout)
    return Decisions(
        effects=effects,
        errors=np.where(alone, own.errors, pool.errors),
        df=np.where(alone, own.df, pool.df[..., None]),
        low=effects - half,
        high=effects + half,
        inner_low=effects - inner_half,
        inner_high=effects + inner_half,
        differs=differs,
        by_steps=differs & ~pooled_differs,
        within=pooled_within & (alone | _own_within(own, limit)),
        pooled_differs=pooled_differs & ~alone,
        pooled_within=pooled_within & ~alone,
        alone=alone,
        holm_p=holm_p,
        correlation=layout,
        pool=pool,
        own=own,
    )


def _step_down(
    decided: Flags, may: Flags, statistics: Values, level: float, df: NDArray[np.int64], correlation: Values
) -> Flags:
    """Dunnett's test by steps (Dunnett and Tamhane 1991): what is decided needs no more room in the family.

    The chance of any false claim stays what it is: as long as nothing false is decided, the family still holds all variants
    without an effect. A variant leaves only with the agreement of its own pairs; those set aside never do.
    may: the variants that the steps can decide. Intervals have no steps: they are simultaneous over all variants.
    """
    variants = decided.shape[-1]
    flat, allowed = decided.reshape(-1, variants).copy(), may.reshape(-1, variants)
    t, freedom, layout = statistics.reshape(-1, variants), df.reshape(-1), correlation.reshape(-1, variants, variants)
    rows = np.flatnonzero(np.any(flat & allowed, axis=1) & np.any(allowed & ~flat, axis=1))
    while len(rows):
        gone = flat[rows] & allowed[rows]
        left = np.where(gone[:, :, None] | gone[:, None, :], np.nan, layout[rows])
        limits = _limits(critical_value, level, freedom[rows], left)
        found = allowed[rows] & ~flat[rows] & (t[rows] > limits[:, None])
        flat[rows] |= found
        rows = rows[np.any(found, axis=1)]
    return flat.reshape(decided.shape)


def _own_half(own: OwnPairs, claim: Literal["difference", "equivalence"]) -> Values:
    """Half width of the own interval that must leave 0 out, or lie inside the margin: a one-sided claim on either side."""
    level = own_level(own.pairs, claim)
    half, sides = np.full(level.shape, np.nan), 1 if claim == "difference" else 2
    for one in np.unique(level):
        half = np.where(level == one, own.half_width(1 - sides * float(one)), half)
    return half


def _own_differs(own: OwnPairs, effects: Values) -> Flags:
    return np.asarray((np.abs(own.effects) > _own_half(own, "difference")) & (own.effects * effects > 0))


def _own_within(own: OwnPairs, margin: float) -> Flags:
    return np.asarray(np.abs(own.effects) + _own_half(own, "equivalence") < margin)


def _limits(
    value: Callable[[float, float, Values], float], level: float, df: NDArray[np.int64], correlation: Values
) -> Values:
    """The critical value of every study, shape [...]; contrasts that cannot be estimated are left out of the family."""
    variants = correlation.shape[-1]
    flat = correlation.reshape(-1, variants, variants)
    kinds, which = np.unique(
        np.column_stack([df.reshape(-1), flat.reshape(len(flat), -1)]), axis=0, return_inverse=True, equal_nan=True
    )
    limits = []
    for kind in kinds:
        matrix = kind[1:].reshape(variants, variants)
        known = np.isfinite(np.diag(matrix))
        limits.append(value(level, kind[0], matrix[np.ix_(known, known)]))
    return np.asarray(limits)[which.reshape(-1)].reshape(df.shape)


def _holm(own: OwnPairs, alone: Flags, level: float) -> tuple[Values, Values]:
    """Adjusted p of the variants set aside, and the half width that says the same: 0 is outside exactly when p < 1 - level."""
    variants = alone.shape[-1]
    adjusted, half = np.full(alone.shape, np.nan), np.full(alone.shape, np.nan)
    if not np.any(alone):
        return adjusted, half
    p_values = np.where(alone, own.p_values, np.nan)
    for index in np.ndindex(alone.shape[:-1]):
        if not np.any(alone[index]):
            continue
        adjusted[index] = holm(p_values[index], variants)
        steps = np.clip(adjusted[index] / np.maximum(p_values[index], 1e-300), 1.0, variants)
        limit = stats.t.isf((1 - level) / (2 * steps), np.maximum(own.df[index], 1))
        half[index] = limit * own.errors[index]
    return adjusted, half


def _bonferroni_half(own: OwnPairs, level: float) -> Values:
    return own.half_width(1 - 2 * (1 - level) / own.pairs.shape[-1])

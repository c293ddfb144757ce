"""Several claims about the cells of one study, judged together: each a weighted sum of the cells' means.

    pooled   the seed-blocked model of all cells, intervals simultaneous over the claims
    own      the same weighted sum seed by seed, a t of its own, which must agree (see decide.py)

The own analysis needs no equal variances: a cell whose runs vary more than the others' widens every sum that it is part of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.blocked import blocked
from ablate.analysis.decide import LEVEL, own_level
from ablate.analysis.dunnett import critical_value, simultaneous_p
from ablate.analysis.own_pairs import OwnPairs, own_pairs

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Claims:
    """All of shape [claims] unless said; NaN where the runs do not give it. Unit of the values.

    low, high: at 95 %, simultaneous over the claims. inner_low, inner_high: what has to lie inside the margin.
    seeds: with a value in every cell that the claim needs. differs: the pooled and the own analysis both leave 0 out.
    within: both lie inside the margin. only_pooled: the pooled analysis says either, and the own one does not bear it out.
    means: [cells], of each cell over the first one. sd, df: of the seed-blocked residual.
    """

    effects: Values
    errors: Values
    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    p_values: Values
    own_p_values: Values
    seeds: NDArray[np.int64]
    differs: Flags
    within: Flags
    only_pooled: Flags
    means: Values
    sd: float
    df: int


def judge_claims(values: Values, weights: Values, margin: float | None = None, equalities: int | None = None) -> Claims:
    """Judge the sums `weights` [claims, cells] of `values` [cells, seeds], the baseline first; NaN where a run has none.

    margin: the smallest effect that matters. equalities: how many claims of no effect are made, one chance of 5 % for all of
    them; default is one per claim (Bonferroni: exact enough, and it holds whichever of the true effects sit at the margin).
    Every row of `weights` adds up to 0. Raises ValueError otherwise.
    """
    if weights.shape[1] != len(values) or np.any(np.abs(weights.sum(axis=1)) > 1e-9):
        raise ValueError(
            f"weights of shape {weights.shape}: one column per cell of {len(values)}, each row adding up to 0"
        )
    weights = np.where(np.abs(weights) > 1e-12, weights, 0.0)
    pool = blocked(values)
    rest, needs = weights[:, 1:], weights != 0
    known = ~np.any(needs[:, 1:] & ~np.isfinite(pool.effects), axis=1)
    covariance = np.nan_to_num(pool.correlation * np.outer(pool.scales, pool.scales))
    unit = rest @ covariance @ rest.T
    scales = np.where(known, np.sqrt(np.maximum(np.diag(unit), 0.0)), np.nan)
    effects = np.where(known, rest @ np.nan_to_num(pool.effects), np.nan)
    errors, df = scales * float(pool.sd), int(pool.df)
    correlation = unit[np.ix_(known, known)] / np.outer(scales[known], scales[known])
    limit = critical_value(LEVEL, df, correlation) if np.any(known) else float("nan")
    inner = float(stats.t.isf((1 - LEVEL) / (equalities or len(weights)), df)) if df else float("nan")
    own = _own(values, weights, needs)
    level, least = own_level(own.pairs[:, 0]), margin if margin is not None else 0.0
    own_effects = own.effects[:, 0]
    pooled_differs, pooled_within = np.abs(effects) > limit * errors, np.abs(effects) + inner * errors < least
    own_differs = (np.abs(own_effects) > _half(own, level)) & (own_effects * effects > 0)
    own_within = np.abs(own_effects) + _half(own, 2 * level) < least
    differs, within = pooled_differs & own_differs, pooled_within & own_within
    with np.errstate(invalid="ignore"):
        statistics = np.abs(effects) / errors
    return Claims(
        effects=effects,
        errors=errors,
        low=effects - limit * errors,
        high=effects + limit * errors,
        inner_low=effects - inner * errors,
        inner_high=effects + inner * errors,
        p_values=np.asarray([simultaneous_p(float(t), df, correlation) for t in statistics]),
        own_p_values=own.p_values[:, 0],
        seeds=own.pairs[:, 0],
        differs=differs,
        within=within,
        only_pooled=(pooled_differs & ~differs & ~within) | (pooled_within & ~within & ~differs),
        means=np.concatenate([[0.0], pool.effects]),
        sd=float(pool.sd),
        df=df,
    )


def _own(values: Values, weights: Values, needs: Flags) -> OwnPairs:
    """Each sum seed by seed, of the seeds that have all of its cells."""
    seen = np.isfinite(values)
    whole = (needs.astype(np.int64) @ (~seen).astype(np.int64)) == 0
    sums = np.where(whole, weights @ np.where(seen, values, 0.0), np.nan)
    return own_pairs(np.stack([np.zeros_like(sums), sums], axis=1))


def _half(own: OwnPairs, level: Any) -> Values:
    """Half width of the own interval at 1 - level, which differs from claim to claim with the number of its seeds."""
    found = np.full(len(own.pairs), np.nan)
    for one in np.unique(level):
        found = np.where(level == one, own.half_width(1 - float(one))[:, 0], found)
    return found

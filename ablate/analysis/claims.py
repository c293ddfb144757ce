"""Several claims about the cells of one study, judged together: each a weighted sum of the cells' means.

    pooled   the seed-blocked model of all cells, intervals simultaneous over the claims
    own      the same weighted sum seed by seed, a t of its own, which must agree (see decide.py)

The own analysis needs no equal variances: a cell whose runs vary more than the others' widens every sum that it is part of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.blocked import blocked
from ablate.analysis.decide import LEVEL
from ablate.analysis.dunnett import critical_value, simultaneous_p
from ablate.analysis.own_pairs import OwnPairs, own_pairs

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

OWN_LEVEL = 0.05
"""Two-sided, at which a claim's own seeds must agree. `decide.own_level` is more lenient from five to seven seeds: there an arm
stands in one contrast. Here a noisy cell stands in many claims, and at 10 % it made a false one in 13 % of studies of pairs."""


@dataclass(frozen=True, slots=True)
class Claims:
    """All of shape [claims] unless said; NaN where the runs do not give it. Unit of the values.

    low, high: at 95 %, simultaneous over the claims. inner_low, inner_high: what has to lie inside the margin.
    seeds: with a value in every cell that the claim needs. differs: the pooled and the own analysis both leave 0 out.
    within: both lie inside the margin. only_pooled: the pooled analysis says either, and the own one does not bear it out.
    correlation: of the claims that can be had. means: [cells], of each cell over the first one. sd, df: of the seed-blocked
    residual.
    """

    effects: Values
    errors: Values
    low: Values
    high: Values
    inner_low: Values
    inner_high: Values
    correlation: Values
    own_p_values: Values
    seeds: NDArray[np.int64]
    differs: Flags
    within: Flags
    only_pooled: Flags
    means: Values
    sd: float
    df: int

    def p_value(self, number: int) -> float:
        """Of one claim, simultaneous over all."""
        if not np.isfinite(self.errors[number]):
            return float("nan")
        return simultaneous_p(float(abs(self.effects[number]) / self.errors[number]), self.df, self.correlation)


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
    least = margin if margin is not None else 0.0
    own_effects = own.effects[:, 0]
    pooled_differs, pooled_within = np.abs(effects) > limit * errors, np.abs(effects) + inner * errors < least
    own_differs = (np.abs(own_effects) > own.half_width(1 - OWN_LEVEL)[:, 0]) & (own_effects * effects > 0)
    own_within = np.abs(own_effects) + own.half_width(1 - 2 * OWN_LEVEL)[:, 0] < least
    differs, within = pooled_differs & own_differs, pooled_within & own_within
    return Claims(
        effects=effects,
        errors=errors,
        low=effects - limit * errors,
        high=effects + limit * errors,
        inner_low=effects - inner * errors,
        inner_high=effects + inner * errors,
        correlation=correlation,
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

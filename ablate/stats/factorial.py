"""Main effects and interactions of a factorial design as contrasts of its cells, and the F test of each term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.contrasts import Contrasts

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """F test of all effects of one term together: df is 1 for two levels, more otherwise."""

    factors: tuple[str, ...]
    f: float
    df: int
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectWeights:
    """Effects as weighted sums of cell means.

    weights: [effects, cells]. A main effect is the mean at this level minus the mean at the first, over all levels of the
        others. An interaction of two is how much the effect of one changes with the other, halved when both have two levels
        (so that its size compares with a main effect's: half the runs' mean minus the other half's).
    owners: number of each effect's term. levels: of each effect, the level of each of its factors, against the first.
    """

    weights: Values
    owners: tuple[int, ...]
    levels: tuple[tuple[int, ...], ...]


def effect_weights(grid: NDArray[np.int64], names: Sequence[str], terms: Sequence[Sequence[str]]) -> EffectWeights:
    """Return the effects of `terms` in a design with these cells.

    grid: [cells, factors], the level number of each factor in each cell, 0 for the first. terms: of a fractional design, one
    of each alias set. Raises ValueError where the cells do not separate two effects.
    """
    coded = [_coded(grid[:, factor]) for factor in range(grid.shape[1])]
    columns, owners, levels = [np.ones(len(grid))], [], []
    for number, term in enumerate(terms):
        factors = [coded[list(names).index(name)] for name in term]
        halves = 2.0 ** (len(factors) - 1) if all(len(factor) == 1 for factor in factors) else 1.0
        for picked in np.ndindex(*map(len, factors)):
            columns.append(np.prod([factor[i] for factor, i in zip(factors, picked, strict=True)], axis=0) * halves)
            owners.append(number)
            levels.append(tuple(i + 1 for i in picked))
    model = np.column_stack(columns)
    if np.linalg.matrix_rank(model) < model.shape[1]:
        raise ValueError(
            f"{len(grid)} cells do not separate these effects: {', '.join(' x '.join(term) for term in terms)}; "
            "fewer interactions, or more cells"
        )
    # A column of a fraction stands for all effects that are aliased in it, and is orthogonal to every other one.
    weights = np.asarray(np.linalg.pinv(model)[1:], dtype=np.float64)
    return EffectWeights(weights=weights, owners=tuple(owners), levels=tuple(levels))


def term_tests(contrasts: Contrasts, effects: EffectWeights, terms: Sequence[Sequence[str]]) -> tuple[Term, ...]:
    """Return the F test of each term; empty where an effect or the residual cannot be estimated."""
    if not np.all(np.isfinite(contrasts.pool.errors)):
        return ()
    covariance = contrasts.pool.correlation * np.outer(contrasts.pool.errors, contrasts.pool.errors)
    tests = []
    for number, term in enumerate(terms):
        mine = [i for i, owner in enumerate(effects.owners) if owner == number]
        part = contrasts.effects[mine]
        f = float(part @ np.linalg.solve(covariance[np.ix_(mine, mine)], part)) / len(mine)
        p_value = float(stats.f.sf(f, len(mine), int(contrasts.pool.df)))
        tests.append(Term(factors=tuple(term), f=f, df=len(mine), p_value=p_value))
    return tuple(tests)


def _coded(column: NDArray[np.int64]) -> list[Values]:
    """One column per level but the first: 1 - 1/L there and -1/L elsewhere, so that the means of the others are in balance."""
    kinds = np.unique(column)
    return [(column == kind) - 1.0 / len(kinds) for kind in kinds[1:]]

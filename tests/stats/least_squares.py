"""Main effects and interactions by ordinary least squares: an independent analysis to check the contrast engine against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.dunnett import critical_value, simultaneous_p
from ablate.stats.factorial import Term

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    factors: tuple[str, ...]
    levels: tuple[int, ...]
    effect: float
    error: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Factorial:
    effects: tuple[Effect, ...]
    terms: tuple[Term, ...]
    sd: float
    df: int


def factorial(
    values: Values,
    grid: NDArray[np.int64],
    names: Sequence[str],
    order: int = 2,
    terms: Sequence[Sequence[str]] | None = None,
) -> Factorial:
    """Fit seed + effects up to `order` to `values` [cells, seeds], NaN where a run has no value. grid: [cells, factors]."""
    terms = terms or [term for size in range(1, order + 1) for term in combinations(names, size)]
    columns, owners, marks = [], [], []
    for number, term in enumerate(terms):
        coded = [_coded(grid[:, list(names).index(name)]) for name in term]
        halves = 2.0 ** (len(term) - 1) if all(len(one) == 1 for one in coded) else 1.0
        for picked in np.ndindex(*map(len, coded)):
            columns.append(np.prod([one[i] for one, i in zip(coded, picked, strict=True)], axis=0) * halves)
            owners.append(number)
            marks.append(tuple(i + 1 for i in picked))
    cell, seed = np.nonzero(np.isfinite(values))
    used = np.flatnonzero(np.any(np.isfinite(values), axis=0))
    design = np.hstack([(seed[:, None] == used).astype(np.float64), np.column_stack(columns)[cell]])
    observed = values[cell, seed]
    df = len(observed) - design.shape[1]
    solution = np.linalg.lstsq(design, observed, rcond=None)[0]
    residual = observed - design @ solution
    variance = float(residual @ residual) / df
    unit = np.linalg.inv(design.T @ design)[len(used) :, len(used) :]
    estimate, errors = solution[len(used) :], np.sqrt(variance * np.diag(unit))
    correlation = unit / np.outer(np.sqrt(np.diag(unit)), np.sqrt(np.diag(unit)))
    limit = critical_value(0.95, df, correlation)
    effects = [
        Effect(
            factors=tuple(terms[owner]),
            levels=mark,
            effect=float(estimate[i]),
            error=float(errors[i]),
            low=float(estimate[i] - limit * errors[i]),
            high=float(estimate[i] + limit * errors[i]),
            p_value=simultaneous_p(float(abs(estimate[i]) / errors[i]), df, correlation),
        )
        for i, (owner, mark) in enumerate(zip(owners, marks, strict=True))
    ]
    tests = []
    for number, term in enumerate(terms):
        mine = [i for i, owner in enumerate(owners) if owner == number]
        f = float(estimate[mine] @ np.linalg.solve(unit[np.ix_(mine, mine)], estimate[mine])) / len(mine) / variance
        tests.append(Term(factors=tuple(term), f=f, df=len(mine), p_value=float(stats.f.sf(f, len(mine), df))))
    return Factorial(effects=tuple(effects), terms=tuple(tests), sd=variance**0.5, df=df)


def _coded(column: NDArray[np.int64]) -> list[Values]:
    kinds = np.unique(column)
    return [(column == kind) - 1.0 / len(kinds) for kind in kinds[1:]]

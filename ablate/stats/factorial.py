"""Several variables at once: main effects and interactions of a factorial design, with intervals that hold together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.dunnett import critical_value, simultaneous_p

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """factors: one for a main effect, several for their interaction; level: of each, against the first level of each.

    effect: main: mean at this level minus mean at the first, over all levels of the others. Interaction of two: how much
    the effect of the one changes with the other, halved when both have two levels (so that its size compares with a main
    effect's: half the runs' mean minus the other half's). low, high: 95 %, simultaneous over all effects of the table.
    """

    factors: tuple[str, ...]
    levels: tuple[int, ...]
    effect: float
    error: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """The F test of all effects of one term together: df is 1 for two levels, more otherwise."""

    factors: tuple[str, ...]
    f: float
    df: int
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Factorial:
    """sd, df: residual of the seed-blocked model, in the outcome's unit."""

    effects: tuple[Effect, ...]
    terms: tuple[Term, ...]
    sd: float
    df: int


def factorial(
    values: Values,
    levels: NDArray[np.int64],
    names: Sequence[str],
    order: int = 2,
    terms: Sequence[Sequence[str]] | None = None,
    level: float = 0.95,
) -> Factorial | None:
    """Main effects and interactions up to `order` from `values` [cells, seeds], NaN where a run has no value.

    levels: [cells, factors], the level number of each factor in each cell, 0 for the first. Seeds are blocks. Cells or runs
    may be missing as long as every effect can still be told from the others.
    terms: the effects to estimate instead of all up to `order`: of a fractional design, one of each alias set.

    None where the residual has no degrees of freedom or no spread. Raises ValueError when two effects of the model cannot
    be told apart in this design (a fractional design; see `aliases`), or the shapes do not fit.
    """
    cells, seeds = values.shape
    if levels.shape != (cells, len(names)):
        raise ValueError(f"levels of shape {levels.shape}: one row per cell and one column per factor of {list(names)}")
    if terms is None:
        terms = [term for size in range(1, order + 1) for term in combinations(names, size)]
    numbers = [tuple(list(names).index(factor) for factor in term) for term in terms]
    columns, owners, marks = model(levels, numbers)
    seen = np.isfinite(values)
    cell, seed = np.nonzero(seen)
    used = [number for number in range(seeds) if np.any(seen[:, number])]
    blocks = (seed[:, None] == np.asarray(used)[None, :]).astype(np.float64)
    design = np.hstack([blocks, columns[cell]])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            f"{cells} cells do not tell these effects apart: {', '.join(' x '.join(term) for term in terms)}; "
            "fewer interactions, or more cells"
        )
    outcome = values[seen]
    df = len(outcome) - design.shape[1]
    centre = float(np.mean(outcome))
    solution = np.linalg.lstsq(design, outcome - centre, rcond=None)[0]
    residual = outcome - centre - design @ solution
    if df <= 0 or float(np.max(np.abs(residual))) <= 1e-13 * float(np.max(np.abs(outcome))):
        return None
    variance = float(residual @ residual) / df
    first = len(used)
    unit = np.linalg.inv(design.T @ design)[first:, first:]
    estimate, errors = solution[first:], np.sqrt(variance * np.diag(unit))
    scales = np.sqrt(np.diag(unit))
    correlation = unit / np.outer(scales, scales)
    limit = critical_value(level, df, correlation)
    effects = tuple(
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
    )
    tests = tuple(_test(tuple(term), number, owners, estimate, unit, variance, df) for number, term in enumerate(terms))
    return Factorial(effects=effects, terms=tests, sd=variance**0.5, df=df)


def model(
    levels: NDArray[np.int64], terms: Sequence[tuple[int, ...]]
) -> tuple[Values, list[int], list[tuple[int, ...]]]:
    """Columns whose coefficients are the effects as `Effect` defines them; the term and the levels of each."""
    mains = [_coded(levels[:, factor]) for factor in range(levels.shape[1])]
    columns, owners, marks = [], [], []
    for number, term in enumerate(terms):
        for picked in np.ndindex(*[len(mains[factor]) for factor in term]):
            parts = [mains[factor][i] for factor, i in zip(term, picked, strict=True)]
            halves = 2.0 ** (len(term) - 1) if all(len(mains[factor]) == 1 for factor in term) else 1.0
            columns.append(np.prod(parts, axis=0) * halves)
            owners.append(number)
            marks.append(tuple(i + 1 for i in picked))
    return np.column_stack(columns), owners, marks


def _coded(column: NDArray[np.int64]) -> list[Values]:
    """One column per level but the first: 1 - 1/L there and -1/L elsewhere, so that the means of the others are in balance."""
    kinds = np.unique(column)
    return [(column == kind) - 1.0 / len(kinds) for kind in kinds[1:]]


def _test(
    factors: tuple[str, ...],
    number: int,
    owners: Sequence[int],
    estimate: Values,
    unit: Values,
    variance: float,
    df: int,
) -> Term:
    mine = [i for i, owner in enumerate(owners) if owner == number]
    part = estimate[mine]
    f = float(part @ np.linalg.solve(unit[np.ix_(mine, mine)], part)) / len(mine) / variance
    return Term(factors=factors, f=f, df=len(mine), p_value=float(stats.f.sf(f, len(mine), df)))

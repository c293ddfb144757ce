"""Main effects and interactions of a factorial or fractional study: which axis acts by itself, and which only with another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.cell_table import (
    TOLD,
    CellTable,
    cell_table,
    figures,
    margin_words,
    measured,
    needed_words,
    shown,
    signed,
)
from ablate.analysis.claims import judge_claims
from ablate.analysis.contrasts import DECIDED
from ablate.analysis.effect_values import CellEffect, Effects
from ablate.analysis.factorial import Term, factorial, model
from ablate.analysis.part_words import read_parts
from ablate.analysis.values import Contrast, Control, Floor, MetricInfo, RunReading
from ablate.analysis.words import joined
from ablate.design import fraction
from ablate.design.cells import Cells
from ablate.design.plan import Plan

Values = NDArray[np.float64]


def cell_effects(
    plan: Plan,
    metrics: Sequence[MetricInfo],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    floors: Sequence[Floor],
    contrasts: Sequence[Contrast],
) -> Effects | None:
    """Of the primary metric; None for a study of one axis at a time."""
    cells = plan.crossed
    if cells is None:
        return None
    metric = next(info for info in metrics if info.name == plan.metric)
    table = cell_table(plan, cells, metric, readings, checks, floors)
    about = Effects(
        kind=cells.kind,
        metric=metric.name,
        unit=metric.unit,
        names=cells.names,
        cells=table.described(),
        full=cells.full if cells.kind != "pairs" else len(cells.arms),
        resolution=cells.resolution,
        seeds=table.whole,
        left_out=table.left_out,
        sd=None,
        df=0,
        family=0,
        effects=(),
        aliases=fraction.aliases(cells.names, cells.generators),
        labels=("SURVIVORS ONLY",) if table.lost else (),
    )
    if refused := table.nothing_yet():
        return replace(about, refused=refused, sentences=(f"{metric.name}: no effects yet, because {refused}.",))
    if cells.kind == "pairs":
        return read_parts(about, table, readings, contrasts)
    decided = {one.arm for one in contrasts if one.primary and one.verdict in DECIDED}
    return _read(about, table, decided)


def findings(about: Effects | None) -> tuple[str, ...]:
    """What comes before all other conclusions."""
    return () if about is None else about.sentences


def _read(about: Effects, table: CellTable, decided: AbstractSet[str]) -> Effects:
    cells = table.cells
    terms = _terms(cells)
    numbers = [tuple(cells.names.index(name) for name in term) for term in terms]
    columns, owners, marks = model(cells.grid, numbers)
    # A column of a fraction stands for all effects that are mixed up in it, and is at right angles to every other one.
    weights = np.linalg.pinv(np.hstack([np.ones((len(columns), 1)), columns]))[1:]
    claims = judge_claims(table.values, weights, table.margin)
    effects = []
    for i, (owner, mark) in enumerate(zip(owners, marks, strict=True)):
        term, factors = terms[owner], numbers[owner]
        words = tuple(cells.levels[factor][number] for factor, number in zip(factors, mark, strict=True))
        effects.append(
            shown(
                table,
                claims,
                i,
                kind="main" if len(term) == 1 else "interaction",
                name=_name(cells, factors, mark),
                axes=term,
                levels=words,
                needs=[arm for arm, weight in zip(cells.arms, weights[i], strict=True) if abs(weight) > 1e-12],
                mixed_with=_mixed(cells, term),
            )
        )
    effects = [replace(one, average=_average(one, effects, table, claims.means)) for one in effects]
    about = replace(
        about,
        sd=claims.sd if np.isfinite(claims.sd) else None,
        df=claims.df,
        family=len(effects),
        effects=tuple(effects),
        terms=_tests(table, terms),
        refused=_failed(table),
    )
    return replace(about, sentences=tuple(_sentences(about, table, claims.means, decided)))


def _terms(cells: Cells) -> list[tuple[str, ...]]:
    """Of all combinations every interaction; of a fraction the main effects and those of two, one of each that are mixed up."""
    if not cells.generators:
        sizes = range(1, len(cells.names) + 1)
        return [term for size in sizes for term in combinations(cells.names, size)]
    firsts = [group[0] for group in fraction.alias_sets(cells.names, cells.generators)]
    return [tuple(name for name in cells.names if name in first) for first in firsts]


def _tests(table: CellTable, terms: Sequence[tuple[str, ...]]) -> tuple[Term, ...]:
    """F of each term; none where the cells that have values do not tell the terms apart."""
    try:
        found = factorial(table.values, table.cells.grid, table.cells.names, terms=terms)
    except ValueError:
        return ()
    return found.terms if found else ()


def _name(cells: Cells, factors: Sequence[int], mark: Sequence[int]) -> str:
    if len(factors) == 1:
        return cells.change(factors[0], mark[0])
    several = any(len(cells.levels[factor]) > 2 for factor in factors)
    words = [cells.change(k, number) if several else cells.names[k] for k, number in zip(factors, mark, strict=True)]
    return " x ".join(words)


def _mixed(cells: Cells, term: tuple[str, ...]) -> tuple[str, ...]:
    found = fraction.mixed_with(cells.names, cells.generators, term)
    return tuple(f"{'plus' if sign > 0 else 'less'} that of {fraction.together(other)}" for other, sign in found)


def _may_be_of(cells: Cells, one: CellEffect) -> set[str]:
    """Axes that an interaction which is told may be of: those of all effects of two that are in it."""
    found = fraction.mixed_with(cells.names, cells.generators, one.axes)
    return {*one.axes, *(name for other, _ in found if len(other) == 2 for name in other)}


def _is_mixed(cells: Cells, one: CellEffect) -> bool:
    """Whether a main effect or an interaction of two may just as well be another interaction of two."""
    return any(len(other) <= 2 for other, _ in fraction.mixed_with(cells.names, cells.generators, one.axes))


def _average(one: CellEffect, effects: Sequence[CellEffect], table: CellTable, means: Values) -> str:
    """Of a main effect with which an interaction is told: that it is an average, and what it is at each level."""
    if one.kind != "main":
        return ""
    told = [other for other in effects if other.kind == "interaction" and other.verdict == "interact"]
    mine = [other for other in told if one.axes[0] in _may_be_of(table.cells, other)]
    if not mine:
        return ""
    plain = [other for other in mine if len(other.axes) == 2 and not _is_mixed(table.cells, other)]
    if not plain:
        names = joined(dict.fromkeys(other.name for other in mine))
        return f"an average over the levels of the other axes, of which it depends by what is told of {names}"
    others = dict.fromkeys(name for other in plain for name in other.axes if name != one.axes[0])
    number = table.cells.levels[table.cells.names.index(one.axes[0])].index(one.levels[0], 1)
    at = [_at_each(table, means, one.axes[0], number, other, one) for other in others]
    return f"an average over the levels of {joined(others)}, with which it interacts: {'; '.join(at)}"


def _at_each(table: CellTable, means: Values, axis: str, number: int, other: str, like: CellEffect) -> str:
    """`+0.15 at learning_rate 5e-05 and +0.07 at 0.0001`: an axis's effect at each level of another, over the rest."""
    cells = table.cells
    mine, rest = cells.names.index(axis), cells.names.index(other)
    grid, said = cells.grid, []
    for level, word in enumerate(cells.levels[rest]):
        at = grid[:, rest] == level
        effect = np.mean(means[at & (grid[:, mine] == number)]) - np.mean(means[at & (grid[:, mine] == 0)])
        said.append(f"{signed(float(effect), like)} at {other + ' ' if not level else ''}{word}")
    return joined(said)


def _failed(table: CellTable) -> str:
    arm = next(iter(table.failed), None)
    return "" if arm is None else f"{arm}: {table.failed[arm]}"


def _sentences(about: Effects, table: CellTable, means: Values, decided: AbstractSet[str]) -> Iterator[str]:
    """Interactions first: they decide how the main effects may be read."""
    if about.refused:
        yield f"{about.metric}: no effects, because {about.refused}."
        return
    cells = table.cells
    told = [one for one in about.effects if one.verdict in TOLD]
    for one in told:
        if one.kind == "interaction":
            yield f"{about.metric}: {_interacts(one, about, table, means, decided)}"
    for one in told:
        if one.kind == "main":
            yield f"{about.metric}: {_acts(one, about, cells)}"
    if not told:
        yield (
            f"{about.metric}: no main effect and no interaction is told from 0, over {about.family} effects together."
        )
    low = [one for one in about.effects if len(one.axes) < 3]
    equal = [f"{one.name} ({figures(one)})" for one in low if one.verdict == "no effect"]
    if equal:
        of_axes = "on average " if any(len(one.axes) > 1 and one in told for one in about.effects) else ""
        yield f"{about.metric}: no effect that matters {of_axes}({margin_words(table)}): {joined(equal)}."
    open_ = [f"{one.name} ({figures(one)}{needed_words(one)})" for one in low if one.verdict == "undecided"]
    if open_:
        yield f"{about.metric}: undecided: {joined(open_)}."


def _interacts(one: CellEffect, about: Effects, table: CellTable, means: Values, decided: AbstractSet[str]) -> str:
    """decided: arms that differ from the baseline."""
    cells = table.cells
    if _is_mixed(cells, one):
        return (
            f"the effect called {one.name} is told from 0 ({figures(one)}), and is that of {fraction.together(one.axes)} "
            f"{' '.join(one.mixed_with)}: which of them it is, only more arms can tell (study.design=factorial)."
        )
    named = joined(one.axes)
    if len(one.axes) > 2:
        return (
            f"{named} interact: how two of them act together changes with the third"
            f"{' and so on' if len(one.axes) > 3 else ''} ({figures(one)})."
        )
    first, other = one.axes
    place = cells.names.index(first)
    number = cells.levels[place].index(one.levels[0], 1)
    at = _at_each(table, means, first, number, other, one)
    said = f"{named} interact: the effect of {cells.change(place, number)} is {at} (interaction {figures(one)})"
    return f"{said}{_only_together(one, about, cells, decided)}."


def _only_together(one: CellEffect, about: Effects, cells: Cells, decided: AbstractSet[str]) -> str:
    """What varying one axis at a time, or the main effects alone, would not have shown."""
    places = [cells.names.index(name) for name in one.axes]
    words = zip(places, one.levels, strict=True)
    alone = [cells.parts[place][cells.levels[place].index(word, 1) - 1] for place, word in words]
    if all(arm in cells.arms and arm not in decided for arm in alone):
        return (
            f"; they are seen to act only together: neither {alone[0]} nor {alone[1]} alone is told from the baseline"
        )
    mains = [effect for effect in about.effects if effect.kind == "main" and effect.axes[0] in one.axes]
    if any(effect.verdict in TOLD for effect in mains):
        return ""
    apart = "; ".join(f"{effect.name} {figures(effect)}" for effect in mains)
    return f"; on average over the other's levels neither has an effect that is told from 0 ({apart})"


def _acts(one: CellEffect, about: Effects, cells: Cells) -> str:
    direction = "raises" if (one.effect or 0.0) > 0 else "lowers"
    better = f", which {one.verdict}" if one.verdict in ("helps", "hurts") else ""
    said = f"{one.name} {direction} it by {measured(one, about.unit)}{better}"
    if one.mixed_with:
        said += f"; what is called so is the effect of {one.axes[0]} {' '.join(one.mixed_with)}"
    rest = [name for name in cells.names if name != one.axes[0]]
    return f"{said}; {one.average or f'over the levels of {joined(rest)}'}."

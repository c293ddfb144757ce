"""Main effects and interactions of a factorial or fractional study: which axis acts by itself, and which only with another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import combinations

import numpy as np

from ablate.analysis.cells import (
    SIGNIFICANT,
    CellTable,
    EffectSpec,
    Values,
    cell_effects,
    cell_table,
    figures,
    margin_words,
    measured,
    needed_words,
    signed,
)
from ablate.analysis.design_results import CellEffect, Effects
from ablate.analysis.pairwise import read_parts
from ablate.analysis.results import Contrast, RunReading
from ablate.controls.control import Control
from ablate.design import factorial as fraction
from ablate.design.factorial import Factorial
from ablate.design.plan import Plan
from ablate.formatting import joined
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import known
from ablate.stats.factorial import EffectWeights, effect_weights, term_tests
from ablate.stats.linear_model import blocked
from ablate.stats.verdicts import DECIDED


def design_effects(
    plan: Plan,
    metrics: Sequence[MetricInfo],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    contrasts: Sequence[Contrast],
) -> Effects | None:
    """Return the effects on the primary metric; None for a study of one axis at a time."""
    cells = plan.crossed
    if cells is None:
        return None
    metric = next(info for info in metrics if info.name == plan.metric)
    table = cell_table(plan, cells, metric, readings, checks)
    about = Effects(
        kind=cells.kind,
        metric=metric.name,
        unit=metric.unit,
        names=cells.names,
        cells=table.described(),
        full=cells.full if cells.kind != "pairwise" else len(cells.arms),
        resolution=cells.resolution,
        seeds=table.complete_seeds,
        left_out=table.left_out,
        sd=None,
        df=0,
        family=0,
        effects=(),
        aliases=fraction.aliases(cells.names, cells.generators),
        labels=("MISSING SEEDS",) if table.lost else (),
    )
    if refused := table.refused():
        return replace(about, refused=refused, sentences=(f"{metric.name}: no effects yet, because {refused}.",))
    if cells.kind == "pairwise":
        return read_parts(about, table, readings)
    decided = {one.arm for one in contrasts if one.primary and one.verdict in DECIDED}
    return _read_effects(about, table, decided)


def effect_sentences(about: Effects | None) -> tuple[str, ...]:
    """Return the sentences that precede all other conclusions."""
    return () if about is None else about.sentences


def _read_effects(about: Effects, table: CellTable, decided: AbstractSet[str]) -> Effects:
    cells = table.cells
    terms = _terms(cells)
    design = effect_weights(cells.grid, cells.names, terms)
    found = table.decide(design.weights)
    effects = cell_effects(table, found, _specs(cells, terms, design))
    means = np.concatenate([[0.0], blocked(table.values).effects])
    effects = [replace(one, average=_average(one, effects, table, means)) for one in effects]
    arm = next(iter(table.failed), None)
    about = replace(
        about,
        sd=known(found.pool.sd),
        df=int(found.pool.df),
        family=len(effects),
        effects=tuple(effects),
        terms=term_tests(found, design, terms),
        refused="" if arm is None else f"{arm}: {table.failed[arm]}",
    )
    return replace(about, sentences=tuple(_sentences(about, table, means, decided)))


def _terms(cells: Factorial) -> list[tuple[str, ...]]:
    """Every interaction of a full factorial; of a fraction the first effect of each alias set."""
    if not cells.generators:
        sizes = range(1, len(cells.names) + 1)
        return [term for size in sizes for term in combinations(cells.names, size)]
    firsts = [group[0] for group in fraction.alias_sets(cells.names, cells.generators)]
    return [tuple(name for name in cells.names if name in first) for first in firsts]


def _specs(cells: Factorial, terms: Sequence[tuple[str, ...]], design: EffectWeights) -> list[EffectSpec]:
    specs = []
    for owner, mark in zip(design.owners, design.levels, strict=True):
        term = terms[owner]
        factors = [cells.names.index(name) for name in term]
        aliases = fraction.mixed_with(cells.names, cells.generators, term)
        specs.append(
            EffectSpec(
                kind="main" if len(term) == 1 else "interaction",
                name=_name(cells, factors, mark),
                axes=term,
                levels=tuple(cells.levels[factor][number] for factor, number in zip(factors, mark, strict=True)),
                mixed_with=tuple(
                    f"{'plus' if sign > 0 else 'less'} that of {fraction.together(other)}" for other, sign in aliases
                ),
            )
        )
    return specs


def _name(cells: Factorial, factors: Sequence[int], mark: Sequence[int]) -> str:
    if len(factors) == 1:
        return cells.change(factors[0], mark[0])
    several = any(len(cells.levels[factor]) > 2 for factor in factors)
    words = [cells.change(k, number) if several else cells.names[k] for k, number in zip(factors, mark, strict=True)]
    return " x ".join(words)


def _possible_axes(cells: Factorial, one: CellEffect) -> set[str]:
    """Axes that a significant interaction may be of: those of all effects of two that are aliased with it."""
    found = fraction.mixed_with(cells.names, cells.generators, one.axes)
    return {*one.axes, *(name for other, _ in found if len(other) == 2 for name in other)}


def _is_aliased(cells: Factorial, one: CellEffect) -> bool:
    """Return whether a main effect or an interaction of two may as well be another interaction of two."""
    return any(len(other) <= 2 for other, _ in fraction.mixed_with(cells.names, cells.generators, one.axes))


def _average(one: CellEffect, effects: Sequence[CellEffect], table: CellTable, means: Values) -> str:
    """Of a main effect with a significant interaction: that it is an average, and its value at each level."""
    if one.kind != "main":
        return ""
    interactions = [other for other in effects if other.kind == "interaction" and other.verdict == "interact"]
    mine = [other for other in interactions if one.axes[0] in _possible_axes(table.cells, other)]
    if not mine:
        return ""
    plain = [other for other in mine if len(other.axes) == 2 and not _is_aliased(table.cells, other)]
    if not plain:
        names = joined(dict.fromkeys(other.name for other in mine))
        return f"an average over the levels of the other axes, on which it depends ({names})"
    others = dict.fromkeys(name for other in plain for name in other.axes if name != one.axes[0])
    number = table.cells.levels[table.cells.names.index(one.axes[0])].index(one.levels[0], 1)
    at = [_at_each(table, means, one.axes[0], number, other, one) for other in others]
    return f"an average over the levels of {joined(others)}, with which it interacts: {'; '.join(at)}"


def _at_each(table: CellTable, means: Values, axis: str, number: int, other: str, like: CellEffect) -> str:
    """`+0.15 at learning_rate 5e-05 and +0.07 at 0.0001`: an axis's effect at each level of another, over the rest."""
    cells, grid = table.cells, table.cells.grid
    mine, rest, parts = cells.names.index(axis), cells.names.index(other), []
    for level, word in enumerate(cells.levels[rest]):
        at = grid[:, rest] == level
        effect = np.mean(means[at & (grid[:, mine] == number)]) - np.mean(means[at & (grid[:, mine] == 0)])
        parts.append(f"{signed(float(effect), like)} at {other + ' ' if not level else ''}{word}")
    return joined(parts)


def _sentences(about: Effects, table: CellTable, means: Values, decided: AbstractSet[str]) -> Iterator[str]:
    """Interactions first: they decide how the main effects may be read."""
    if about.refused:
        yield f"{about.metric}: no effects, because {about.refused}."
        return
    cells = table.cells
    significant = [one for one in about.effects if one.verdict in SIGNIFICANT]
    for one in significant:
        if one.kind == "interaction":
            yield f"{about.metric}: {_interacts(one, about, table, means, decided)}"
    for one in significant:
        if one.kind == "main":
            yield f"{about.metric}: {_acts(one, about, cells, decided)}"
    if not significant:
        yield f"{about.metric}: no main effect or interaction is significant (corrected for {about.family} effects)."
    low = [one for one in about.effects if len(one.axes) < 3]
    equal = [f"{one.name} ({figures(one)})" for one in low if one.verdict == "equivalent"]
    if equal:
        of_axes = "on average " if any(len(one.axes) > 1 and one in significant for one in about.effects) else ""
        yield f"{about.metric}: equivalent {of_axes}({margin_words(table)}): {joined(equal)}."
    open_ = [f"{one.name} ({figures(one)}{needed_words(one)})" for one in low if one.verdict == "inconclusive"]
    if open_:
        yield f"{about.metric}: inconclusive: {joined(open_)}."


def _interacts(one: CellEffect, about: Effects, table: CellTable, means: Values, decided: AbstractSet[str]) -> str:
    """decided: arms that differ from the baseline."""
    cells = table.cells
    if _is_aliased(cells, one):
        return (
            f"the effect called {one.name} is significant ({figures(one)}), and is that of {fraction.together(one.axes)} "
            f"{' '.join(one.mixed_with)}; only more arms can separate them (study.design=factorial)."
        )
    named = joined(one.axes)
    if len(one.axes) > 2:
        return (
            f"{named} interact: how two of them act together changes with the third"
            f"{' and so on' if len(one.axes) > 3 else ''} ({figures(one)})."
        )
    first, other = one.axes
    axis = cells.names.index(first)
    number = cells.levels[axis].index(one.levels[0], 1)
    at = _at_each(table, means, first, number, other, one)
    effect = f"{named} interact: the effect of {cells.change(axis, number)} is {at} (interaction {figures(one)})"
    return f"{effect}{_only_together(one, about, cells, decided)}."


def _only_together(one: CellEffect, about: Effects, cells: Factorial, decided: AbstractSet[str]) -> str:
    """What varying one axis at a time, or the main effects alone, would not have shown."""
    axes = [cells.names.index(name) for name in one.axes]
    levels = zip(axes, one.levels, strict=True)
    alone = [cells.parts[axis][cells.levels[axis].index(word, 1) - 1] for axis, word in levels]
    if all(arm in cells.arms and arm not in decided for arm in alone):
        return (
            f"; they act only together: neither {alone[0]} nor {alone[1]} alone differs significantly from the baseline"
        )
    mains = [effect for effect in about.effects if effect.kind == "main" and effect.axes[0] in one.axes]
    if any(effect.verdict in SIGNIFICANT for effect in mains):
        return ""
    apart = "; ".join(f"{effect.name} {figures(effect)}" for effect in mains)
    return f"; on average over the other's levels neither has a significant effect ({apart})"


def _acts(one: CellEffect, about: Effects, cells: Factorial, decided: AbstractSet[str]) -> str:
    """A main effect is an average: where its arm alone shows no difference, it may be that of a combination."""
    direction = "raises" if (one.effect or 0.0) > 0 else "lowers"
    better = f", which {one.verdict}" if one.verdict in ("helps", "hurts") else ""
    effect = f"{one.name} {direction} it by {measured(one, about.unit)}{better}"
    if one.mixed_with:
        effect += f"; this is the effect of {one.axes[0]} {' '.join(one.mixed_with)}"
    rest = [name for name in cells.names if name != one.axes[0]]
    axis = cells.names.index(one.axes[0])
    alone = cells.parts[axis][cells.levels[axis].index(one.levels[0], 1) - 1]
    open_ = not one.average and alone in cells.arms and alone not in decided
    only = f"; {alone} alone does not differ significantly, so it may act only in combination" if open_ else ""
    return f"{effect}; {one.average or f'on average over the levels of {joined(rest)}'}{only}."

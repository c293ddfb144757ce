"""The cells of a crossed design and their runs' values, and one claim about them as it is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.contrasts import DECIDED, NOT_BEYOND, WITHIN_FLOOR
from ablate.analysis.noise_floor import largest
from ablate.analysis.results import CellEffect, Contrast, EffectKind, Effects, Floor, PartRead, PartWord, RunReading
from ablate.controls.control import Control
from ablate.design import factorial as fraction
from ablate.design.factorial import Cells
from ablate.design.plan import Plan
from ablate.formatting import change, counted, joined
from ablate.metrics.metric import MetricInfo
from ablate.stats.contrasts import LOW_POWER, LOW_POWER_POOLED_ONLY, POOLED_ONLY, Claims, judge_claims
from ablate.stats.factorial import Term, factorial, model
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.power import seeds_to_decide

Values = NDArray[np.float64]

TOLD = (*DECIDED, "interact")
"""Verdicts of an effect that is told from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTable:
    """values: [cells, seeds], NaN where a run has none. failed: {arm: why} of cells whose control failed.

    floor: an effect that is no larger has no verdict; None where none was measured. waiting: runs that have not ended.
    num_runs: of all cells.
    """

    cells: Cells
    metric: MetricInfo
    margin: float
    seeds: tuple[int, ...]
    values: Values
    left_out: tuple[str, ...]
    lost: tuple[str, ...]
    failed: dict[str, str]
    floor: float | None
    waiting: int
    num_runs: int

    @property
    def whole(self) -> tuple[int, ...]:
        """Seeds with a value in every cell."""
        every = np.all(np.isfinite(self.values), axis=0)
        return tuple(seed for seed, one in zip(self.seeds, every, strict=True) if one)

    @property
    def empty(self) -> tuple[str, ...]:
        """Cells without any value."""
        none = ~np.any(np.isfinite(self.values), axis=1)
        return tuple(arm for arm, one in zip(self.cells.arms, none, strict=True) if one)

    def described(self) -> tuple[dict[str, Any], ...]:
        """What is in which cell, and its mean over seeds."""
        found = []
        for arm, place, row in zip(self.cells.arms, self.cells.indices, self.values, strict=True):
            words = {
                name: words[number]
                for name, words, number in zip(self.cells.names, self.cells.levels, place, strict=True)
            }
            mean = float(np.mean(row[np.isfinite(row)])) if np.any(np.isfinite(row)) else None
            found.append({"arm": arm, "levels": words, "mean": mean})
        return tuple(found)

    def nothing_yet(self) -> str:
        """Why no effect is told at all; '' where some may be."""
        if self.empty and self.waiting:
            return f"not every arm has a finished run yet ({self.waiting} of {counted(self.num_runs, 'run')} to go)"
        if len(self.seeds) < 2 or np.max(np.sum(np.isfinite(self.values), axis=1)) < 2:
            return "one seed has no interval: two are the least"
        return ""


def cell_table(
    plan: Plan,
    cells: Cells,
    metric: MetricInfo,
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    floors: Sequence[Floor],
) -> CellTable:
    """From the readings of the primary metric."""
    known: dict[tuple[str, int], RunReading] = {(run.arm, run.seed): run for run in readings}
    values = np.full((len(cells.arms), len(plan.seeds)), np.nan)
    for i, arm in enumerate(cells.arms):
        for k, seed in enumerate(plan.seeds):
            run = known.get((arm, seed))
            value = run.values.get(metric.name) if run else None
            values[i, k] = value if value is not None and math.isfinite(value) else np.nan
    lost = [run for run in readings if run.arm in cells.arms and run.status in ("diverged", "failed", "unreadable")]
    failed: dict[str, str] = {}
    for check in checks:
        if check.status == "failed" and check.arm in cells.arms:
            failed.setdefault(check.arm, f"the control `{check.name}` failed: {check.sentence}")
    mine = [run for run in readings if run.arm in cells.arms]
    return CellTable(
        cells=cells,
        metric=metric,
        margin=plan.smallest_effect,
        seeds=plan.seeds,
        values=values,
        left_out=tuple(_left_out(cells, plan.seeds, values, known)),
        lost=tuple(f"seed {run.seed} of {run.arm}" for run in lost),
        failed=failed,
        floor=largest(floors, metric.name),
        waiting=sum(run.status in ("missing", "running", "interrupted") for run in mine),
        num_runs=len(mine),
    )


def _left_out(
    cells: Cells, seeds: Sequence[int], values: Values, known: dict[tuple[str, int], RunReading]
) -> list[str]:
    said = []
    for k, seed in enumerate(seeds):
        without = [arm for arm, row in zip(cells.arms, values, strict=True) if not math.isfinite(row[k])]
        if without:
            ended = [f"{arm} ({run.status if (run := known.get((arm, seed))) else 'missing'})" for arm in without[:3]]
            more = [f"{len(without) - 3} more"] if len(without) > 3 else []
            said.append(f"seed {seed} has no value in {joined([*ended, *more])}; its other runs still count")
    return said


def shown(
    table: CellTable,
    claims: Claims,
    number: int,
    *,
    kind: EffectKind,
    name: str,
    axes: tuple[str, ...],
    levels: tuple[str, ...],
    needs: Sequence[str],
    mixed_with: tuple[str, ...] = (),
    withheld: str = "",
) -> CellEffect:
    """One claim with its verdict. needs: the arms that it rests on. withheld: a label that takes its verdict away."""
    effect, seeds = _known(claims.effects[number]), int(claims.seeds[number])
    refused = any(arm in table.failed for arm in needs)
    labels = [f"{seeds} of {len(table.seeds)} seeds"] if seeds < len(table.seeds) else []
    only_pooled = bool(claims.only_pooled[number])
    if seeds < ENOUGH_SEEDS:
        labels.append(LOW_POWER_POOLED_ONLY if only_pooled else LOW_POWER)
    elif only_pooled:
        labels.append(POOLED_ONLY)
    verdict = "inconclusive"
    if refused:
        verdict = "none"
    elif claims.within[number]:
        verdict = "equivalent"
    elif claims.differs[number] and effect is not None:
        small = table.floor is not None and abs(effect) <= table.floor
        why = WITHIN_FLOOR if small else withheld
        labels += [why] if why else []
        verdict = "inconclusive" if why else _direction(kind, effect, table.metric.lower_is_better)
    open_ = verdict == "inconclusive" and not claims.differs[number]
    return CellEffect(
        kind=kind,
        name=name,
        axes=axes,
        levels=levels,
        effect=effect,
        low=_known(claims.low[number]),
        high=_known(claims.high[number]),
        inner_low=_known(claims.inner_low[number]),
        inner_high=_known(claims.inner_high[number]),
        p_value=_known(claims.p_value(number)),
        own_p=_known(claims.own_p_values[number]),
        seeds=seeds,
        verdict=verdict,
        seeds_needed=_needed(table, claims, number) if open_ else None,
        labels=tuple(labels),
        mixed_with=mixed_with,
    )


def _direction(kind: EffectKind, effect: float, lower_is_better: bool | None) -> str:
    if kind == "interaction":
        return "interact"
    if lower_is_better is None:
        return "raises" if effect > 0 else "lowers"
    return "hurts" if (effect > 0) == lower_is_better else "helps"


def _needed(table: CellTable, claims: Claims, number: int) -> int | None:
    """Seeds that would decide it: those of a contrast of two arms with this error, among as many."""
    error, seeds = float(claims.errors[number]), int(claims.seeds[number])
    if not (error > 0 and seeds > 1):
        return None
    needed = _decided_by(float(f"{error * math.sqrt(seeds / 2):.9g}"), table.margin, len(claims.effects))
    return None if needed is None else max(needed, seeds + 1)


_decided_by = lru_cache(maxsize=256)(seeds_to_decide)
"""The claims of a complete layout have two errors or three."""


def figures(one: CellEffect) -> str:
    """`+0.116, 95 % interval 0.085 .. 0.147`."""
    if one.effect is None or one.low is None or one.high is None:
        return "no interval"
    return change(one.effect, one.low, one.high)


def measured(one: CellEffect, unit: str) -> str:
    """`+0.116 nats (95 % interval 0.085 .. 0.147)`."""
    head, _, rest = figures(one).partition(", ")
    return f"{head}{f' {unit}' if unit else ''}{f' ({rest})' if rest else ''}"


def needed_words(one: CellEffect) -> str:
    """`; about 12 seeds needed`, or what took the verdict away."""
    if WITHIN_FLOOR in one.labels:
        return "; no larger than what chance alone makes"
    return f"; about {one.seeds_needed} seeds needed" if one.seeds_needed else ""


def signed(value: float, like: CellEffect) -> str:
    """A difference with as many decimals as the effect's interval bears."""
    half = ((like.high or 0.0) - (like.low or 0.0)) / 2
    decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 3
    text = f"{value:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def margin_words(table: CellTable) -> str:
    """`inside plus or minus 0.01`."""
    return f"inside plus or minus {table.margin:g}"


def _known(value: float | np.float64) -> float | None:
    return float(value) if math.isfinite(value) else None


# What each part of a study of pairs is: dead, redundant, or one that matters. matters moved alone it has an
# effect redundant alone it has none, and beside another part that is moved as well it has one: the two stand in
# for each other dead no effect alone, and none beside any other part undecided neither is shown; `no effect` is
# earned by equivalence, here as everywhere

SAME_RUN = "IDENTICAL WEIGHTS"
"""Label of two arms that ended with the very same weights: the second change was not there to be made."""


def read_parts(
    about: Effects, table: CellTable, readings: Sequence[RunReading], contrasts: Sequence[Contrast]
) -> Effects:
    """Every part alone, and beside every other part that it was combined with; then the word for each."""
    cells = table.cells
    where = {frozenset(np.flatnonzero(place).tolist()): number for number, place in enumerate(cells.indices)}
    count = len(cells.names)
    asked: list[tuple[int, int | None]] = [(k, None) for k in range(count)]
    asked += [(k, i) for k in range(count) for i in range(count) if i != k and frozenset((i, k)) in where]
    weights = np.zeros((len(asked), len(cells.arms)))
    for row, (k, i) in enumerate(asked):
        weights[row, where[frozenset((k,) if i is None else (k, i))]] = 1.0
        weights[row, where[frozenset(() if i is None else (i,))]] = -1.0
    # A false `dead` or `redundant` of a part needs a false `no effect` of the one sum that is not inside: a chance per part.
    claims = judge_claims(table.values, weights, table.margin, equalities=count)
    beyond = {one.arm: NOT_BEYOND if NOT_BEYOND in one.labels else "" for one in contrasts if one.primary}
    bits = {(run.arm, run.seed): run.weights_sha256 for run in readings}
    effects = []
    for row, (k, i) in enumerate(asked):
        needs = [arm for arm, weight in zip(cells.arms, weights[row], strict=True) if weight]
        names = tuple(cells.names[place] for place in (k, i) if place is not None)
        one = shown(
            table,
            claims,
            row,
            kind="alone" if i is None else "beside",
            name=" beside ".join(names),
            axes=names,
            levels=tuple(cells.levels[cells.names.index(name)][1] for name in names),
            needs=needs,
            withheld=beyond.get(cells.names[k], "") if i is None else "",
        )
        if _same(needs, bits, table.seeds):
            one = replace(one, verdict="none", labels=(*one.labels, SAME_RUN), seeds_needed=None)
        effects.append(one)
    parts = tuple(_part(name, effects, cells.names, table) for name in cells.names)
    about = replace(
        about,
        sd=claims.sd if np.isfinite(claims.sd) else None,
        df=claims.df,
        family=len(effects),
        effects=tuple(effects),
        parts=parts,
    )
    return replace(about, sentences=tuple(_sentences(about)))


def _same(arms: Sequence[str], bits: Mapping[tuple[str, int], str | None], seeds: Sequence[int]) -> bool:
    both = [tuple(bits.get((arm, seed)) for arm in arms) for seed in seeds]
    known = [pair for pair in both if None not in pair]
    return bool(known) and all(one == other for one, other in known)


def _part(name: str, effects: Sequence[CellEffect], names: Sequence[str], table: CellTable) -> PartRead:
    alone = next(one for one in effects if one.kind == "alone" and one.axes[0] == name)
    beside = [one for one in effects if one.kind == "beside" and one.axes[0] == name]
    partners = tuple(one.axes[1] for one in beside if one.verdict in TOLD)
    untried = tuple(other for other in names if other != name and other not in [one.axes[1] for one in beside])
    measured = [one for one in beside if one.effect is not None]
    most = max(measured, key=lambda one: abs(one.effect or 0.0), default=None)
    word = _word(alone, beside)
    return PartRead(
        name=name,
        word=word,
        alone=alone,
        most=most,
        partners=partners if word == "redundant" else (),
        untried=untried,
        sentence=_sentence(name, word, alone, beside, untried, table),
    )


def _word(alone: CellEffect, beside: Sequence[CellEffect]) -> PartWord:
    if alone.verdict == "none":
        return "none"
    if alone.verdict in TOLD:
        return "matters"
    if alone.verdict != "equivalent":
        return "inconclusive"
    if any(one.verdict in TOLD for one in beside):
        return "redundant"
    return "dead" if beside and all(one.verdict == "equivalent" for one in beside) else "inconclusive"


def _sentence(
    name: str, word: PartWord, alone: CellEffect, beside: Sequence[CellEffect], untried: Sequence[str], table: CellTable
) -> str:
    without = f"; it could not be combined with {joined(untried)}" if untried else ""
    if word == "none":
        arm = next((arm for arm in (name, table.cells.arms[0]) if arm in table.failed), "")
        return f"{name}: no word for it, because {table.failed.get(arm) or 'its runs are those of the baseline, bit for bit'}"
    if word == "matters":
        return f"{name} matters: alone {figures(alone)}"
    if word == "dead":
        widest = max(beside, key=lambda one: max(-(one.inner_low or 0.0), one.inner_high or 0.0))
        return (
            f"{name} is dead: no effect alone ({figures(alone)}) and none beside any other ({margin_words(table)}; widest "
            f"beside {widest.axes[1]}, {figures(widest)}){without}"
        )
    told = [f"{one.axes[1]} ({figures(one)})" for one in beside if one.verdict in TOLD]
    if word == "redundant":
        return f"{name} is redundant: no effect alone ({figures(alone)}), and one beside {joined(told)}{without}"
    if alone.verdict != "equivalent":
        also = f"; beside {joined(told)} it has one" if told else ""
        return f"{name} is undecided: alone {figures(alone)}{needed_words(alone)}{also}"
    open_ = [one for one in beside if one.verdict != "equivalent"]
    if not open_:
        return f"{name} is undecided: no effect alone ({figures(alone)}), and it could be combined with no other"
    which = max(open_, key=lambda one: abs(one.effect or 0.0))
    same = "the very same runs as without it" if SAME_RUN in which.labels else figures(which)
    return f"{name} is undecided: no effect alone ({figures(alone)}), but beside {which.axes[1]} {same}{needed_words(which)}"


def _sentences(about: Effects) -> list[str]:
    """The words that say something first; what is undecided in one sentence."""
    order: tuple[PartWord, ...] = ("redundant", "dead", "matters", "none")
    said = [f"{about.metric}: {part.sentence}." for word in order for part in about.parts if part.word == word]
    open_ = [part.name for part in about.parts if part.word == "inconclusive"]
    if open_:
        said.append(f"{about.metric}: undecided whether dead, redundant or of use: {joined(open_)}.")
    return said


# Main effects and interactions of a factorial or fractional study: which axis acts by itself, and which only
# with another.


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
        full=cells.full if cells.kind != "pairwise" else len(cells.arms),
        resolution=cells.resolution,
        seeds=table.whole,
        left_out=table.left_out,
        sd=None,
        df=0,
        family=0,
        effects=(),
        aliases=fraction.aliases(cells.names, cells.generators),
        labels=("MISSING SEEDS",) if table.lost else (),
    )
    if refused := table.nothing_yet():
        return replace(about, refused=refused, sentences=(f"{metric.name}: no effects yet, because {refused}.",))
    if cells.kind == "pairwise":
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
    return replace(about, sentences=tuple(_sentences_effects(about, table, claims.means, decided)))


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


def _sentences_effects(about: Effects, table: CellTable, means: Values, decided: AbstractSet[str]) -> Iterator[str]:
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
    equal = [f"{one.name} ({figures(one)})" for one in low if one.verdict == "equivalent"]
    if equal:
        of_axes = "on average " if any(len(one.axes) > 1 and one in told for one in about.effects) else ""
        yield f"{about.metric}: no effect that matters {of_axes}({margin_words(table)}): {joined(equal)}."
    open_ = [f"{one.name} ({figures(one)}{needed_words(one)})" for one in low if one.verdict == "inconclusive"]
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

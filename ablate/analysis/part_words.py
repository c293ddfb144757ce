"""What each part of a study of pairs is: dead, redundant, or one that matters.

matters     moved alone it has an effect
redundant   alone it has none, and beside another part that is moved as well it has one: the two stand in for each other
dead        no effect alone, and none beside any other part
undecided   neither is shown; `no effect` is earned by equivalence, here as everywhere
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ablate.analysis.cell_table import TOLD, CellTable, figures, margin_words, needed_words, shown
from ablate.analysis.claims import judge_claims
from ablate.analysis.contrasts import NOT_BEYOND
from ablate.analysis.effect_values import CellEffect, Effects, PartRead, PartWord
from ablate.analysis.values import Contrast, RunReading
from ablate.analysis.words import joined

SAME_RUN = "SAME RUN"
"""Label of two arms that ended with the very same weights: the second change was not there to be made."""


def read_parts(
    about: Effects, table: CellTable, readings: Sequence[RunReading], contrasts: Sequence[Contrast]
) -> Effects:
    """Every part alone, and beside every other part that it was combined with; then the word for each."""
    cells = table.cells
    where = {frozenset(np.flatnonzero(place).tolist()): number for number, place in enumerate(cells.places)}
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
    if alone.verdict != "no effect":
        return "undecided"
    if any(one.verdict in TOLD for one in beside):
        return "redundant"
    return "dead" if beside and all(one.verdict == "no effect" for one in beside) else "undecided"


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
    if alone.verdict != "no effect":
        also = f"; beside {joined(told)} it has one" if told else ""
        return f"{name} is undecided: alone {figures(alone)}{needed_words(alone)}{also}"
    open_ = [one for one in beside if one.verdict != "no effect"]
    if not open_:
        return f"{name} is undecided: no effect alone ({figures(alone)}), and it could be combined with no other"
    which = max(open_, key=lambda one: abs(one.effect or 0.0))
    same = "the very same runs as without it" if SAME_RUN in which.labels else figures(which)
    return f"{name} is undecided: no effect alone ({figures(alone)}), but beside {which.axes[1]} {same}{needed_words(which)}"


def _sentences(about: Effects) -> list[str]:
    """The words that say something first; what is undecided in one sentence."""
    order: tuple[PartWord, ...] = ("redundant", "dead", "matters", "none")
    said = [f"{about.metric}: {part.sentence}." for word in order for part in about.parts if part.word == word]
    open_ = [part.name for part in about.parts if part.word == "undecided"]
    if open_:
        said.append(f"{about.metric}: undecided whether dead, redundant or of use: {joined(open_)}.")
    return said

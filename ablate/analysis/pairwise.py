"""The parts of a pairwise study: each alone and together with every other part, and whether it is redundant or dead.

matters      it has an effect alone
redundant    equivalent alone, but it has an effect when another part is changed too: the two replace each other
dead         equivalent alone, and together with every other part
undecided    none of these is shown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ablate.analysis.cells import (
    SIGNIFICANT,
    CellTable,
    EffectSpec,
    cell_effects,
    figures,
    margin_words,
    needed_arms,
    needed_words,
)
from ablate.analysis.design_results import CellEffect, Effects, PartRead, PartWord
from ablate.analysis.results import RunReading
from ablate.formatting import joined
from ablate.stats.contrasts import known

SAME_RUN = "IDENTICAL WEIGHTS"
"""Label of two arms that ended with identical weights: the second change had no effect on training."""


def read_parts(about: Effects, table: CellTable, readings: Sequence[RunReading]) -> Effects:
    """Return every part's effect alone and together with every part that it was combined with, and a word for each."""
    cells = table.cells
    where = {frozenset(np.flatnonzero(place).tolist()): number for number, place in enumerate(cells.indices)}
    count = len(cells.names)
    pairs: list[tuple[int, ...]] = [(k,) for k in range(count)]
    pairs += [(k, i) for k in range(count) for i in range(count) if i != k and frozenset((i, k)) in where]
    weights = np.zeros((len(pairs), len(cells.arms)))
    for row, pair in enumerate(pairs):
        weights[row, where[frozenset(pair)]] = 1.0
        weights[row, where[frozenset(pair[1:])]] = -1.0
    # A false `dead` or `redundant` needs a false equivalence of the one effect that is not within the margin: one per part.
    found = table.decide(weights, equivalences=count)
    specs = [_spec(table, pair) for pair in pairs]
    weights_sha256 = {(run.arm, run.seed): run.weights_sha256 for run in readings}
    effects = [
        replace(one, verdict="none", labels=(*one.labels, SAME_RUN), seeds_needed=None)
        if _identical(needed_arms(table, row), weights_sha256, table.seeds)
        else one
        for one, row in zip(cell_effects(table, found, specs), weights, strict=True)
    ]
    about = replace(
        about,
        sd=known(found.pool.sd),
        df=int(found.pool.df),
        family=len(effects),
        effects=tuple(effects),
        parts=tuple(_part(name, effects, table) for name in cells.names),
    )
    return replace(about, sentences=tuple(_sentences(about)))


def _spec(table: CellTable, pair: tuple[int, ...]) -> EffectSpec:
    names = tuple(table.cells.names[number] for number in pair)
    return EffectSpec(
        kind="alone" if len(pair) == 1 else "with_other",
        name=" with ".join(names),
        axes=names,
        levels=tuple(table.cells.levels[number][1] for number in pair),
    )


def _identical(arms: Sequence[str], weights: Mapping[tuple[str, int], str | None], seeds: Sequence[int]) -> bool:
    both = [tuple(weights.get((arm, seed)) for arm in arms) for seed in seeds]
    complete = [pair for pair in both if None not in pair]
    return bool(complete) and all(one == other for one, other in complete)


def _part(name: str, effects: Sequence[CellEffect], table: CellTable) -> PartRead:
    alone = next(one for one in effects if one.kind == "alone" and one.axes[0] == name)
    paired = [one for one in effects if one.kind == "with_other" and one.axes[0] == name]
    tried = [name, *(one.axes[1] for one in paired)]
    untried = tuple(other for other in table.cells.names if other not in tried)
    estimated = [one for one in paired if one.effect is not None]
    word = _word(alone, paired)
    partners = tuple(one.axes[1] for one in paired if one.verdict in SIGNIFICANT)
    return PartRead(
        name=name,
        word=word,
        alone=alone,
        most=max(estimated, key=lambda one: abs(one.effect or 0.0), default=None),
        partners=partners if word == "redundant" else (),
        untried=untried,
        sentence=_sentence(name, word, alone, paired, untried, table),
    )


def _word(alone: CellEffect, paired: Sequence[CellEffect]) -> PartWord:
    if alone.verdict == "none":
        return "none"
    if alone.verdict in SIGNIFICANT:
        return "matters"
    if alone.verdict != "equivalent":
        return "inconclusive"
    if any(one.verdict in SIGNIFICANT for one in paired):
        return "redundant"
    return "dead" if paired and all(one.verdict == "equivalent" for one in paired) else "inconclusive"


def _sentence(
    name: str, word: PartWord, alone: CellEffect, paired: Sequence[CellEffect], untried: Sequence[str], table: CellTable
) -> str:
    without = f"; it could not be combined with {joined(untried)}" if untried else ""
    equivalent = f"equivalent alone ({figures(alone)})"
    if word == "none":
        arm = next((arm for arm in (name, table.cells.arms[0]) if arm in table.failed), "")
        return f"{name}: no verdict, because {table.failed.get(arm) or 'its weights are identical to those of the baseline'}"
    if word == "matters":
        return f"{name} matters: alone {figures(alone)}"
    if word == "dead":
        widest = max(paired, key=lambda one: max(-(one.inner_low or 0.0), one.inner_high or 0.0))
        return (
            f"{name} is dead: {equivalent}, and with every other part ({margin_words(table)}; widest with "
            f"{widest.axes[1]}, {figures(widest)}){without}"
        )
    effective = [f"{one.axes[1]} ({figures(one)})" for one in paired if one.verdict in SIGNIFICANT]
    if word == "redundant":
        return f"{name} is redundant: {equivalent}, but it has an effect with {joined(effective)}{without}"
    if alone.verdict != "equivalent":
        also = f"; it has an effect with {joined(effective)}" if effective else ""
        return f"{name} is inconclusive: alone {figures(alone)}{needed_words(alone)}{also}"
    open_ = [one for one in paired if one.verdict != "equivalent"]
    if not open_:
        return f"{name} is inconclusive: {equivalent}, and it could not be combined with any other part"
    which = max(open_, key=lambda one: abs(one.effect or 0.0))
    same = "the weights are identical to those without it" if SAME_RUN in which.labels else figures(which)
    return f"{name} is inconclusive: {equivalent}, but with {which.axes[1]} {same}{needed_words(which)}"


def _sentences(about: Effects) -> list[str]:
    """The informative words first; what is inconclusive in one sentence."""
    order: tuple[PartWord, ...] = ("redundant", "dead", "matters", "none")
    sentences = [f"{about.metric}: {part.sentence}." for word in order for part in about.parts if part.word == word]
    open_ = [part.name for part in about.parts if part.word == "inconclusive"]
    if open_:
        sentences.append(f"{about.metric}: inconclusive whether dead, redundant or useful: {joined(open_)}.")
    return sentences

"""What the analysis says of a study that moves several axes at once, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ablate.analysis.factorial import Term

EffectKind = Literal["main", "interaction", "alone", "beside"]
PartWord = Literal["dead", "redundant", "matters", "undecided", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellEffect:
    """One effect, in the primary metric.

    kind: `main`: of one axis, its level's mean minus the baseline's level's, over all levels of the others. `interaction`: of
        several; between axes of two levels half the difference of differences, so that it is how far the effect of the one at
        either level of the other lies from its main effect. Of `pairs`, `alone`: of one arm against the baseline, and
        `beside`: of the same change where the second of `axes` is moved already.
    name: `batch_size 8 -> 64`, `batch_size x learning_rate`. axes, levels: which, and the words of their levels.
    low, high: 95 %, simultaneous over the effects of the study. inner_low, inner_high: what has to lie inside the smallest
        effect for `no effect`. p_value: simultaneous as well; own_p: of the seeds' own values, not corrected.
    seeds: with a value in every cell that it needs.
    verdict: of a main effect as of a contrast; of an interaction `interact`, `no effect` or `undecided`; `none` where a control
        failed.
    mixed_with: of a fractional design, what else is in this figure: `plus that of lr and dropout together`.
    average: where an interaction is told, that this effect is a mean over the other's levels, and what it is at each.
    """

    kind: EffectKind
    name: str
    axes: tuple[str, ...]
    levels: tuple[str, ...]
    effect: float | None
    low: float | None
    high: float | None
    inner_low: float | None
    inner_high: float | None
    p_value: float | None
    own_p: float | None
    seeds: int
    verdict: str
    seeds_needed: int | None
    labels: tuple[str, ...] = ()
    mixed_with: tuple[str, ...] = ()
    average: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartRead:
    """One arm of a study of pairs: `dead`, `redundant`, `matters` or `undecided`; `none` where a control failed.

    alone: its effect alone. most: its effect beside the arm where it is largest. partners: those beside which it has one, of a
    redundant one. untried: those that it could not be combined with.
    """

    name: str
    word: PartWord
    alone: CellEffect
    most: CellEffect | None
    partners: tuple[str, ...]
    untried: tuple[str, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """Main effects and interactions of a crossed design, or what the parts of a study of pairs are.

    kind: `factorial`, `fractional` or `pairs`. cells: [{arm, levels, mean}], the mean over seeds. num_cells of full: arms that
    were run, of all combinations. seeds: with a value in every cell. left_out: seeds that lack some, in words; they still count
    for what they have. family: effects over which intervals are simultaneous. terms: F test of all levels of one term.
    aliases: sentences, of a fractional design. refused: why nothing is told. sentences: the findings.
    """

    kind: str
    metric: str
    unit: str
    names: tuple[str, ...]
    cells: tuple[dict[str, Any], ...]
    full: int
    resolution: int | None
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    sd: float | None
    df: int
    family: int
    effects: tuple[CellEffect, ...]
    terms: tuple[Term, ...] = ()
    parts: tuple[PartRead, ...] = ()
    aliases: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    refused: str = ""
    sentences: tuple[str, ...] = ()

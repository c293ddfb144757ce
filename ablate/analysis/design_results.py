"""Results of designs that change several keys: factorials, pairwise studies, attribution, mediation, variance components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ablate.stats.factorial import Term
from ablate.stats.shapley import Contribution

EffectKind = Literal["main", "interaction", "alone", "with_other"]
PartWord = Literal["dead", "redundant", "matters", "inconclusive", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellEffect:
    """One effect on the primary metric.

    kind: `main`: of one axis, its level's mean minus the baseline's, over all levels of the others. `interaction`: of several;
        between axes of two levels half the difference of differences, so that it is how far the effect of one at either level
        of the other is from its main effect. In a pairwise study, `alone`: of one arm against the baseline, and `with_other`:
        of the same change where the second of `axes` is changed already.
    name: `batch_size 8 -> 64`, `batch_size x learning_rate`. axes, levels: their names, and their levels in words.
    low, high: at 95%, simultaneous over the effects of the study. inner_low, inner_high: the interval that has to be inside
        the smallest effect of interest for equivalence.
    p_value: simultaneous as well. own_p: of the effect in each seed, not corrected.
    seeds: number with a value in every cell that it needs.
    verdict: of a main effect as of a contrast; of an interaction `interact`, equivalent or inconclusive; `none` where a control
        failed.
    mixed_with: of a fractional design, the effects aliased with it: `plus that of lr and dropout together`.
    average: of a main effect with a significant interaction, its value at each level of the other axis.
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
    """One arm of a pairwise study: `dead`, `redundant`, `matters` or inconclusive; `none` where a control failed.

    alone: its effect alone. most: its effect with the arm where it is largest.
    partners: of a redundant arm, those with which it has an effect. untried: those that it could not be combined with.
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
    """Main effects and interactions of a factorial design, or the parts of a pairwise study.

    kind: of the design. cells: [{arm, levels, mean}], the mean over seeds. full: number of all combinations.
    seeds: with a value in every cell. left_out: seeds that lack some, in words; they still count for what they have.
    sd, df: residual of the seed-blocked model. family: number of effects over which intervals are simultaneous.
    terms: F test of all levels of one term. aliases: sentences, of a fractional design.
    refused: why there are no effects. sentences: the findings.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class MediatorMeasure:
    """A measure of the mediator, the mean over seeds; None where no run has one.

    what: in words. baseline, treated: at both levels of the treatment. first, second: at both with the mediator held.
    """

    what: str
    baseline: float | None
    treated: float | None
    first: float | None
    second: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldEffect:
    """The treatment's effect with the mediator held at one level.

    first, second: the arms of the pair.
    left: the effect between them, which does not go through the mediator. through: the total minus that. Both with 95%
        intervals, wider by the number of pairs, and shares of the total with Fieller's.
    verdict: `all`, `some or all`, `part`, `not all`, `none`, `against`, `beyond`, `inconclusive`; `not held` where the record
        does not confirm that the mediator was held, `none given` where a control failed. sentence: the same in words.
    measures: the mediator in the record. held: evidence that it was held, in words.
    """

    mediator: str
    level: float
    label: str
    first: str
    second: str
    verdict: str
    sentence: str
    left: Contribution | None = None
    through: Contribution | None = None
    measures: tuple[MediatorMeasure, ...] = ()
    held: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mediated:
    """How much of a treatment's effect on the primary metric goes through a mediator, over seeds with every arm.

    key, levels: the treatment. total: its effect, with its own 95% interval. updates: optimizer steps at both levels.
    refused: why nothing is divided. sentence: the answer. limits: what does not follow from it.
    """

    metric: str
    unit: str
    key: str
    levels: tuple[Any, Any]
    treated: str
    updates: tuple[float, float]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    labels: tuple[str, ...]
    total: Contribution | None = None
    held: tuple[HeldEffect, ...] = ()
    refused: str = ""
    sentence: str = ""
    limits: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariancePart:
    """One source of variance.

    variance, low, high: in the squared unit of the metric, the estimate not clipped at 0.
    share, share_low, share_high: of all variance between runs.
    p_value: F test that a stream adds nothing; None for the rest.
    """

    name: str
    variance: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    p_value: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceOf:
    """Variance of one metric.

    sd: of single runs, all sources together. parts: the two streams, then both together.
    shown: the significant stream, the larger one where both are; None where none is.
    """

    metric: str
    unit: str
    sd: float
    parts: tuple[VariancePart, ...]
    shown: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceStudy:
    """Variance components of two random streams.

    streams: names of the two factors. held: streams that no run varied. of: by metric, the primary one first.
    refused: why nothing is divided, or ''. detectable_share: smallest share of a stream that is detected with a power of 80%.
    sentence: the answer. advice: what follows from it.
    """

    streams: tuple[str, ...]
    draws: int
    held: tuple[str, ...]
    of: tuple[VarianceOf, ...]
    refused: str
    detectable_share: float
    sentence: str
    advice: str


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyMoved:
    """A key in which two configs differ, or several that change as one.

    moves: {dotted key: (first, second)}. brings: {derived quantity: (before, after)} of derived changes.
    """

    name: str
    moves: dict[str, tuple[Any, Any]]
    brings: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribution:
    """How much of the difference between two configs each key makes, in the primary metric, over seeds with all combinations.

    total, alone, interaction: what each key contributes by itself from the first config, and what they contribute only
        together; they add up to the total.
    shapley: the interaction divided evenly instead; adds up as well. No contribution has a share where `refused` gives the
        reason why nothing is divided.
    significant: names of the significant contributions, simultaneously over all of them; of a total that is not significant,
        the keys that work against each other. shapley_significant: of shapley's, which use every combination and so are the
        more certain ones where the keys hardly interact.
    undone: what each key contributes when it moves last; empty where these combinations were not run.
    together: the difference needs several keys, and none is significant by itself.
    orders: number of orders in which the keys were moved, where not every combination was run; 0 where all were.
    sentence: the answer. shapley_sentence: the same with the interaction divided evenly.
    left_out: seeds that lack a combination, in words.
    """

    metric: str
    unit: str
    first: str
    second: str
    keys: tuple[KeyMoved, ...]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    orders: int
    corners: tuple[dict[str, Any], ...]
    labels: tuple[str, ...]
    total: Contribution | None = None
    alone: tuple[Contribution, ...] = ()
    interaction: Contribution | None = None
    shapley: tuple[Contribution, ...] = ()
    significant: tuple[str, ...] = ()
    shapley_significant: tuple[str, ...] = ()
    refused: str = ""
    sentence: str = ""
    shapley_sentence: str = ""
    undone: tuple[Contribution, ...] = ()
    together: bool = False

"""At which amount of training the arms of a study are compared, as a value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ablate.controls.control import Control
from ablate.metrics.metric import MetricInfo
from ablate.stats.factorial import Term
from ablate.stats.rates import PairedExamples
from ablate.stats.shapley import Contribution
from ablate.stats.verdicts import VerdictKind


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmAmount:
    """What an arm's runs had had where they are read. A range over seeds where these differ: (least, most)."""

    arm: str
    steps: tuple[int, int]
    samples: tuple[int, int]
    of_steps: tuple[int, int]
    look: tuple[float, float] | None = None
    """Of the final evaluation that is read, in the unit of the comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budgets:
    """unit: `end` where the runs are compared as they ended; else they are read up to `amount` of it.

    reread: chosen in the reading and not by the plan. question: what was asked, in words. cautions: what a reader has to know
    of it.
    """

    unit: str
    amount: float | None = None
    reread: bool = False
    question: str = ""
    cautions: tuple[str, ...] = ()
    arms: tuple[ArmAmount, ...] = ()


# What the analysis says of a study that moves several axes at once, as values.

EffectKind = Literal["main", "interaction", "alone", "with_other"]
PartWord = Literal["dead", "redundant", "matters", "inconclusive", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CellEffect:
    """One effect, in the primary metric.

    kind: `main`: of one axis, its level's mean minus the baseline's level's, over all levels of the others. `interaction`: of
        several; between axes of two levels half the difference of differences, so that it is how far the effect of the one at
        either level of the other lies from its main effect. Of `pairs`, `alone`: of one arm against the baseline, and
        `requires`: of the same change where the second of `axes` is moved already.
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


# What the kept examples say of each contrast, as values.

Holds = Literal["new examples too", "this evaluation set only", ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class OverExamples:
    """One contrast of the primary metric over seeds and examples. seeds: with kept examples in both arms.

    low, high: the 95 % interval for new seeds and new examples, simultaneous over as many variants as the contrast's own. None
    where `refused` says why. example_share: of its squared error, what the choice of examples adds.
    holds: whether the contrast's verdict, where it has one, holds for new examples as well; '' where it has none.
    """

    arm: str
    seeds: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None
    df: float | None = None
    example_share: float | None = None
    holds: Holds = ""
    paired: PairedExamples | None = None
    refused: str = ""
    sentence: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """The second source of variance. examples: in the evaluation set; groups: drawn together, such as documents.

    scope: what the claims of the study are about. contrasts: empty where no run has kept its examples, or the primary metric is
    no mean over them.
    """

    metric: str
    scope: str
    examples: int = 0
    groups: int = 0
    contrasts: tuple[OverExamples, ...] = ()

    def of(self, arm: str) -> OverExamples | None:
        return next((one for one in self.contrasts if one.arm == arm), None)


# What an analysis says of runs that were made elsewhere, as values.

UNVERIFIED = "UNVERIFIED"
"""Label of every contrast with an imported arm: its cause is not known, whatever its interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """How often one curve of one arm was logged, and what it cannot show for that. Cadence and steps of the arm's first seed.

    curve: `eval loss`, `train loss`, `grad norm`. every: `500 steps`, or `about 500 steps` where the gaps differ. points: rows.
    before_first: share of the curve's fall that lies before the first look after training began, the mean over seeds;
        told_by: the curve that it is read from; None and '' where nothing on record tells.
    rarely: whether that is more than a truthful cadence leaves; None where it cannot be told.
    """

    arm: str
    curve: Literal["eval loss", "train loss", "grad norm"]
    every: str
    points: int
    first_step: int
    last_step: int
    before_first: float | None
    told_by: str
    rarely: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """sources: a line for each imported run. alarms: (`IMPORTED`, sentence), most important first: what has to be read before
    any figure. differing: {arm: recorded settings in which it differs from the baseline, in words}. looked: curve by curve.
    not_read: outcomes that need every step, and have no value for that."""

    sources: tuple[str, ...]
    alarms: tuple[tuple[str, str], ...]
    differing: dict[str, tuple[str, ...]]
    looked: tuple[Looked, ...]
    not_read: tuple[str, ...]


# What is said of a treatment whose mediator was held.


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


# What a study of two streams of chance says, as values.


@dataclass(frozen=True, kw_only=True, slots=True)
class VariancePart:
    """One source. variance, low, high: in the squared unit of the outcome, the estimate not clipped at 0. share, share_low,
    share_high: of all variance between runs. p_value: F test that a stream adds nothing; None for the rest."""

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
    """One outcome. sd: of single runs, all sources together. parts: the two streams, then both together. shown: the stream that
    is shown to add variance, the larger one where both are; None where none is."""

    metric: str
    unit: str
    sd: float
    parts: tuple[VariancePart, ...]
    shown: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceStudy:
    """streams: names of the two factors. held: streams that no run varied. of: the primary metric first. refused: why nothing
    is divided, or ''. detectable_share: share from which a stream is shown in four of five studies. sentence: the answer; advice: what
    follows from it."""

    streams: tuple[str, ...]
    draws: int
    held: tuple[str, ...]
    of: tuple[VarianceOf, ...]
    refused: str
    detectable_share: float
    sentence: str
    advice: str


# What the analysis of a study says, as values: `analysis.json` is exactly this, and reports read nothing else
# but it and the traces.

FloorKind = Literal["noise", "nondeterminism"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Variant minus baseline on one outcome.

    method: `seed-blocked` is judged with all variants of the study, by one residual; `own pairs` rests on this arm's and the
        baseline's runs alone: of a study with one variant, of the placebo, of an arm whose control failed, and of one whose
        spread is unlike the others' (labelled `UNEQUAL VARIANCE`).
    family: variants judged together, over which interval and p are simultaneous; 1 for an arm by itself.
    effect, low, high: difference and its 95 % interval, in the metric's own unit; None where the runs give none. In a study
        with lost runs the effect is that of the incomplete layout, not the mean of `differences`.
    inner_low, inner_high: the interval that has to lie inside the smallest effect for `no effect`; simultaneous too.
    seeds: in which both arms have a value. differences: one per entry of `seeds`; the two means are over them as well.
    beats: share of these seeds in which the arm is better (higher, for an outcome without a better side); a tie is a half.
    hedges_g: difference over the sd of single runs, corrected for their number.
    p_value: adjusted for `family`, as the interval is. step_p: by steps, which decides.
    own_p: of the arm's own paired t; signflip_p: exact; neither is adjusted.
    residual_sd: of a run after arm and seed are taken out, in the metric's own unit. df: of the error.
    rho: measured between all arms judged together, over seeds.
    verdict: `none` when a control failed: a contaminated or no-op arm gets no verdict.
    floor: the larger of the two floors of this outcome; an effect that is not larger has no verdict either.
    labels: `LOW POWER`, ...
    sentence: the finding in words, figures included.
    bundle: the keys that move together as one declared change, in words; '' where one key moves.
    error: standard error of `effect` over seeds, with `df`.
    """

    arm: str
    axis: str
    level: Any
    baseline_level: Any
    metric: str
    unit: str
    primary: bool
    method: Literal["seed-blocked", "own pairs"]
    family: int
    effect: float | None
    low: float | None
    high: float | None
    inner_low: float | None
    inner_high: float | None
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    baseline_mean: float | None
    arm_mean: float | None
    beats: float | None
    hedges_g: float | None
    p_value: float | None
    own_p: float | None
    signflip_p: float | None
    residual_sd: float | None
    df: int
    rho: float | None
    verdict: VerdictKind
    seeds_needed: int | None
    labels: tuple[str, ...]
    sentence: str
    floor: float | None = None
    bundle: str = ""
    error: float | None = None
    step_p: float | None = None
    interval_level: float = 0.95
    """Of low and high; a look of a study with several has its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergenceRate:
    """How often an arm diverged, beside the baseline: an outcome of its own, over all runs that finished or diverged.

    runs: seeds in which both did either. low, high: 95 % Clopper-Pearson interval of the arm's rate.
    p_value: Fisher's exact test, two-sided, Holm over the variants.
    """

    arm: str
    count: int
    baseline_count: int
    runs: int
    rate: float
    low: float
    high: float
    p_value: float
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Floor:
    """How far apart runs lie that nothing was done to.

    kind: `noise` (the placebo: other order and dropout streams) or `nondeterminism` (the same seed twice).
    arms, seeds: what was paired with the baseline.
    values: root mean square of the differences, by outcome.
    same_weights: whether every pair ended with the same weights, bit for bit.
    """

    kind: FloorKind
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, float]
    same_weights: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayedLevel:
    """What one level of an observation axis would have shown, read from the baseline's dense record.

    first_look_steps, share_decrease_before_first_eval: the first look after training began, and the part of the eval loss's
        total fall (start to lowest) that lay before it, per seed (order of `seeds`) and as mean; for `log_every` the
        same of the training loss.
    curve: per seed, [[step, samples, value], ...] as the run at that cadence would have logged it.
    """

    arm: str
    axis: str
    level: Any
    looks: int
    seeds: tuple[int, ...]
    first_look_steps: int
    share_decrease_before_first_eval: float | None
    shares: tuple[float, ...]
    same_trajectory: bool
    curve: tuple[tuple[tuple[float, float, float], ...], ...]
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReading:
    """One run: how it ended and its value of every outcome (None where it has none)."""

    arm: str
    seed: int
    folder: str
    status: str
    sentence: str
    weights_sha256: str | None
    values: dict[str, float | None]
    throughput: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One cadence of one curve: what it would have shown, of every arm.

    every: `20 steps`, of the baseline for evaluations, of each arm for rows of a log. points: looks or rows of a baseline run.
    before_first: share of the curve's fall that lies before the first of them, the mean over seeds of the arm where it is most,
    latest; None where nothing falls. peak: of the gradient norm, the highest that the rows show by the highest of all steps,
    likewise of the arm where it is least. flips: `batch_size=64: lowers -> undecided`. truthful: no flip, and little before the
    first.
    """

    every: str
    points: int
    first_step: int
    before_first: float | None
    latest: str | None
    peak: float | None
    flips: tuple[str, ...]
    truthful: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Adequacy:
    """How coarsely one curve could have been recorded without telling something else.

    curve: `eval loss`, `train loss` or `grad norm`. metric: whose verdicts are read again at every cadence: the primary one
    where it is read from this curve. rungs: densest first, the first of them the record itself. coarsest: the last cadence up
    to which every one is truthful; None where not even the record is. advice: log-spaced looks and their cost; '' where there
    is none to give.
    """

    curve: str
    metric: str
    rungs: tuple[Rung, ...]
    coarsest: str | None
    sentence: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyMoved:
    """A key in which two configs differ, or several that move as one.

    moves: {dotted key: (first, second)}. brings: {derived quantity: (before, after)} of what comes with it by itself.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class LookMade:
    """One look. level: of its intervals. made: whether it has been. stopped: {variant: verdict} of those that it decided.
    going: variants that were undecided after it."""

    seeds: int
    level: float
    made: bool
    stopped: dict[str, str]
    going: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """How a study adds seeds. spending: how the looks share `alpha`. seeds: to which it is run now. runs: due up to there, and
    how many of them have a result; most_runs: if nothing more is decided before the last look. over: whether no look comes.
    sentences: what a reader has to know, most important first."""

    spending: str
    alpha: float
    looks: tuple[LookMade, ...]
    seeds: int
    runs: int
    done: int
    most_runs: int
    over: bool
    sentences: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """Everything a report shows, machine-readable."""

    study: str
    question: str
    command: str
    metric: str
    smallest_effect: float
    seeds: tuple[int, ...]
    metrics: tuple[MetricInfo, ...]
    arms: tuple[dict[str, Any], ...]
    """[{name, axis, level, kind, changes, bundle, derived, question, expect, source}], the baseline first."""
    contrasts: tuple[Contrast, ...]
    """Primary metric first, arm by arm in plan order; then the secondary outcomes."""
    divergences: tuple[DivergenceRate, ...]
    """Of the variants, in plan order; empty where no run of the baseline or of a variant diverged."""
    replays: tuple[ReplayedLevel, ...]
    controls: tuple[Control, ...]
    runs: tuple[RunReading, ...]
    floors: tuple[Floor, ...]
    """Of chance and of nondeterminism, as far as the plan has an arm that measures them."""
    conclusions: tuple[str, ...]
    """Plain sentences, most important first: what a person wants to know."""
    notes: tuple[str, ...]
    complete: bool
    """Whether every run of the plan has an outcome."""
    adequacy: tuple[Adequacy, ...] = ()
    """How coarse a cadence each curve bears; empty where no run has left a record of its own."""

    attribution: Attribution | None = None
    """Of a study between two configs."""
    effects: Effects | None = None
    """Of a study that moves several axes at once."""

    examples: Examples | None = None
    """The primary metric's contrasts over new examples as well, as far as runs have kept theirs."""

    budgets: Budgets | None = None
    """At which amount of training the arms are compared."""

    mediated: Mediated | None = None
    """Of a treatment whose mediator was held."""

    imported: Imported | None = None
    """Of a folder with runs that were made elsewhere."""

    looks: Looks | None = None
    """Of a study that adds seeds until its variants are decided."""

    variance: VarianceStudy | None = None
    """Of a study that tells two streams of chance apart."""

    def floor(self, kind: FloorKind, metric: str | None = None) -> float | None:
        """A floor of an outcome, the primary metric's by default; None where it was not measured."""
        found = [one.values.get(metric or self.metric) for one in self.floors if one.kind == kind]
        return found[0] if found else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

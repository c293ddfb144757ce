"""What the analysis of a study says, as values: `analysis.json` is exactly this, and reports read nothing else but it
and the traces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ablate.analysis.budget_values import Budgets
from ablate.analysis.effect_values import Effects
from ablate.analysis.example_values import Examples
from ablate.analysis.import_values import Imported
from ablate.analysis.mediated import Mediated
from ablate.analysis.shares import Part
from ablate.analysis.variance_values import VarianceStudy
from ablate.control.values import Control as Control

VerdictKind = Literal["helps", "hurts", "raises", "lowers", "no effect", "undecided", "none"]
FloorKind = Literal["noise", "nondeterminism"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Variant minus baseline on one outcome.

    method: `seed-blocked` is judged with all variants of the study, by one residual; `own pairs` rests on this arm's and the
        baseline's runs alone: of a study with one variant, of the placebo, of an arm whose control failed, and of one whose
        spread is unlike the others' (labelled `OWN VARIANCE`).
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

    first_look_steps, share_before_first_look: the first look after training began, and the part of the eval loss's
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
    share_before_first_look: float | None
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
class MetricInfo:
    """name, unit, definition; lower_is_better: None for an outcome with no better side. cadence: where runs are compared."""

    name: str
    unit: str
    definition: str
    lower_is_better: bool | None
    cadence: str = ""


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
    """How much of the difference between two configs each key makes, in the primary metric, over seeds with all corners.

    total, alone, interaction: what each key does by itself from the first config, and what they do only together; they add
        up to the total. shapley: the interaction divided evenly instead; adds up as well. No part has a share where `refused`
        says why nothing is divided.
    told: names of the parts that are told from 0, simultaneously over all of them; of a total that is not told, the keys that
        work against each other. told_evenly: of shapley's, which are had from every corner, and so are the surer ones where
        the keys hardly interact.
    undone: what each key does as the last to move; empty where these corners were not run. together: the difference is there
        only where several keys have moved, and none is told to make any of it by itself.
    orders: in which the keys were moved, where not every corner was run; 0 where all were.
    sentence: the answer; even: the second reading. left_out: seeds that lack a corner, in words.
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
    total: Part | None = None
    alone: tuple[Part, ...] = ()
    interaction: Part | None = None
    shapley: tuple[Part, ...] = ()
    told: tuple[str, ...] = ()
    told_evenly: tuple[str, ...] = ()
    refused: str = ""
    sentence: str = ""
    even: str = ""
    undone: tuple[Part, ...] = ()
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

"""Results of an analysis as values: `analysis.json` holds exactly these, and reports read only it and the traces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ablate.analysis.answer_results import Irregularity, Learning
from ablate.analysis.design_results import Attribution, Effects, Mediated, VarianceStudy
from ablate.controls.control import Control
from ablate.metrics.metric import MetricInfo
from ablate.stats.rates import PairedExamples
from ablate.stats.verdicts import VerdictKind


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmAmount:
    """What an arm's runs had had where they are read. A range over seeds where these differ: (least, most)."""

    arm: str
    steps: tuple[int, int]
    samples: tuple[int, int]
    of_steps: tuple[int, int]
    final_eval: tuple[float, float] | None = None
    """Of the final evaluation that is read, in the unit of the comparison."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budgets:
    """unit: `end` where the runs are compared as they ended; else they are read up to `amount` of it.

    reread: chosen in the reading and not by the plan. question: the question that the comparison point answers, in
    words. cautions: what a reader has to know of it.
    """

    unit: str
    amount: float | None = None
    reread: bool = False
    question: str = ""
    cautions: tuple[str, ...] = ()
    arms: tuple[ArmAmount, ...] = ()


Holds = Literal["new examples too", "this evaluation set only", ""]


@dataclass(frozen=True, kw_only=True, slots=True)
class OverExamples:
    """One contrast of the primary metric over seeds and examples. seeds: with kept examples in both arms.

    low, high: the 95% interval for new seeds and new examples, simultaneous over as many variants as the contrast's own.
    None where `refused` says why. example_share: of its squared error, what the choice of examples adds.
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

    scope: what the claims of the study are about. contrasts: empty where no run has kept its examples, or the primary
    metric is not a mean over them.
    """

    metric: str
    scope: str
    examples: int = 0
    groups: int = 0
    contrasts: tuple[OverExamples, ...] = ()

    def of(self, arm: str) -> OverExamples | None:
        return next((one for one in self.contrasts if one.arm == arm), None)


UNVERIFIED = "UNVERIFIED"
"""Label of every contrast whose arm could not be compared with the baseline: its cause is not known, whatever its interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedCurve:
    """How often one curve of one arm was logged, and what it cannot show for that; steps are those of the arm's first seed.

    curve: `eval loss`, `train loss`, `grad norm`. every: `500 steps`, or `about 500 steps` where the gaps differ.
        points: rows.
    before_first: share of the curve's fall that comes before the first evaluation after training began, mean over seeds;
        measured_on: the curve that it is read from; None and '' where nothing on record tells.
    rarely: whether that is more than a truthful cadence leaves; None where the record does not show it.
    """

    arm: str
    curve: Literal["eval loss", "train loss", "grad norm"]
    every: str
    points: int
    first_step: int
    last_step: int
    before_first: float | None
    measured_on: str
    rarely: bool | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """sources: a line for each imported run. alarms: (`IMPORTED`, sentence), most important first: what has to be read
    before any figure. differing: {arm: recorded settings in which it differs from the baseline, in words}. curves:
    cadence, curve by curve. not_read: outcomes that need every step, and have no value for that."""

    sources: tuple[str, ...]
    alarms: tuple[tuple[str, str], ...]
    differing: dict[str, tuple[str, ...]]
    curves: tuple[LoggedCurve, ...]
    not_read: tuple[str, ...]


FloorKind = Literal["noise", "nondeterminism"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Variant minus baseline on one metric.

    method: `seed-blocked` is judged with all variants of the study; `own pairs` uses the runs of this arm and the baseline
        alone: of a study with one variant, of the placebo, and of an arm whose control failed.
    family: number of variants judged together, over which interval and p are simultaneous; 1 for an arm by itself.
    effect, low, high: difference and its 95% interval, in the metric's own unit; None where the runs do not give one. In a
        study with lost runs the effect is that of the incomplete layout, not the mean of `differences`.
    error: standard error of `effect` over seeds. df: its degrees of freedom (Satterthwaite).
    pool_weight: weight of the residual of all arms in the squared error; the rest is the arm's own.
    inner_low, inner_high: the interval that has to be inside the smallest effect of interest for equivalence; simultaneous too.
    seeds: in which both arms have a value. differences: one per entry of `seeds`; the two means are over them as well.
    beats: share of seeds in which the arm is better (higher, for a metric without a better side); a tie is a half, and a run
        that diverged is the worst.
    hedges_g: difference over the sd of single runs, corrected for their number.
    p_value: adjusted for `family`, as the interval is. step_p: step-down, which decides.
    own_p: of the arm's own paired t. signflip_p: exact. Neither is adjusted.
    residual_sd, residual_df: of a run after arm and seed are taken out, in the metric's own unit.
    rho: measured between all arms judged together, over seeds.
    verdict: `none` when a control failed.
    corrected_effect: of a significant effect, without the excess of being selected by its significance.
    pair_low, pair_high: 95% prediction interval for the difference in one new pair of runs.
    floor: the larger of the two floors of this metric, for comparison.
    labels: `LOW POWER`, ...
    sentence: the finding in words, figures included.
    bundle: the keys that change together as one declared change, in words; '' where one key changes.
    """

    arm: str
    axis: str
    value: Any
    baseline_value: Any
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
    residual_df: int
    pool_weight: float
    df: float
    rho: float | None
    verdict: VerdictKind
    seeds_needed: int | None
    labels: tuple[str, ...]
    sentence: str
    floor: float | None = None
    bundle: str = ""
    error: float | None = None
    corrected_effect: float | None = None
    pair_low: float | None = None
    pair_high: float | None = None
    step_p: float | None = None
    confidence: float = 0.95
    """Confidence of low and high; an interim analysis has its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DivergenceRate:
    """How often an arm diverged, compared with the baseline, over all runs that finished or diverged.

    runs: number of seeds in which both did either. low, high: 95% Clopper-Pearson interval of the arm's rate.
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
    """Difference between runs of the same configuration.

    kind: `noise` (the placebo: other order and dropout streams) or `nondeterminism` (the same seed twice).
    arms, seeds: what was paired with the baseline.
    values: root mean square of the differences, by metric.
    same_weights: every pair ended with identical weights.
    """

    kind: FloorKind
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, float]
    same_weights: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ResampledCadence:
    """What one value of an observation axis would have shown, read from the baseline's dense record.

    first_eval_step, share_decrease_before_first_eval: the first evaluation after training began, and the part of the
        eval loss's total fall (start to lowest) that lay before it, per seed (order of `seeds`) and as mean; for
        `log_every` the same of the training loss.
    curve: per seed, [[step, samples, value], ...] as the run at that cadence would have logged it.
    """

    arm: str
    axis: str
    value: Any
    evaluations: int
    seeds: tuple[int, ...]
    first_eval_step: int
    share_decrease_before_first_eval: float | None
    shares: tuple[float, ...]
    same_trajectory: bool
    curve: tuple[tuple[tuple[float, float, float], ...], ...]
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReading:
    """One run: its status and its value of every metric (None where it has none)."""

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

    every: `20 steps`, of the baseline for evaluations, of each arm for rows of a log. points: evaluations or rows of a
    baseline run. before_first: share of the curve's fall that comes before the first of them, the mean over seeds of the
    arm where it is most, latest; None where nothing falls. peak: of the gradient norm, the highest that the rows show by
    the highest of all steps, likewise of the arm where it is least. flips: `batch_size=64: lowers -> undecided`.
    truthful: no flip, and little before the first.
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
    where it is read from this curve. rungs: densest first, the first of them the record itself. coarsest: the last
    cadence up to which every one is truthful; None where not even the record is. advice: log-spaced evaluations and
    their cost; '' where there is none to give.
    """

    curve: str
    metric: str
    rungs: tuple[Rung, ...]
    coarsest: str | None
    sentence: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class InterimAnalysis:
    """One interim analysis. level: of its intervals. made: whether it has been. stopped: {variant: verdict} of those
    that it decided. going: variants that were undecided after it."""

    seeds: int
    level: float
    made: bool
    stopped: dict[str, str]
    going: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class InterimAnalyses:
    """How a study adds seeds. spending: how the interim analyses share `alpha`. seeds: to which it is run now. runs: due
    up to there, and how many of them have a result; most_runs: if nothing more is decided before the last of them. over:
    whether no interim analysis is left. sentences: what a reader has to know, most important first."""

    spending: str
    alpha: float
    analyses: tuple[InterimAnalysis, ...]
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
    """[{name, axis, value, kind, changes, bundle, derived, question, expect, source}], the baseline first."""
    contrasts: tuple[Contrast, ...]
    """Primary metric first, arm by arm in plan order; then the secondary outcomes."""
    divergences: tuple[DivergenceRate, ...]
    """Of the variants, in plan order; empty where no run of the baseline or of a variant diverged."""
    replays: tuple[ResampledCadence, ...]
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
    """Of a study that moves several axes together."""

    examples: Examples | None = None
    """The primary metric's contrasts over new examples as well, as far as runs have kept theirs."""

    budgets: Budgets | None = None
    """At which amount of training the arms are compared."""

    mediated: Mediated | None = None
    """Of a treatment whose mediator was held."""

    imported: Imported | None = None
    """Of a folder with runs that were made elsewhere."""

    interim: InterimAnalyses | None = None
    """Of a study that adds seeds until its variants are decided."""

    learning: tuple[Learning, ...] = ()
    """Whether each arm learned, in plan order; an arm without an evaluation is left out."""

    observed: tuple[Contrast, ...] = ()
    """Contrasts of the cadences of `eval.every` with the record of the baseline, on the metrics of an eval curve."""

    irregularity: Irregularity | None = None
    """Of a study with a cadence of evaluations, or whose primary metric is an irregularity."""

    smoke_run: bool = False
    """A study at debug size: its verdicts are withheld."""

    variance: VarianceStudy | None = None
    """Of a study that tells two random streams apart."""

    def floor(self, kind: FloorKind, metric: str | None = None) -> float | None:
        """A floor of an outcome, the primary metric's by default; None where it was not measured."""
        found = [one.values.get(metric or self.metric) for one in self.floors if one.kind == kind]
        return found[0] if found else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

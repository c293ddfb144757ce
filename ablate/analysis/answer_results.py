"""Results that come before every effect: did each arm learn, and which suspect removes an irregular eval curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Learning:
    """Whether the runs of one arm learned.

    metric: accuracy where it was evaluated, else the loss, else the primary metric's curve.
    start, last: means over seeds of the evaluation before training and of the last one; for a loss the lowest one, because an
        overfit is not a failure to learn.
    majority: accuracy of a model that always predicts the most frequent class of the evaluation set; None where it is unknown.
    noise: two standard errors of `last`, over evaluation examples and seeds.
    learned: `last` is better than `start` and `majority` by more than `noise`; None without an evaluation before training.
    failed_seeds: seeds whose own run is not better than that, by its own evaluation examples.
    """

    arm: str
    metric: str
    seeds: tuple[int, ...]
    start: float | None
    last: float | None
    majority: float | None
    noise: float | None
    learned: bool | None
    failed_seeds: tuple[int, ...]
    sentence: str


Outcome = Literal["removes", "reduces", "worsens", "not shown", "no verdict"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A change that may remove the irregularity of the baseline's eval curve.

    change: in words. kind: `training` where the runs themselves differ, `observation` where only their evaluations do.
    before, after: mean irregularity at the cadence of the symptom, of the baseline and of the arm; of an `observation` after
        reading all evaluations of the record.
    effect, low, high, verdict: as of a contrast. removed: share of `before` that is gone.
    outcome: `removes` (significant, and the curve is regular afterwards), `reduces` (significant), `worsens`, `not shown`.
    grad_norm_before, grad_norm_after, grad_norm_verdict: of the gradient-norm spread; None and '' for an `observation`.
    """

    arm: str
    change: str
    kind: Literal["training", "observation"]
    before: float | None
    after: float | None
    effect: float | None
    low: float | None
    high: float | None
    removed: float | None
    verdict: str
    outcome: Outcome
    grad_norm_before: float | None = None
    grad_norm_after: float | None = None
    grad_norm_verdict: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Irregularity:
    """Which suspects remove the irregularity of the baseline's eval curve, and how.

    cadence: at which the symptom is read: that of the record if the baseline is irregular there, else the coarsest at which it
        is. record: cadence of the record. coarsest: the coarsest cadence of the study that has enough evaluations; '' without.
    threshold: irregularity from which a curve is called irregular. baseline, sd: at `cadence`, over seeds. at_record,
        at_coarsest: mean at all evaluations of the record and at the coarsest cadence.
    present: whether the symptom is there; None where it is not known. suspects: empty unless it is.
    one_cause: a change of the training and the cadence both remove it, and are two explanations of one thing; None where not
        both do.
    answer: in one sentence. sentences: what follows from it, and the gradient norm.
    """

    metric: str
    cadence: str
    record: str
    threshold: float
    baseline: float | None
    sd: float | None
    at_record: float | None
    coarsest: str
    at_coarsest: float | None
    present: bool | None
    suspects: tuple[Suspect, ...] = ()
    one_cause: bool | None = None
    answer: str = ""
    sentences: tuple[str, ...] = ()

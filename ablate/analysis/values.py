"""What the analysis of a study says, as values: `analysis.json` is exactly this, and reports read nothing else but it
and the traces."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ablate.control.values import Control as Control

VerdictKind = Literal["helps", "hurts", "raises", "lowers", "no effect", "undecided", "none"]
FloorKind = Literal["noise", "nondeterminism"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrast:
    """Variant minus baseline on one outcome, paired by seed.

    effect, low, high: mean difference and its 95 % t interval, in the metric's own unit; None when fewer than two
        seeds are paired.
    differences: one per entry of `seeds`.
    verdict: `none` when a control failed: a contaminated or no-op arm gets no verdict.
    floor: the larger of the two floors of this outcome; an effect that is not larger has no verdict either.
    labels: `LOW POWER`, ...
    sentence: the finding in words, figures included.
    bundle: the keys that move together as one declared change, in words; '' where one key moves.
    """

    arm: str
    axis: str
    level: Any
    baseline_level: Any
    metric: str
    unit: str
    primary: bool
    effect: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    baseline_mean: float | None
    arm_mean: float | None
    p_value: float | None
    rho: float | None
    verdict: VerdictKind
    seeds_needed: int | None
    labels: tuple[str, ...]
    sentence: str
    floor: float | None = None
    bundle: str = ""


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
    """name, unit, definition; lower_is_better: None for an outcome with no better side."""

    name: str
    unit: str
    definition: str
    lower_is_better: bool | None


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

    def floor(self, kind: FloorKind, metric: str | None = None) -> float | None:
        """A floor of an outcome, the primary metric's by default; None where it was not measured."""
        found = [one.values.get(metric or self.metric) for one in self.floors if one.kind == kind]
        return found[0] if found else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

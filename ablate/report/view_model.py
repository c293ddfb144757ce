"""What a report shows, in words and figures, before a renderer lays it out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate import formatting as fmt
from ablate.analysis.results import Analysis, Contrast, Floor, ResampledCadence
from ablate.analysis.summary import method
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.metrics.custom import NOT_RUN
from ablate.metrics.metric import MetricInfo
from ablate.report.headline import headline
from ablate.report.power import seeds_needed
from ablate.stats.verdicts import DECIDED

NOISE_FLOOR = "noise floor"
"""What the placebo has instead of a verdict, unless it moved."""

_FURTHER = ("eval_loss", "eval_accuracy")
_GRADIENT = ("grad_norm_median", "grad_norm_p95_p5", "grad_norm_max", "clip_fraction", "grad_norm_spikes")
SPREAD = "grad_norm_p95_p5"
"""How far the gradient norm spreads, whose verdict is in the table of gradient norms."""
_MANY_CLIPPED = 0.2
"""Share of clipped steps from which clipping is part of how a result is read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmView:
    """One arm of the study."""

    name: str
    change: str
    """`batch_size 8 → 64`."""
    kind: str | None
    axis: str | None
    question: str
    expect: str
    source: str
    changes: Mapping[str, Any]
    derived: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One contrast, as a reader sees it."""

    arm: ArmView
    contrast: Contrast
    effect: str
    interval: str
    verdict: str
    remark: str
    """Labels of this contrast that not all primary contrasts share."""
    beats: str
    """Share of seeds in which the arm is better, or higher where there is no better side."""
    hedges_g: str
    p: str
    """Adjusted for the variants."""

    @property
    def significant(self) -> bool:
        return self.contrast.verdict in DECIDED


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeView:
    """One metric: mean and sd over seeds of every arm, and the contrast of each variant and each observed cadence."""

    info: MetricInfo
    means: Mapping[str, float | None]
    sds: Mapping[str, float | None]
    rows: Mapping[str, Row]

    def of(self, arm: str) -> tuple[str, str]:
        """Return mean and sd of an arm, `0.573` and `± 0.012`, to two digits of the largest sd; `''` for a single run's sd."""
        mean, sd = self.means.get(arm), self.sds.get(arm)
        largest = max((one for one in self.sds.values() if one is not None and math.isfinite(one)), default=0.0)
        if mean is None or not math.isfinite(mean) or sd is None or not largest:
            return fmt.figure(mean), ""
        decimals = min(5, max(0, 1 - fmt.magnitude(largest)))
        return fmt.number(mean, decimals), f"± {fmt.number(sd, decimals)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorView:
    """What one kind of A/A runs differ by. value: on the primary metric."""

    name: str
    value: str
    sentence: str
    floor: Floor

    def of(self, outcome: str) -> str:
        """Return the floor of any metric; a dash where it has none."""
        return fmt.figure(self.floor.values.get(outcome), 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The whole report."""

    analysis: Analysis
    metric: MetricInfo
    arms: tuple[ArmView, ...]
    primary: tuple[Row, ...]
    """One row per variant; the placebo last."""
    outcomes: tuple[OutcomeView, ...]
    floors: tuple[FloorView, ...]
    replays: Mapping[str, tuple[ResampledCadence, ...]]
    """Observation axes by name."""
    headline: str
    """The answer of a design that asks for more than contrasts; else every verdict in one sentence."""

    def arm(self, name: str) -> ArmView:
        """Return an arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def style(self, arm: ArmView) -> str:
        """Return `baseline`, `placebo` (of both A/A arms), or `v1` to `v6`: the colour of an arm in tables and curves."""
        if arm.kind in ("placebo", "rerun"):
            return "placebo"
        number = self.variant_number(arm)
        return "baseline" if number is None else f"v{number % 6 + 1}"

    def variant_number(self, arm: ArmView) -> int | None:
        """Return the index of a variant among the variants; None for any other arm."""
        variants = [other.name for other in self.trained if other.axis is not None and other.kind != "placebo"]
        return variants.index(arm.name) if arm.name in variants else None

    @property
    def trained(self) -> tuple[ArmView, ...]:
        """Return the arms that are compared: those with runs of their own, without the baseline's repeat."""
        return tuple(arm for arm in self.arms if arm.kind not in ("observation", "rerun"))

    @property
    def compared(self) -> tuple[ArmView, ...]:
        """Return the arms of the result: those that were trained, and cadences with an effect on the primary metric."""
        known = self.outcome(self.metric.name)
        observed = (
            arm for arm in self.arms if arm.kind == "observation" and known is not None and arm.name in known.rows
        )
        return (*self.trained, *observed)

    @property
    def heading(self) -> str:
        """Return the arms and seeds of the study: `3 arms + placebo × 3 seeds`."""
        if (variance := self.analysis.variance) is not None:
            return (
                f"{variance.draws} {variance.streams[0]} × {variance.draws} {variance.streams[1]} draws of one config"
            )
        kinds = [arm.kind for arm in self.trained]
        placebos = kinds.count("placebo")
        parts = [fmt.counted(len(kinds) - placebos, "arm")]
        parts += ["placebo"] if placebos == 1 else [f"{placebos} placebos"] if placebos else []
        return f"{' + '.join(parts)} × {fmt.counted(len(self.analysis.seeds), 'seed')}"

    @property
    def direction(self) -> str:
        return direction(self.metric)

    @property
    def method(self) -> str:
        """Return what the primary metric's intervals are."""
        return method(self.analysis.contrasts)

    @property
    def question(self) -> str:
        """Return `Compared at equal steps (16): ...`; empty where no run has finished."""
        budgets = self.analysis.budgets
        return f"Compared {fmt.typeset(budgets.question)}." if budgets is not None and budgets.question else ""

    @property
    def budget_cautions(self) -> tuple[str, ...]:
        """Return what changes the reading of that comparison."""
        cautions = self.analysis.budgets.cautions if self.analysis.budgets is not None else ()
        return tuple(fmt.typeset(f"{text[:1].upper()}{text[1:]}.") for text in cautions)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Return all that changes the reading of the answer, most important first."""
        labels = tuple({label for row in self.primary for label in row.contrast.labels})
        sentences = tuple(
            text for text in self.conclusions if labels and text.startswith(labels) and text not in self.headline
        )
        named = " ".join((*sentences, self.headline))
        alone = [label for label in self.shared_labels if label not in named]
        incomplete = () if self.analysis.complete else ("NOT COMPLETE: some runs of the plan have no result yet.",)
        labelled = (f"{', '.join(alone)}.",) if alone else ()
        return (*incomplete, *self._failures(), *self.budget_cautions, *labelled, *sentences, *self._clipped())

    def _failures(self) -> Iterator[str]:
        """Controls that were not passed; the headline names arms that did not learn."""
        return (text for text in self.control_failures if ": learned failed" not in text)

    def _clipped(self) -> Iterator[str]:
        outcome = self.outcome("clip_fraction")
        shares = {arm.name: outcome.means.get(arm.name) or 0.0 for arm in self.trained} if outcome else {}
        if shares and max(shares.values()) >= _MANY_CLIPPED:
            yield f"CLIPPED: the gradient of up to {fmt.percent(max(shares.values()))} of an arm's steps."

    @property
    def shared_labels(self) -> tuple[str, ...]:
        """Return the labels that every primary contrast has: they are shown once, and not in every row."""
        return _shared(self.analysis)

    @property
    def conclusions(self) -> tuple[str, ...]:
        return tuple(fmt.typeset(sentence) for sentence in self.analysis.conclusions)

    @property
    def alarms(self) -> tuple[tuple[str, str], ...]:
        """Return (label, sentence) to be read before any figure: a metric that was not run, and about imported runs."""
        imported = self.analysis.imported
        not_run = [one.name for one in self.analysis.metrics if one.definition == NOT_RUN]
        first = tuple(("NOT COMPUTED", f"{name}. {NOT_RUN.partition(': ')[2].capitalize()}") for name in not_run)
        return first + (tuple((label, fmt.typeset(text)) for label, text in imported.alarms) if imported else ())

    @property
    def repeated(self) -> Mapping[str, str]:
        """Return {arm: sentence} of the same seed twice; it has no contrast, because nothing was varied."""
        found = {floor.floor.kind: floor.sentence for floor in self.floors}
        arms = [arm.name for arm in self.arms if arm.kind == "rerun"]
        return {name: found.get("nondeterminism", "not measured yet") for name in arms}

    @property
    def troubles(self) -> tuple[tuple[str, str], ...]:
        """Return (status, sentence naming the runs) for all that did not finish; runs that ended alike are named together."""
        alike: dict[tuple[str, str], list[str]] = {}
        for run in self.analysis.runs:
            if run.status != "finished":
                alike.setdefault((run.status, run.sentence), []).append(f"{run.arm}, seed {run.seed}")
        return tuple((status, f"{'; '.join(named)}: {sentence}") for (status, sentence), named in alike.items())

    @property
    def controls(self) -> tuple[tuple[str, str], ...]:
        """Return (control, `3/3 checked`) per kind of control."""
        controls = self.analysis.controls
        found = dict.fromkeys(["one_variable", "matched", "took_effect", *(control.name for control in controls)])
        states = {name: [one.status == "checked" for one in controls if one.name == name] for name in found}
        return tuple(
            (name.replace("_", " "), f"{sum(each)}/{len(each)} checked") for name, each in states.items() if each
        )

    @property
    def control_failures(self) -> tuple[str, ...]:
        """Return a sentence for every kind of control that was not passed; of several arms, the first one's reason."""
        alike: dict[tuple[str, str], list[Control]] = {}
        for control in self.analysis.controls:
            if control.status != "checked":
                alike.setdefault((control.name.replace("_", " "), control.status), []).append(control)
        found = []
        for (name, status), failed in alike.items():
            told = len(failed) == 1 and failed[0].arm in failed[0].sentence
            subject = "" if told else f"{fmt.joined(one.arm for one in failed)}: "
            found.append(fmt.typeset(f"{subject}{name} {status}: {failed[0].sentence}"))
        return tuple(found)

    @property
    def held(self) -> tuple[str, ...]:
        """Return the items found equal in every trained variant; an observation axis is the baseline's own run."""
        variants = {arm.name for arm in self.arms if arm.axis is not None and arm.kind != "observation"}
        matches = [one for one in self.analysis.controls if one.name == "matched" and one.arm in variants]
        return tuple(item for item in (matches[0].held if matches else ()) if all(item in one.held for one in matches))

    def outcome(self, name: str) -> OutcomeView | None:
        """Return a metric by its name; None for one that the study does not have."""
        return next((one for one in self.outcomes if one.info.name == name), None)

    @property
    def further(self) -> tuple[OutcomeView, ...]:
        """Return up to two metrics of the evaluations to show next to the primary one."""
        others = [one.info.name for one in self.outcomes if one.info.name.startswith("eval_")]
        return self._read((*_FURTHER, *others))[:2]

    @property
    def gradient(self) -> tuple[OutcomeView, ...]:
        """Return the metrics of the gradient norm that a narrow table shows."""
        return self._read(_GRADIENT)

    def _read(self, names: Sequence[str]) -> tuple[OutcomeView, ...]:
        skipped = {self.metric.name, *(self.analysis.imported.not_read if self.analysis.imported else ())}
        found = [self.outcome(name) for name in dict.fromkeys(names) if name not in skipped]
        return tuple(one for one in found if one is not None and any(mean is not None for mean in one.means.values()))

    def seeds_needed(self, row: Row) -> str:
        """Return how many seeds an inconclusive contrast needs, in words; empty for any other."""
        if row.contrast.verdict != "inconclusive" or row.verdict == NOISE_FLOOR:
            return ""
        return seeds_needed(row.contrast, self.analysis.smallest_effect, named(self.metric))


def make_view(analysis: Analysis) -> View:
    """Build the view. Pure: the same analysis gives the same view."""
    arms = tuple(_arm(arm, analysis.contrasts) for arm in analysis.arms)
    metric = next(info for info in analysis.metrics if info.name == analysis.metric)
    by_name = {arm.name: arm for arm in arms}
    rows = [_row(contrast, by_name[contrast.arm], analysis) for contrast in analysis.contrasts if contrast.primary]
    replays: dict[str, tuple[ResampledCadence, ...]] = {}
    for level in analysis.replays:
        replays[level.axis] = (*replays.get(level.axis, ()), level)
    return View(
        analysis=analysis,
        metric=metric,
        arms=arms,
        primary=tuple(sorted(rows, key=lambda row: row.arm.kind == "placebo")),
        outcomes=tuple(_outcome(info, by_name, analysis) for info in analysis.metrics),
        floors=tuple(_floor(floor, metric) for floor in analysis.floors),
        replays=replays,
        headline=headline(analysis, [row for row in rows if row.verdict != NOISE_FLOOR], tuple(replays), metric),
    )


def direction(metric: MetricInfo) -> str:
    """Return `lower is better`, `higher is better` or `no better side`."""
    if metric.lower_is_better is None:
        return "no better side"
    return "lower is better" if metric.lower_is_better else "higher is better"


def interval_head(view: View) -> str:
    """Return `95% interval`; `interval` for a sequential study, whose intervals have the confidence of their analysis."""
    return "95% interval" if view.analysis.interim is None else "interval"


def beats_what(metric: MetricInfo) -> str:
    """Return the heading of `Row.beats`: `beats baseline`, or `above baseline` without a better side."""
    return "above baseline" if metric.lower_is_better is None else "beats baseline"


def named(metric: MetricInfo) -> str:
    """Return `eval_loss (nats)`; the name alone where there is no unit."""
    return f"{metric.name} ({metric.unit})" if metric.unit else metric.name


def resampled(levels: Sequence[ResampledCadence]) -> str:
    """Return an observation axis in one sentence: it changed nothing, and this is what its values would have missed."""
    if not all(level.same_trajectory for level in levels):
        return "NOT the same trajectory: evaluating changed the training"
    shares = [level.share_decrease_before_first_eval for level in levels]
    missed = [f"{fmt.percent(share)} at {show(level.value)}" for share, level in zip(shares, levels, strict=True)]
    return f"same training runs, recorded less often; decrease before the first point: {fmt.joined(missed)}"


def floors_sentence(view: View) -> str:
    """Return `Single runs of the same config differ by: noise floor 0.019, nondeterminism floor 0.`"""
    text = ", ".join(f"{floor.name} {floor.value}" for floor in view.floors)
    return f"Single runs of the same config differ by: {text}." if text else ""


def _floor(floor: Floor, metric: MetricInfo) -> FloorView:
    value = fmt.figure(floor.values.get(metric.name), 2)
    name = f"{floor.kind} floor"
    same = "same weights bit for bit" if floor.same_weights else "other weights"
    twice = "same seed twice, " + same if floor.kind == "nondeterminism" else "other order and dropout"
    return FloorView(name=name, value=value, sentence=f"{twice}: {name} {value}", floor=floor)


def _arm(arm: Mapping[str, Any], contrasts: Sequence[Contrast]) -> ArmView:
    name = str(arm["name"])
    contrast = next((item for item in contrasts if item.arm == name), None)
    return ArmView(
        name=name,
        change=_change(arm, contrast),
        kind=arm.get("kind"),
        axis=arm.get("axis"),
        question=arm.get("question") or "",
        expect=arm.get("expect") or "",
        source=arm.get("source") or "",
        changes=arm.get("changes") or {},
        derived=arm.get("derived") or {},
    )


def _change(arm: Mapping[str, Any], contrast: Contrast | None) -> str:
    bundled = isinstance(arm.get("value"), Mapping) or arm.get("kind") == "placebo"
    if arm.get("bundle"):
        return fmt.typeset(str(arm["bundle"]))
    if contrast is None or bundled or isinstance(contrast.baseline_value, Mapping):
        return str(arm["name"])
    return f"{contrast.axis} {show(contrast.baseline_value)} → {show(contrast.value)}"


def _shared(analysis: Analysis) -> tuple[str, ...]:
    primary = [contrast.labels for contrast in analysis.contrasts if contrast.primary]
    return (
        tuple(label for label in primary[0] if all(label in labels for labels in primary)) if len(primary) > 1 else ()
    )


def _row(contrast: Contrast, arm: ArmView, analysis: Analysis) -> Row:
    noise = analysis.floor("noise", contrast.metric)
    undecided = contrast.verdict not in (*DECIDED, "none")
    decimals = 2 if contrast.effect is None else fmt.effect_decimals(contrast.effect, contrast.low, contrast.high)
    shared = _shared(analysis)
    verdict: str = "no verdict" if contrast.verdict == "none" else contrast.verdict
    remarks = [label for label in contrast.labels if label not in shared]
    ends = contrast.low, contrast.high
    if contrast.verdict == "equivalent":  # the interval that the verdict rests on
        ends = contrast.inner_low, contrast.inner_high
        remarks.insert(0, "equivalence interval")
    if arm.kind == "placebo" and contrast.primary and noise is not None and undecided:
        verdict, remarks = NOISE_FLOOR, [fmt.figure(noise, 2)]
    return Row(
        arm=arm,
        contrast=contrast,
        effect=fmt.number(contrast.effect, decimals),
        interval=fmt.interval(*ends, decimals),
        verdict=verdict,
        remark=", ".join(remarks),
        beats=fmt.percent(contrast.beats),
        hedges_g=fmt.figure(contrast.hedges_g, 2),
        p=fmt.p_value(contrast.p_value),
    )


def _outcome(info: MetricInfo, arms: Mapping[str, ArmView], analysis: Analysis) -> OutcomeView:
    means: dict[str, float | None] = {}
    sds: dict[str, float | None] = {}
    for arm in arms:
        read = [run.values.get(info.name) for run in analysis.runs if run.arm == arm]
        values = [value for value in read if value is not None]
        means[arm] = float(np.mean(values)) if values else None
        sds[arm] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    mine = [contrast for contrast in (*analysis.contrasts, *analysis.observed) if contrast.metric == info.name]
    means |= {contrast.arm: contrast.arm_mean for contrast in mine if means[contrast.arm] is None}
    rows = {contrast.arm: _row(contrast, arms[contrast.arm], analysis) for contrast in mine}
    return OutcomeView(info=info, means=means, sds=sds, rows=rows)

"""What a report shows, in words and figures, before a renderer lays it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate import formatting as fmt
from ablate.analysis.contrasts import ONE_SIDED
from ablate.analysis.results import UNVERIFIED, Analysis, Contrast, Floor, ResampledCadence, RunReading
from ablate.analysis.summary import method
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.metrics.metric import MetricInfo

TONES = {
    "helps": "good",
    "hurts": "bad",
    "raises": "moved",
    "lowers": "moved",
    "equivalent": "still",
    "inconclusive": "open",
    "none": "broken",
    "interact": "moved",
}
"""Colour of a verdict."""

MEDIATION_VERDICTS = {
    "all": "all of it",
    "some or all": "some or all of it",
    "part": "part of it",
    "not all": "not all of it",
    "none": "none of it",
    "against": "works against it",
    "beyond": "more than all of it",
    "inconclusive": "inconclusive",
    "not held": "NOT HELD",
    "none given": "none given",
}
_SUMMARY = ("eval_loss", "grad_norm_p95_p5", "grad_norm_max", "grad_norm_median")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmView:
    """One arm of the study."""

    name: str
    change: str
    """`batch_size 8 → 64`."""
    number: int
    """Position among the arms."""
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
    beats: str
    """Share of seeds in which the arm is better, or higher where there is no better side."""
    hedges_g: str
    p: str
    """Adjusted for the variants."""
    tone: str
    """`good`, `bad`, `moved`, `still`, `open`, `broken` or `floor`; decides the colour only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeView:
    """One metric over all trained arms: the mean over seeds of each, and each variant's contrast."""

    info: MetricInfo
    means: Mapping[str, float | None]
    rows: Mapping[str, Row]


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlsView:
    """State of all controls."""

    summary: tuple[tuple[str, str], ...]
    """(words, figures) pairs for one line."""
    failures: tuple[str, ...]
    """One sentence each."""
    held: tuple[str, ...]
    """Items proven equal in every arm."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorView:
    """What one kind of A/A runs differ by."""

    name: str
    """`noise floor`."""
    value: str
    """On the primary metric."""
    sentence: str
    floor: Floor

    def of(self, outcome: str) -> str:
        """Return the floor of any metric; a dash where it has none."""
        return fmt.figure(self.floor.values.get(outcome), 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The whole report."""

    analysis: Analysis
    heading: str
    metric: MetricInfo
    direction: str
    method: str
    """What the primary metric's intervals are."""
    arms: tuple[ArmView, ...]
    primary: tuple[Row, ...]
    """One row per variant; the placebo last."""
    outcomes: tuple[OutcomeView, ...]
    replays: Mapping[str, tuple[ResampledCadence, ...]]
    """Observation axes by name."""
    floors: tuple[FloorView, ...]
    controls: ControlsView
    troubles: tuple[tuple[str, str], ...]
    """(status, sentence naming the runs) for all that did not finish."""
    headline: str
    """The answer of a design that asks for more than contrasts; else every verdict in one sentence."""
    conclusions: tuple[str, ...]
    question: str
    """`Compared at equal steps (16): ...`; empty where no run has finished."""
    cautions: tuple[str, ...]
    """What changes the reading of that comparison."""
    alarms: tuple[tuple[str, str], ...]
    """(label, sentence) about imported runs, most important first; to be read before any figure."""

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
    def repeated(self) -> Mapping[str, str]:
        """Return {arm: sentence} of the same seed twice; it has no contrast, because nothing was varied."""
        found = {floor.floor.kind: floor.sentence for floor in self.floors}
        arms = [arm.name for arm in self.arms if arm.kind == "rerun"]
        return {name: found.get("nondeterminism", "not measured yet") for name in arms}

    @property
    def summary(self) -> tuple[OutcomeView, ...]:
        """Return the metrics that fit a narrow table: at most four, the primary one first."""
        skipped = self.analysis.imported.not_read if self.analysis.imported else ()
        known = {outcome.info.name: outcome for outcome in self.outcomes if outcome.info.name not in skipped}
        wanted = dict.fromkeys((self.metric.name, *_SUMMARY))
        return tuple(known[name] for name in wanted if name in known)[:4]


def make_view(analysis: Analysis) -> View:
    """Build the view. Pure: the same analysis gives the same view."""
    arms = tuple(_arm(arm, number, analysis.contrasts) for number, arm in enumerate(analysis.arms))
    metric = next(info for info in analysis.metrics if info.name == analysis.metric)
    by_name = {arm.name: arm for arm in arms}
    rows = [_row(contrast, by_name[contrast.arm], analysis) for contrast in analysis.contrasts if contrast.primary]
    replays: dict[str, tuple[ResampledCadence, ...]] = {}
    for level in analysis.replays:
        replays[level.axis] = (*replays.get(level.axis, ()), level)
    return View(
        analysis=analysis,
        heading=_heading(analysis, arms),
        metric=metric,
        direction=direction(metric),
        method=method(analysis.contrasts),
        arms=arms,
        primary=tuple(sorted(rows, key=lambda row: row.arm.kind == "placebo")),
        outcomes=tuple(_outcome(info, arms, analysis) for info in analysis.metrics),
        replays=replays,
        floors=tuple(_floor(floor, metric) for floor in analysis.floors),
        controls=_controls(analysis, arms),
        troubles=_troubles(analysis.runs),
        headline=_answer(analysis) or _headline([row for row in rows if row.tone != "floor"], tuple(replays), metric),
        conclusions=tuple(fmt.typeset(sentence) for sentence in analysis.conclusions),
        question=_question(analysis),
        cautions=_cautions(analysis),
        alarms=tuple(
            (label, fmt.typeset(text)) for label, text in (analysis.imported.alarms if analysis.imported else ())
        ),
    )


def _question(analysis: Analysis) -> str:
    budgets = analysis.budgets
    return f"Compared {fmt.typeset(budgets.question)}." if budgets is not None and budgets.question else ""


def _cautions(analysis: Analysis) -> tuple[str, ...]:
    cautions = analysis.budgets.cautions if analysis.budgets is not None else ()
    return tuple(fmt.typeset(f"{text[:1].upper()}{text[1:]}.") for text in cautions)


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


def level_name(level: ResampledCadence) -> str:
    """Return `eval_every 512 samples`."""
    return f"{level.axis} {show(level.value)}"


def resampled(levels: Sequence[ResampledCadence]) -> str:
    """Return an observation axis in one sentence: it changed nothing, and this is what its values would have missed."""
    if not all(level.same_trajectory for level in levels):
        return "NOT the same trajectory: evaluating changed the training"
    shares = [level.share_decrease_before_first_eval for level in levels]
    missed = [f"{fmt.percent(share)} at {show(level.value)}" for share, level in zip(shares, levels, strict=True)]
    same = "same training run, evaluated less often"
    return f"{same}; decrease before the first evaluation: {fmt.joined(missed)}"


def floors_sentence(view: View) -> str:
    """Return `Noise floor 0.019, nondeterminism floor 0: an effect that is not larger gets no verdict.`"""
    text = ", ".join(f"{floor.name} {floor.value}" for floor in view.floors)
    return f"{text[:1].upper()}{text[1:]}: an effect that is not larger gets no verdict." if text else ""


def _floor(floor: Floor, metric: MetricInfo) -> FloorView:
    value = fmt.figure(floor.values.get(metric.name), 2)
    name = f"{floor.kind} floor"
    same = "same weights bit for bit" if floor.same_weights else "other weights"
    twice = "same seed twice, " + same if floor.kind == "nondeterminism" else "other order and dropout"
    sentence = f"{twice}: {name} {value}"
    return FloorView(name=name, value=value, sentence=sentence, floor=floor)


def _heading(analysis: Analysis, arms: Sequence[ArmView]) -> str:
    if (variance := analysis.variance) is not None:
        return f"{variance.draws} {variance.streams[0]} × {variance.draws} {variance.streams[1]} draws of one config"
    placebos = sum(arm.kind == "placebo" for arm in arms)
    trained = sum(arm.kind not in ("placebo", "rerun", "observation") for arm in arms)
    axes = len({arm.axis for arm in arms if arm.kind == "observation"})
    parts = [fmt.counted(trained, "arm")]
    parts += ["placebo"] if placebos == 1 else [f"{placebos} placebos"] if placebos else []
    text = f"{' + '.join(parts)} × {fmt.counted(len(analysis.seeds), 'seed')}"
    text += ", repeat" if any(arm.kind == "rerun" for arm in arms) else ""
    return f"{text}, {axes} replayed {'axis' if axes == 1 else 'axes'}" if axes else text


def _arm(arm: Mapping[str, Any], number: int, contrasts: Sequence[Contrast]) -> ArmView:
    name = str(arm["name"])
    contrast = next((item for item in contrasts if item.arm == name), None)
    return ArmView(
        name=name,
        change=_change(arm, contrast),
        number=number,
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


def _row(contrast: Contrast, arm: ArmView, analysis: Analysis) -> Row:
    noise = analysis.floor("noise", contrast.metric)
    floor = arm.kind == "placebo" and contrast.primary and noise is not None
    decimals = _decimals(contrast)
    remarks = list(contrast.labels)
    if contrast.verdict == "inconclusive" and contrast.seeds_needed:
        remarks.insert(0, f"needs about {contrast.seeds_needed} seeds")
    verdict: str = "no verdict" if contrast.verdict == "none" else contrast.verdict
    moved = contrast.verdict in ("helps", "hurts", "raises", "lowers")
    if floor and not moved and contrast.verdict != "none":
        sided = [label for label in contrast.labels if label == ONE_SIDED]
        verdict, remarks = "noise floor", [fmt.figure(noise, 2), *sided]
    return Row(
        arm=arm,
        contrast=contrast,
        effect=fmt.number(contrast.effect, decimals),
        interval=fmt.interval(contrast.low, contrast.high, decimals),
        verdict=verdict,
        remark=", ".join(remarks),
        beats=fmt.percent(contrast.beats),
        hedges_g=fmt.figure(contrast.hedges_g, 2),
        p=fmt.p_value(contrast.p_value),
        tone="floor" if verdict == "noise floor" else TONES[contrast.verdict],
    )


def _decimals(contrast: Contrast) -> int:
    return 2 if contrast.effect is None else fmt.effect_decimals(contrast.effect, contrast.low, contrast.high)


def _outcome(info: MetricInfo, arms: Sequence[ArmView], analysis: Analysis) -> OutcomeView:
    means: dict[str, float | None] = {}
    for arm in arms:
        read = [run.values.get(info.name) for run in analysis.runs if run.arm == arm.name]
        values = [value for value in read if value is not None]
        means[arm.name] = float(np.mean(values)) if values else None
    by_name = {arm.name: arm for arm in arms}
    mine = [contrast for contrast in analysis.contrasts if contrast.metric == info.name]
    return OutcomeView(
        info=info,
        means=means,
        rows={contrast.arm: _row(contrast, by_name[contrast.arm], analysis) for contrast in mine},
    )


def _answer(analysis: Analysis) -> str:
    """Return the answer of a design that asks for more than contrasts with the baseline; empty for any other."""
    if analysis.attribution is not None:
        return fmt.typeset(analysis.attribution.sentence)
    if analysis.mediated is not None:
        through = [f"through {one.label}: {MEDIATION_VERDICTS[one.verdict]}" for one in analysis.mediated.held]
        sentences = [analysis.mediated.sentence, *([f"Goes {'; '.join(through)}."] if through else [])]
        return fmt.typeset(" ".join(sentences))
    if analysis.effects is not None:
        return fmt.typeset(" ".join(analysis.effects.sentences[:2]))
    return fmt.typeset(analysis.variance.sentence) if analysis.variance is not None else ""


def _headline(rows: Sequence[Row], observed: Sequence[str], metric: MetricInfo) -> str:
    """Return `batch_size 8 → 64 hurts eval_loss (+0.178 nats); train_test_ratio 1 → 4 is inconclusive`."""
    parts = []
    for row in rows:
        if row.tone in ("good", "bad", "moved"):
            change = f"{fmt.signed(row.effect)} {metric.unit}".rstrip()
            parts.append(f"{row.arm.change} {row.verdict} {metric.name} ({change})")
    for verdict, one, many in (
        ("equivalent", "is equivalent", "are equivalent"),
        ("inconclusive", "is inconclusive", "are inconclusive"),
        ("no verdict", "gets no verdict", "get no verdict"),
    ):
        names = [row.arm.change for row in rows if row.verdict == verdict]
        if names:
            parts.append(f"{fmt.joined(names)} {one if len(names) == 1 else many}")
    if parts and any(UNVERIFIED in row.contrast.labels for row in rows):
        parts.append("none of this is proven, because the runs were made elsewhere")
    if observed:
        changes = "changes" if len(observed) == 1 else "change"
        parts.append(f"{fmt.joined(observed)} only {changes} how often the runs are evaluated")
    return "; ".join(parts) + "." if parts else ""


def _troubles(runs: Sequence[RunReading]) -> tuple[tuple[str, str], ...]:
    """Runs that ended alike are named together: ten that have not been started are one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.status != "finished":
            alike.setdefault((run.status, run.sentence), []).append(f"{run.arm}, seed {run.seed}")
    return tuple((status, f"{'; '.join(named)}: {sentence}") for (status, sentence), named in alike.items())


def _controls(analysis: Analysis, arms: Sequence[ArmView]) -> ControlsView:
    """Summarize the controls. `held` is about trained variants: an observation axis is the baseline's own run."""
    summary = []
    found = dict.fromkeys(["one_variable", "matched", "took_effect", *(control.name for control in analysis.controls)])
    for name in found:
        mine = [control for control in analysis.controls if control.name == name]
        proven = sum(control.status == "proven" for control in mine)
        summary += [(name.replace("_", " "), f"{proven}/{len(mine)} proven")] if mine else []
    failures = [control for control in analysis.controls if control.status != "proven"]
    variants = {arm.name for arm in arms if arm.axis is not None and arm.kind != "observation"}
    matches = [control for control in analysis.controls if control.name == "matched" and control.arm in variants]
    held = [item for item in (matches[0].held if matches else ()) if all(item in match.held for match in matches)]
    return ControlsView(
        summary=tuple(summary),
        failures=tuple(_failure(control) for control in failures),
        held=tuple(held),
    )


def _failure(control: Control) -> str:
    subject = "" if control.arm in control.sentence else f"{control.arm}: "
    name = control.name.replace("_", " ")
    return fmt.typeset(f"{subject}{name} {control.status}: {control.sentence}")

"""What is shown, in words and figures, before anybody decides how it looks: terminal, page and tables read this alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate import formatting as digits
from ablate.analysis.contrasts import ONE_SIDED
from ablate.analysis.results import UNVERIFIED, Analysis, Contrast, Floor, ReplayedLevel, RunReading
from ablate.analysis.summary import method
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.metrics.metric import MetricInfo
from ablate.report.mediation import VERDICTS

TONES = {
    "helps": "good",
    "hurts": "bad",
    "raises": "moved",
    "lowers": "moved",
    "equivalent": "still",
    "inconclusive": "open",
    "none": "broken",
}
_SUMMARY = ("eval_loss", "grad_norm_p95_p5", "grad_norm_max", "grad_norm_median")


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmView:
    """One arm. change: `batch_size 8 → 64`. number: position among the arms, which decides its colour."""

    name: str
    change: str
    number: int
    kind: str | None
    axis: str | None
    question: str
    expect: str
    source: str
    changes: Mapping[str, Any]
    derived: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One contrast as it is read. tone: good, bad, moved, still, open, broken or floor; decides the colour only.

    beats: share of seeds in which the arm is better, or higher where there is no better side. p: adjusted for the variants.
    """

    arm: ArmView
    contrast: Contrast
    effect: str
    interval: str
    verdict: str
    remark: str
    beats: str
    hedges_g: str
    p: str
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeView:
    """One outcome over all trained arms: the mean over seeds of each, and each variant's contrast."""

    info: MetricInfo
    means: Mapping[str, float | None]
    rows: Mapping[str, Row]


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlsView:
    """summary: (words, figures) pairs for one line. failures: a sentence each. held: items proven equal in every arm."""

    summary: tuple[tuple[str, str], ...]
    failures: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FloorView:
    """One of the two floors. name: `noise floor`. value: on the primary metric. sentence: what the repeat shows in the place
    of a contrast."""

    name: str
    value: str
    sentence: str
    floor: Floor

    def of(self, outcome: str) -> str:
        """The floor of any outcome; a dash where it has none."""
        return digits.figure(self.floor.values.get(outcome), 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The whole report. primary: a row per variant; placebo rows come last. replays: observation axes by name. floors: the two
    A/A floors, as far as they were measured.

    method: what the primary metric's intervals are. troubles: (status, sentence naming the runs) for all that did not finish.
    headline: the answer to what was asked: of shares, of a mediator, of several axes at once, of chance; else every verdict in
        one sentence.
    """

    analysis: Analysis
    heading: str
    metric: MetricInfo
    direction: str
    method: str
    arms: tuple[ArmView, ...]
    primary: tuple[Row, ...]
    outcomes: tuple[OutcomeView, ...]
    replays: Mapping[str, tuple[ReplayedLevel, ...]]
    floors: tuple[FloorView, ...]
    controls: ControlsView
    troubles: tuple[tuple[str, str], ...]
    headline: str
    conclusions: tuple[str, ...]

    def arm(self, name: str) -> ArmView:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def trained(self) -> tuple[ArmView, ...]:
        """Arms that are compared: those with runs of their own, less the baseline's repeat."""
        return tuple(arm for arm in self.arms if arm.kind not in ("observation", "rerun"))

    @property
    def repeated(self) -> Mapping[str, str]:
        """{arm: sentence} of the same seed twice; it has no contrast, because nothing was varied."""
        found = {floor.floor.kind: floor.sentence for floor in self.floors}
        arms = [arm.name for arm in self.arms if arm.kind == "rerun"]
        return {name: found.get("nondeterminism", "not measured yet") for name in arms}

    @property
    def summary(self) -> tuple[OutcomeView, ...]:
        """The four outcomes that fit a narrow table: the primary one, eval loss, and the gradient norm's spread,
        maximum and median, as far as there is room."""
        skipped = self.analysis.imported.not_read if self.analysis.imported else ()
        known = {outcome.info.name: outcome for outcome in self.outcomes if outcome.info.name not in skipped}
        wanted = dict.fromkeys((self.metric.name, *_SUMMARY))
        return tuple(known[name] for name in wanted if name in known)[:4]


def make_view(analysis: Analysis) -> View:
    """Pure: the same analysis gives the same view."""
    arms = tuple(_arm(arm, number, analysis.contrasts) for number, arm in enumerate(analysis.arms))
    metric = next(info for info in analysis.metrics if info.name == analysis.metric)
    by_name = {arm.name: arm for arm in arms}
    rows = [_row(contrast, by_name[contrast.arm], analysis) for contrast in analysis.contrasts if contrast.primary]
    replays: dict[str, tuple[ReplayedLevel, ...]] = {}
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
        conclusions=tuple(digits.typeset(sentence) for sentence in analysis.conclusions),
    )


def direction(metric: MetricInfo) -> str:
    """`lower is better`, `higher is better`, `no better side`."""
    if metric.lower_is_better is None:
        return "no better side"
    return "lower is better" if metric.lower_is_better else "higher is better"


def interval_head(view: View) -> str:
    """`95 % interval`; of a study with looks, whose intervals have the level of their look, `interval`."""
    return "95 % interval" if view.analysis.looks is None else "interval"


def beats_what(metric: MetricInfo) -> str:
    """What `Row.beats` is a share of: seeds in which the arm `beats baseline`, or is `above baseline`."""
    return "above baseline" if metric.lower_is_better is None else "beats baseline"


def named(metric: MetricInfo) -> str:
    """`eval_loss (nats)`; the name alone where there is no unit."""
    return f"{metric.name} ({metric.unit})" if metric.unit else metric.name


def level_name(level: ReplayedLevel) -> str:
    """`eval_every 512 samples`."""
    return f"{level.axis} {show(level.level)}"


def looked_differently(levels: Sequence[ReplayedLevel]) -> str:
    """An observation axis in one sentence: it cannot have changed anything, and this is what its levels hide."""
    if not all(level.same_trajectory for level in levels):
        return "NOT the same trajectory: the way of looking changed the training"
    shares = [level.share_decrease_before_first_eval for level in levels]
    missed = [f"{digits.percent(share)} at {show(level.level)}" for share, level in zip(shares, levels, strict=True)]
    same = "same trajectory, bit for bit: only looked at differently"
    return f"{same}; share of the fall before the first look: {digits.joined(missed)}"


def floors_sentence(view: View) -> str:
    """`Noise floor 0.019, nondeterminism floor 0: an effect that is no larger gets no verdict.`"""
    said = ", ".join(f"{floor.name} {floor.value}" for floor in view.floors)
    return f"{said[:1].upper()}{said[1:]}: an effect that is no larger gets no verdict." if said else ""


def _floor(floor: Floor, metric: MetricInfo) -> FloorView:
    value = digits.figure(floor.values.get(metric.name), 2)
    name = f"{floor.kind} floor"
    same = "same weights bit for bit" if floor.same_weights else "other weights"
    twice = "same seed twice, " + same if floor.kind == "nondeterminism" else "other order and dropout"
    sentence = f"{twice}: {name} {value}"
    return FloorView(name=name, value=value, sentence=sentence, floor=floor)


def _heading(analysis: Analysis, arms: Sequence[ArmView]) -> str:
    if (chance := analysis.variance) is not None:
        return f"{chance.draws} {chance.streams[0]} × {chance.draws} {chance.streams[1]} draws of one config"
    placebos = sum(arm.kind == "placebo" for arm in arms)
    trained = sum(arm.kind not in ("placebo", "rerun", "observation") for arm in arms)
    axes = len({arm.axis for arm in arms if arm.kind == "observation"})
    parts = [digits.counted(trained, "arm")]
    parts += ["placebo"] if placebos == 1 else [f"{placebos} placebos"] if placebos else []
    text = f"{' + '.join(parts)} × {digits.counted(len(analysis.seeds), 'seed')}"
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
    bundled = isinstance(arm.get("level"), Mapping) or arm.get("kind") == "placebo"
    if arm.get("bundle"):
        return digits.typeset(str(arm["bundle"]))
    if contrast is None or bundled or isinstance(contrast.baseline_level, Mapping):
        return str(arm["name"])
    return f"{contrast.axis} {show(contrast.baseline_level)} → {show(contrast.level)}"


def _row(contrast: Contrast, arm: ArmView, analysis: Analysis) -> Row:
    noise = analysis.floor("noise", contrast.metric)
    floor = arm.kind == "placebo" and contrast.primary and noise is not None
    decimals = _decimals(contrast)
    remarks = list(contrast.labels)
    if contrast.verdict == "inconclusive" and contrast.seeds_needed:
        remarks.insert(0, f"about {contrast.seeds_needed} seeds")
    verdict: str = "no verdict" if contrast.verdict == "none" else contrast.verdict
    moved = contrast.verdict in ("helps", "hurts", "raises", "lowers")
    if floor and not moved and contrast.verdict != "none":
        sided = [label for label in contrast.labels if label == ONE_SIDED]
        verdict, remarks = "noise floor", [digits.figure(noise, 2), *sided]
    return Row(
        arm=arm,
        contrast=contrast,
        effect=digits.number(contrast.effect, decimals),
        interval=digits.interval(contrast.low, contrast.high, decimals),
        verdict=verdict,
        remark=", ".join(remarks),
        beats=digits.percent(contrast.beats),
        hedges_g=digits.figure(contrast.hedges_g, 2),
        p=digits.p_value(contrast.p_value),
        tone="floor" if verdict == "noise floor" else TONES[contrast.verdict],
    )


def _decimals(contrast: Contrast) -> int:
    return 2 if contrast.effect is None else digits.effect_decimals(contrast.effect, contrast.low, contrast.high)


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
    """Of a study that asks for more than contrasts with the baseline; '' of any other."""
    if analysis.attribution is not None:
        return digits.typeset(analysis.attribution.sentence)
    if analysis.mediated is not None:
        through = [f"through {one.label}: {VERDICTS[one.verdict]}" for one in analysis.mediated.held]
        said = [analysis.mediated.sentence, *([f"Goes {'; '.join(through)}."] if through else [])]
        return digits.typeset(" ".join(said))
    if analysis.effects is not None:
        return digits.typeset(" ".join(analysis.effects.sentences[:2]))
    return digits.typeset(analysis.variance.sentence) if analysis.variance is not None else ""


def _headline(rows: Sequence[Row], looked: Sequence[str], metric: MetricInfo) -> str:
    """`batch_size 8 → 64 hurts eval_loss (+0.178 nats); train_test_ratio 1 → 4 is undecided; eval_every only changes ...`."""
    parts = []
    for row in rows:
        if row.tone in ("good", "bad", "moved"):
            change = f"{digits.signed(row.effect)} {metric.unit}".rstrip()
            parts.append(f"{row.arm.change} {row.verdict} {metric.name} ({change})")
    for verdict, one, many in (
        ("equivalent", "has no effect on it", "have no effect on it"),
        ("inconclusive", "is undecided", "are undecided"),
        ("no verdict", "gets no verdict", "get no verdict"),
    ):
        names = [row.arm.change for row in rows if row.verdict == verdict]
        if names:
            parts.append(f"{digits.joined(names)} {one if len(names) == 1 else many}")
    if parts and any(UNVERIFIED in row.contrast.labels for row in rows):
        parts.append("none of this is proven, because the runs were made elsewhere")
    if looked:
        parts.append(f"{digits.joined(looked)} only {'changes' if len(looked) == 1 else 'change'} what is looked at")
    return "; ".join(parts) + "." if parts else ""


def _troubles(runs: Sequence[RunReading]) -> tuple[tuple[str, str], ...]:
    """Runs that ended alike are named together: ten that have not been started are one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.status != "finished":
            alike.setdefault((run.status, run.sentence), []).append(f"{run.arm}, seed {run.seed}")
    return tuple((status, f"{'; '.join(named)}: {sentence}") for (status, sentence), named in alike.items())


def _controls(analysis: Analysis, arms: Sequence[ArmView]) -> ControlsView:
    """held is about the variants that trained: an observation level is the baseline's own run, equal in everything."""
    words = {"one_variable": "one variable", "matched": "all else equal", "took_effect": "took_effect", "seeds": "seeds differ",
             "applied": "done as declared", "sessions": "in one piece"}  # fmt: skip
    words |= {"rerun": "same seed twice", "crossed": "streams as drawn"}
    summary = []
    found = dict.fromkeys(["one_variable", "matched", "took_effect", *(control.name for control in analysis.controls)])
    for name in found:
        mine = [control for control in analysis.controls if control.name == name]
        proven = sum(control.status == "proven" for control in mine)
        summary += [(words.get(name, name), f"{proven}/{len(mine)} proven")] if mine else []
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
    return digits.typeset(f"{subject}{control.name} {control.status}: {control.sentence}")

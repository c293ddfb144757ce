"""Conclusions of a study in plain sentences with figures, and how its contrasts were judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablate.analysis.contrasts import PLACEBO_DIFFERS, equivalence
from ablate.analysis.resample import curve_name
from ablate.analysis.results import Contrast, DivergenceRate, Floor, ResampledCadence, RunReading
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.formatting import change, counted, joined, per_cent, plain_figure, plain_percent
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.paired import smallest_p
from ablate.stats.verdicts import DECIDED

ALWAYS = ("grad_norm_p95_p5", "eval_loss")
"""Metrics summarised next to the primary one: how spiky the gradient norm is, and what it costs."""


EXPLORATORY = "Exploratory: intervals are not corrected for the number of metrics"


def conclusions(
    plan: Plan,
    contrasts: Sequence[Contrast],
    diverged: Sequence[DivergenceRate],
    replays: Sequence[ResampledCadence],
    dense_share: float | None,
    checks: Sequence[Control],
    readings: Sequence[RunReading],
    floors: Sequence[Floor],
) -> tuple[str, ...]:
    """Return the conclusions, most important first: effects on each headline metric, artefacts, reliability, failed runs."""
    headlines = dict.fromkeys((plan.metric, *ALWAYS))
    sentences = [_alarm(contrasts)]
    sentences += [_about(plan, metric, contrasts) for metric in headlines]
    sentences.append(_diverged(diverged))
    for axis in dict.fromkeys(level.axis for level in replays):
        sentences.append(_observation(plan, [level for level in replays if level.axis == axis], dense_share))
    sentences += [_floor(plan, floor, contrasts) for floor in floors if plan.metric in floor.values]
    sentences += [_refused(plan, checks), _power(contrasts), _troubles(readings)]
    return tuple(sentence for sentence in sentences if sentence)


def _alarm(contrasts: Sequence[Contrast]) -> str:
    """A negative control that is not negative comes before every finding."""
    placebos = [one for one in contrasts if PLACEBO_DIFFERS in one.labels]
    if not placebos:
        return ""
    figures = joined([f"{one.arm} ({_figures(one)})" for one in placebos])
    return (
        f"{PLACEBO_DIFFERS}: the placebo differs significantly from the baseline in {placebos[0].metric}: {figures}. It "
        "changes nothing but chance, so this happens in 5% of studies, or something besides the varied settings differs "
        "between arms. Find the cause, or repeat the study with more seeds, before relying on its verdicts."
    )


def _about(plan: Plan, metric: str, contrasts: Sequence[Contrast]) -> str:
    """`grad_norm_p95_p5: batch_size 8 -> 64 lowers it from 9.1 to 0.5 (...). Undecided: train_test_ratio 1 -> 4 (...).`"""
    mine = [one for one in contrasts if one.metric == metric and plan.arm(one.arm).kind != "placebo"]
    if not mine:
        return ""
    moved = [_moved(plan, one) for one in mine if one.verdict in DECIDED]
    equal = [f"{_named(one)} ({_figures(one)})" for one in mine if one.verdict == "equivalent"]
    undecided = [f"{_named(one)} ({_figures(one)}{_needed(one)})" for one in mine if one.verdict == "inconclusive"]
    refused = [_named(one) for one in mine if one.verdict == "none"]
    parts = ["; ".join(moved)] if moved else []
    parts += ["no variable has a significant effect"] if not moved and len(refused) < len(mine) else []
    parts += [f"Equivalent (within plus or minus {plan.smallest_effect:g}): {joined(equal)}"] if equal else []
    parts += [f"Inconclusive: {joined(undecided)}"] if undecided else []
    parts += [f"{'No' if parts else 'no'} verdict: {joined(refused)}"] if refused else []
    parts += [EXPLORATORY] if metric != plan.metric else []
    return f"{metric}: {'. '.join(parts)}."


def _moved(plan: Plan, one: Contrast) -> str:
    unit = f" {one.unit}" if one.unit else ""
    direction = "raises" if (one.effect or 0.0) > 0 else "lowers"
    better = f", which {one.verdict}" if one.verdict in ("helps", "hurts") else ""
    ends = f"from {plain_figure(one.baseline_mean or 0.0)} to {plain_figure(one.arm_mean or 0.0)}{unit}"
    return f"{_named(one)} {direction} it {ends} ({_figures(one)}){better}{_updates(plan, plan.arm(one.arm))}"


def _updates(plan: Plan, arm: Arm) -> str:
    """A change that also changes the number of updates has two readings, and the sentence states both."""
    before, after = (each.derived.get("total_steps") for each in (plan.baseline, arm))
    if before is None or after is None or before == after:
        return ""
    same = arm.derived.get("samples_seen") == plan.baseline.derived.get("samples_seen")
    return f" - at {'the same samples, ' if same else ''}{after:g} updates instead of {before:g}"


def _named(one: Contrast) -> str:
    if one.bundle:
        return one.bundle
    if isinstance(one.value, dict):
        return one.arm
    return f"{one.axis} {show(one.baseline_value)} -> {show(one.value)}"


def _figures(one: Contrast) -> str:
    if not one.seeds:
        return "no seed has a value in both arms"
    if one.effect is None or one.low is None or one.high is None:
        return "no interval"
    figures = change(one.effect, one.low, one.high, one.confidence)
    if one.verdict == "equivalent" and one.inner_low is not None and one.inner_high is not None:
        return f"{figures}; {equivalence(one.inner_low, one.inner_high)}"
    return figures


def _needed(one: Contrast) -> str:
    return f"; needs about {one.seeds_needed} seeds" if one.seeds_needed else ""


def _diverged(diverged: Sequence[DivergenceRate]) -> str:
    """Only where the arm or the baseline diverged: `0 of 5` against `0 of 5` is not a finding."""
    sentences = [one.sentence for one in diverged if one.count or one.baseline_count]
    return f"Divergence: {'; '.join(sentences)}." if sentences else ""


def _observation(plan: Plan, levels: Sequence[ResampledCadence], dense_share: float | None) -> str:
    """An observation axis cannot have caused anything: it is the same run, and the question is what it misses."""
    axis = levels[0].axis
    curve = curve_name(plan.axis(axis).keys[0])
    same = ": the same training runs, recorded less often" if all(v.same_trajectory for v in levels) else ""
    head = f"{axis} changes only what is recorded{same}"
    shares = [
        f"{plain_percent(level.share_decrease_before_first_eval)} at {show(level.value)} (step {level.first_eval_step})"
        for level in levels
        if level.share_decrease_before_first_eval is not None
    ]
    if not shares:
        return f"{head}. The {curve} never decreased, so no share of its decrease can be given."
    dense = (
        f"; {plain_percent(dense_share)} with dense evaluation"
        if dense_share is not None and curve == "eval loss"
        else ""
    )
    before = f"Share of the decrease in {curve} before the first evaluation after training began"
    return f"{head}. {before}: {joined(shares)}{dense}."


def _floor(plan: Plan, floor: Floor, contrasts: Sequence[Contrast]) -> str:
    unit = next((f" {one.unit}" for one in contrasts if one.primary and one.unit), "")
    value = f"{plain_figure(floor.values[plan.metric])}{unit}"
    seeds = counted(len(floor.seeds), "seed")
    if floor.kind == "nondeterminism" and floor.same_weights:
        return f"Same seed twice ({seeds}): identical weights, nondeterminism floor 0."
    if floor.kind == "nondeterminism":
        return (
            f"Same seed twice ({seeds}): different weights, {value} apart in {plan.metric}: the nondeterminism floor."
        )
    placebo = next((one for one in contrasts if one.primary and one.arm in floor.arms and one.low is not None), None)
    apart = f"Placebo: single runs that differ only by chance are {value} apart in {plan.metric}"
    return f"{apart} (root mean square over {seeds}): the noise floor." + (
        f" Mean difference from the baseline: {_figures(placebo)}." if placebo else ""
    )


def _refused(plan: Plan, checks: Sequence[Control]) -> str:
    failed = [check for check in checks if check.status == "failed"]
    open_ = [check for check in checks if check.status == "unverified"]
    whose = {plan.baseline.name: "any arm"}
    sentences = [f"No verdict for {whose.get(check.arm, check.arm)}: {check.sentence}." for check in failed]
    sentences += [f"{check.arm}, control `{check.name}`: {check.sentence}." for check in open_]
    return " ".join(sentences)


def _power(contrasts: Sequence[Contrast]) -> str:
    primary = [one for one in contrasts if one.primary]
    low = [one for one in primary if len(one.seeds) < ENOUGH_SEEDS]
    if not low:
        return ""
    whose = f" of {joined([one.arm for one in low])}" if len(low) < len(primary) else ""
    return (
        f"LOW POWER: {counted(min(len(one.seeds) for one in low), 'seed')}{whose}. With fewer than {ENOUGH_SEEDS} a "
        "true effect is easily missed and a significant one is likely overstated: rerun with more seeds before relying on it."
    )


def _troubles(readings: Sequence[RunReading]) -> str:
    bad = [run for run in readings if run.status in ("diverged", "failed", "unreadable", "interrupted")]
    waiting = [run for run in readings if run.status in ("missing", "running")]
    sentences = [f"{run.arm}, seed {run.seed} {_ended(run)}: {run.sentence}." for run in bad]
    if bad:
        sentences.insert(
            0, f"{counted(len(bad), 'run')} of {len(readings)} gave no result; means are over the other runs."
        )
    if waiting:
        sentences.append(f"Not complete: {len(waiting)} of {counted(len(readings), 'run')} have not ended yet.")
    return " ".join(sentences)


def _ended(run: RunReading) -> str:
    return {"unreadable": "cannot be read", "interrupted": "was interrupted"}.get(run.status, run.status)


def method(contrasts: Sequence[Contrast]) -> str:
    """Return what an interval is: `95% simultaneous intervals over 5 variants (Dunnett), seed-blocked`."""
    primary = [one for one in contrasts if one.primary]
    family = max((one.family for one in primary), default=1)
    levels = sorted({per_cent(one.confidence) for one in primary if one.family == family}) or ["95%"]
    level = levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"
    if family == 1:
        return f"{level} t intervals, paired by seed"
    return f"{level} simultaneous intervals over {family} variants (Dunnett), seed-blocked"


def method_notes(contrasts: Sequence[Contrast]) -> Iterator[str]:
    """Yield the method, the arms judged alone, the correlation of seeds, and the exact sign-flip p."""
    primary = [one for one in contrasts if one.primary]
    if not primary:
        return
    together = [one for one in primary if one.method == "seed-blocked"]
    yield method(contrasts) + _residual(together)
    controls = [one.arm for one in primary if one.family == 1 and one.verdict != "none"]
    if controls and together:
        yield f"judged alone, by a paired t test, because they are controls: {joined(controls)}"
    yield from _signflip(primary)


def _residual(together: Sequence[Contrast]) -> str:
    if not together:
        return ""
    one = together[0]
    if not one.residual_df:
        return "; none yet, because no seed is left to estimate the residual"
    unit = f" {one.unit}" if one.unit else ""
    sd = f"residual sd {plain_figure(one.residual_sd, 2)}{unit}" if one.residual_sd else "a residual without spread"
    rho = "not measured" if one.rho is None else f"{one.rho:.2f}"
    weight = f"the squared error of an effect is {plain_percent(one.pool_weight)} pooled, the rest the arm's own"
    return f"; {sd} with {counted(one.residual_df, 'degree')} of freedom; {weight}; rho between arms over seeds {rho}"


def _signflip(primary: Sequence[Contrast]) -> Iterator[str]:
    """The check that assumes only that the noise is symmetric."""
    reported = [one for one in primary if one.signflip_p is not None and one.verdict != "none"]
    strong = [one for one in reported if smallest_p(len(one.seeds)) < 0.05]
    weak = sorted({len(one.seeds) for one in reported if one not in strong})
    if strong:
        figures = ", ".join(f"{one.arm} {plain_figure(one.signflip_p or 0.0, 2)}" for one in strong)
        yield f"exact sign-flip p, one contrast at a time: {figures}"
    if weak:
        yield (
            f"the exact sign-flip test cannot reach 0.05 with {joined([counted(n, 'seed') for n in weak])}: its smallest p is "
            f"{joined([plain_figure(smallest_p(n), 2) for n in weak])}; from six seeds on it is reported"
        )

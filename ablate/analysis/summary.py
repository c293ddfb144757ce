"""What a person wants to know, in plain sentences with figures. Undecided is said rather than a wrong cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ablate.analysis.contrasts import NOT_BEYOND, ONE_SIDED, WITHIN_FLOOR
from ablate.analysis.replay import curve_name
from ablate.analysis.results import Contrast, DivergenceRate, Floor, ReplayedLevel, RunReading
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.formatting import change, counted, joined, per_cent, plain_figure, plain_percent
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.paired import smallest_p
from ablate.stats.verdicts import DECIDED, LOW_POWER_POOLED_ONLY, OWN_VARIANCE, POOLED_ONLY

ALWAYS = ("grad_norm_p95_p5", "eval_loss")
"""Answered beside the primary metric: is the gradient spiky, and what does it cost?"""


def conclusions(
    plan: Plan,
    contrasts: Sequence[Contrast],
    diverged: Sequence[DivergenceRate],
    replays: Sequence[ReplayedLevel],
    dense_share: float | None,
    checks: Sequence[Control],
    readings: Sequence[RunReading],
    floors: Sequence[Floor],
) -> tuple[str, ...]:
    """Most important first: what moves each headline outcome, what only looked so, how far to trust it, what went wrong."""
    headlines = dict.fromkeys((plan.metric, *ALWAYS))
    said = [_about(plan, metric, contrasts) for metric in headlines]
    said.append(_diverged(diverged))
    for axis in dict.fromkeys(level.axis for level in replays):
        said.append(_only_looks(plan, [level for level in replays if level.axis == axis], dense_share))
    said += [_floor(plan, floor, contrasts) for floor in floors]
    said += [_refused(plan, checks), _power(contrasts), _troubles(readings)]
    return tuple(sentence for sentence in said if sentence)


def _about(plan: Plan, metric: str, contrasts: Sequence[Contrast]) -> str:
    """`grad_norm_p95_p5: batch_size 8 -> 64 lowers it from 9.1 to 0.5 (...). Undecided: train_test_ratio 1 -> 4 (...).`"""
    mine = [one for one in contrasts if one.metric == metric and plan.arm(one.arm).kind != "placebo"]
    if not mine:
        return ""
    moved = [_moved(plan, one) for one in mine if one.verdict in DECIDED]
    equal = [f"{_named(one)} ({_figures(one)})" for one in mine if one.verdict == "equivalent"]
    undecided = [f"{_named(one)} ({_figures(one)}{_needed(one)})" for one in mine if one.verdict == "inconclusive"]
    refused = [_named(one) for one in mine if one.verdict == "none"]
    parts = ["; ".join(moved) if moved else "no variable is shown to move it"]
    parts += (
        [f"No effect that matters, inside plus or minus {plan.smallest_effect:g}: {joined(equal)}"] if equal else []
    )
    parts += [f"Undecided: {joined(undecided)}"] if undecided else []
    parts += [f"No verdict: {joined(refused)}"] if refused else []
    return f"{metric}: {'. '.join(parts)}."


def _moved(plan: Plan, one: Contrast) -> str:
    unit = f" {one.unit}" if one.unit else ""
    direction = "raises" if (one.effect or 0.0) > 0 else "lowers"
    better = f", which {one.verdict}" if one.verdict in ("helps", "hurts") else ""
    ends = f"from {plain_figure(one.baseline_mean or 0.0)} to {plain_figure(one.arm_mean or 0.0)}{unit}"
    return f"{_named(one)} {direction} it {ends} ({_figures(one)}){better}{_updates(plan, plan.arm(one.arm))}"


def _updates(plan: Plan, arm: Arm) -> str:
    """A change that brings another number of updates with it has two readings, and the sentence says so."""
    before, after = (each.derived.get("total_steps") for each in (plan.baseline, arm))
    if before is None or after is None or before == after:
        return ""
    same = arm.derived.get("samples_seen") == plan.baseline.derived.get("samples_seen")
    return f" - at {'the same samples, ' if same else ''}{after:g} updates instead of {before:g}"


def _named(one: Contrast) -> str:
    if one.bundle:
        return one.bundle
    if isinstance(one.level, dict):
        return one.arm
    return f"{one.axis} {show(one.baseline_level)} -> {show(one.level)}"


def _figures(one: Contrast) -> str:
    if not one.seeds:
        return "no seed has a value in both arms"
    if one.effect is None or one.low is None or one.high is None:
        return "no interval"
    return change(one.effect, one.low, one.high, one.interval_level)


def _needed(one: Contrast) -> str:
    if NOT_BEYOND in one.labels:
        return "; the placebo lies as far from the baseline"
    if WITHIN_FLOOR in one.labels:
        return f"; no larger than the floor of {plain_figure(one.floor or 0.0)}"
    pooled = {LOW_POWER_POOLED_ONLY, POOLED_ONLY} & set(one.labels)
    why = "; all arms together would decide it, its own pairs do not" if pooled else ""
    return f"{why}; about {one.seeds_needed} seeds needed" if one.seeds_needed else why


def _diverged(diverged: Sequence[DivergenceRate]) -> str:
    """Only of arms that did, or that the baseline did not stay behind: `0 of 5` beside `0 of 5` is no finding."""
    said = [one.sentence for one in diverged if one.count or one.baseline_count]
    return f"Divergence, an outcome of its own: {'; '.join(said)}." if said else ""


def _only_looks(plan: Plan, levels: Sequence[ReplayedLevel], dense_share: float | None) -> str:
    """An observation axis cannot have caused anything: it is the same run, and the question is what it hides."""
    axis = levels[0].axis
    curve = curve_name(plan.axis(axis).keys[0])
    same = (
        ": the same runs, re-read, so the same trajectory bit for bit" if all(v.same_trajectory for v in levels) else ""
    )
    head = f"{axis} changes only what is looked at{same}"
    shares = [
        f"{plain_percent(level.share_decrease_before_first_eval)} at {show(level.level)} (step {level.first_look_steps})"
        for level in levels
        if level.share_decrease_before_first_eval is not None
    ]
    if not shares:
        return f"{head}. The {curve} never fell, so no share of its fall can be given."
    dense = (
        f"; {plain_percent(dense_share)} in the dense record"
        if dense_share is not None and curve == "eval loss"
        else ""
    )
    return (
        f"{head}. Part of the {curve}'s total fall before the first look after training began: {joined(shares)}{dense}."
    )


def _floor(plan: Plan, floor: Floor, contrasts: Sequence[Contrast]) -> str:
    if plan.metric not in floor.values:
        return ""
    unit = next((f" {one.unit}" for one in contrasts if one.primary and one.unit), "")
    value = f"{plain_figure(floor.values[plan.metric])}{unit}"
    seeds = counted(len(floor.seeds), "seed")
    if floor.kind == "nondeterminism" and floor.same_weights:
        return f"Same seed twice ({seeds}): same weights bit for bit, nondeterminism floor 0."
    if floor.kind == "nondeterminism":
        return (
            f"Same seed twice ({seeds}): other weights, {value} apart in {plan.metric}: the nondeterminism floor. "
            "No effect of that size or less gets a verdict."
        )
    apart = f"Placebo: two runs that differ in nothing but chance lie {value} apart in {plan.metric}"
    sided = [one for one in contrasts if one.primary and one.arm in floor.arms and ONE_SIDED in one.labels]
    if sided:
        return f"{apart}, and always to one side ({_figures(sided[0])}): believe no effect of that size."
    return f"{apart} (root mean square over {seeds}): the noise floor. No effect of that size or less gets a verdict."


def _refused(plan: Plan, checks: Sequence[Control]) -> str:
    failed = [check for check in checks if check.status == "failed"]
    open_ = [check for check in checks if check.status == "unverified"]
    whose = {plan.baseline.name: "any arm"}
    said = [f"No verdict for {whose.get(check.arm, check.arm)}: {check.sentence}." for check in failed]
    said += [f"{check.arm}, control `{check.name}`: {check.sentence}." for check in open_]
    return " ".join(said)


def _power(contrasts: Sequence[Contrast]) -> str:
    primary = [one for one in contrasts if one.primary]
    low = [one for one in primary if len(one.seeds) < ENOUGH_SEEDS]
    if not low:
        return ""
    whose = f" of {joined([one.arm for one in low])}" if len(low) < len(primary) else ""
    return (
        f"LOW POWER: {counted(min(len(one.seeds) for one in low), 'seed')}{whose}. With fewer than {ENOUGH_SEEDS} a true "
        "effect is easily missed and a found one is likely overstated: repeat with more seeds before you rely on it."
    )


def _troubles(readings: Sequence[RunReading]) -> str:
    bad = [run for run in readings if run.status in ("diverged", "failed", "unreadable", "interrupted")]
    waiting = [run for run in readings if run.status in ("missing", "running")]
    said = [f"{run.arm}, seed {run.seed} {_ended(run)}: {run.sentence}." for run in bad]
    if bad:
        said.insert(0, f"{counted(len(bad), 'run')} of {len(readings)} gave no result, and means are over the others.")
    if waiting:
        said.append(f"Not complete: {len(waiting)} of {counted(len(readings), 'run')} have no outcome yet.")
    return " ".join(said)


def _ended(run: RunReading) -> str:
    return {"unreadable": "cannot be read", "interrupted": "was interrupted"}.get(run.status, run.status)


# How the contrasts of a study were judged, in the words of its report.


def method(contrasts: Sequence[Contrast]) -> str:
    """What an interval of the primary metric is: `95 % simultaneous intervals over 5 variants (Dunnett), seed-blocked`."""
    primary = [one for one in contrasts if one.primary]
    family = max((one.family for one in primary), default=1)
    levels = sorted({per_cent(one.interval_level) for one in primary if one.family == family}) or ["95 %"]
    level = levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"
    if family == 1:
        return f"{level} t intervals, paired by seed"
    if not any(one.method == "seed-blocked" for one in primary):
        return f"{level} intervals over {family} variants (Holm), each by its own pairs"
    return f"{level} simultaneous intervals over {family} variants (Dunnett), seed-blocked"


def method_notes(contrasts: Sequence[Contrast]) -> Iterator[str]:
    """What was done, which contrasts were judged otherwise, how alike the seeds are, and what the exact check says."""
    primary = [one for one in contrasts if one.primary]
    if not primary:
        return
    together = [one for one in primary if one.method == "seed-blocked"]
    yield method(contrasts) + _residual(together)
    aside = [one.arm for one in primary if OWN_VARIANCE in one.labels]
    if aside:
        yield (
            f"judged by their own pairs with Holm's correction, because their spread (or the baseline's) is unlike the other "
            f"arms': {joined(aside)}"
        )
    controls = [one.arm for one in primary if one.family == 1 and one.verdict != "none"]
    if controls and together:
        yield f"judged by their own pairs, a paired t each, because they are no variants: {joined(controls)}"
    yield from _signflip(primary)


def _residual(together: Sequence[Contrast]) -> str:
    if not together:
        return ""
    one = together[0]
    if not one.df:
        return "; none yet, because no seed is left over to measure the residual by"
    unit = f" {one.unit}" if one.unit else ""
    sd = f"residual sd {plain_figure(one.residual_sd, 2)}{unit}" if one.residual_sd else "a residual without spread"
    freedom = "1 degree of freedom" if one.df == 1 else f"{one.df} degrees of freedom"
    rho = "not measured" if one.rho is None else f"{one.rho:.2f}"
    return f"; {sd} with {freedom}; rho between arms over seeds {rho}"


def _signflip(primary: Sequence[Contrast]) -> Iterator[str]:
    """The check that assumes nothing of the noise but that it has no preferred side."""
    told = [one for one in primary if one.signflip_p is not None and one.verdict != "none"]
    strong = [one for one in told if smallest_p(len(one.seeds)) < 0.05]
    weak = sorted({len(one.seeds) for one in told if one not in strong})
    if strong:
        figures = ", ".join(f"{one.arm} {plain_figure(one.signflip_p or 0.0, 2)}" for one in strong)
        yield f"exact sign-flip p, one contrast at a time: {figures}"
    if weak:
        yield (
            f"the exact sign-flip test cannot reach .05 with {joined([counted(n, 'seed') for n in weak])}: its smallest p is "
            f"{joined([plain_figure(smallest_p(n), 2) for n in weak])}; from six seeds on it is reported"
        )

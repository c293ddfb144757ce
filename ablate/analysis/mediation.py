"""Does a treatment act through a mediator? The effect that is left when the mediator is held, and what went through it.

Total: treated minus baseline. Left: the same difference between two arms that both have the mediator at one level (the
controlled direct effect at that level). Through: total minus left (the portion eliminated), which holds what treatment and
mediator do only together as well. All are differences within a seed.

Nothing is divided unless the total is told from 0: without a total effect a claim needs this gate to err. With one, what is
left and what goes through cannot both be nothing, so that of the two tests of a pair at most one can make a false claim, and
each has the whole 5 % (Shaffer 1986); several pairs share it (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.load import RunFiles
from ablate.analysis.noise_floor import largest
from ablate.analysis.results import Floor, HeldEffect, Mediated, RunReading, Seen
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.mediation import BASELINE, MEDIATORS, Held, Mediation
from ablate.design.plan import Plan
from ablate.formatting import change, counted, fixed, joined, plain_figure, plain_percent
from ablate.metrics.metric import MetricInfo
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.shapley import Contribution, ratio_interval

# Was the mediator moved by the treatment, and held by the intervention? From the record, not from the config.

ByArm = Mapping[str, Mapping[int, float]]

CLIPPED = 0.9
"""Share of the steps that have to be clipped, in both arms, before their applied gradients count as equally large."""

_RUN_WIDE = {"grad_norm_median": "median grad norm", "grad_norm_p95_p5": "grad norm spread"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """held: whether the record bears out that the mediator was held. sentence: what it says, with figures."""

    held: bool
    sentence: str
    seen: tuple[Seen, ...]


def holding(asked: Mediation, one: Held, readings: Sequence[RunReading], runs: Sequence[RunFiles]) -> Holding:
    """Of one pair of arms."""
    return _clip(asked, one, readings) if one.mediator == "max_grad_norm" else _noise(asked, one, readings, runs)


def _clip(asked: Mediation, one: Held, readings: Sequence[RunReading]) -> Holding:
    """Where nearly every step is clipped, the applied norm is the limit, whatever the treatment."""
    clipped = _outcome(readings, "clip_fraction")
    seen = _seen("clipped share", clipped, asked, one)
    if seen.first is None or seen.second is None:
        return Holding(held=False, sentence="no record says how many steps were clipped.", seen=(seen,))
    each = [
        f"{plain_percent(value)} of the steps of {arm}"
        for arm, value in ((one.first, seen.first), (one.second, seen.second))
    ]
    shares = f"{' and '.join(each)} were clipped"
    if min(seen.first, seen.second) < CLIPPED:
        sentence = (
            f"{shares}, so that the applied gradients still differ in size; a smaller max_grad_norm clips them all."
        )
        return Holding(held=False, sentence=sentence, seen=(seen,))
    return Holding(held=True, sentence=f"Held: {shares}.", seen=(seen,))


def _noise(asked: Mediation, one: Held, readings: Sequence[RunReading], runs: Sequence[RunFiles]) -> Holding:
    """Drawn in every run as declared, to another end than without, and seen in the gradient's norm at equal weights."""
    first_step = _first_steps(runs)
    seen = [_seen("grad norm at the first step", first_step, asked, one)]
    seen += [_seen(words, _outcome(readings, name), asked, one) for name, words in _RUN_WIDE.items()]
    seen = [each for each in seen if None not in (each.baseline, each.treated, each.first, each.second)]
    if problem := _not_applied(asked, one, runs):
        return Holding(held=False, sentence=problem, seen=tuple(seen))
    moved, left = (_log_ratio(first_step, *pair) for pair in ((BASELINE, asked.treated), (one.first, one.second)))
    if moved is None or left is None or not seen:
        return Holding(held=True, sentence="Drawn as declared in every run; no norm was measured.", seen=tuple(seen))
    figures = (
        f"at the first step, at equal weights, the grad norm is {_figures(seen[0].baseline, seen[0].treated)} as they are and "
        f"{_figures(seen[0].first, seen[0].second)} with the noise held"
    )
    if left.told and abs(left.mean) > abs(moved.mean) / 2:
        sentence = f"{figures}: the gap is not closed, so the noise is not what it should be."
        return Holding(held=False, sentence=sentence, seen=tuple(seen))
    if not moved.told:
        sentence = f"Drawn as declared; {figures}: in so few first steps the treatment is not seen to move it."
        return Holding(held=True, sentence=sentence, seen=tuple(seen))
    return Holding(held=True, sentence=f"Held: {figures}.", seen=tuple(seen))


def _not_applied(asked: Mediation, one: Held, runs: Sequence[RunFiles]) -> str:
    """Why the noise cannot have been what the arms declare; '' where nothing speaks against it."""
    by_arm = {name: [run for run in runs if run.arm == name and run.finished] for name in (one.first, one.second)}
    setting = MEDIATORS[one.mediator]
    for name, mine in by_arm.items():
        wanted = asked.arms.get(name, {}).get(setting)
        if wanted is None:
            continue
        for run in mine:
            items = run.fingerprint.items if run.fingerprint else {}
            of = items.get("grad_noise", {}).get("of")
            if of != wanted:
                what = "draws nothing" if of is None else f"draws {show(of)} samples of each step"
                return f"the run {name}, seed {run.seed} {what}, where {show(wanted)} were declared."
    plain = BASELINE if one.first != BASELINE else asked.treated
    noisy = one.first if one.first != BASELINE else one.second
    weights = {(run.arm, run.seed): run.weights for run in runs if run.finished and run.weights}
    pairs = [
        (weights[noisy, seed], weights[plain, seed])
        for arm, seed in weights
        if arm == noisy and (plain, seed) in weights
    ]
    if pairs and all(left == right for left, right in pairs):
        return f"{noisy} ends with the very weights of {plain}, bit for bit: the noise changed no update."
    return ""


@dataclass(frozen=True, slots=True)
class _LogRatio:
    mean: float
    told: bool


def _log_ratio(values: ByArm, first: str, second: str) -> _LogRatio | None:
    """Mean over seeds of log(second / first), and whether a paired t test tells it from 0."""
    left, right = values.get(first, {}), values.get(second, {})
    logs: NDArray[np.float64] = np.asarray(
        [np.log(right[seed] / left[seed]) for seed in left.keys() & right.keys() if left[seed] > 0 and right[seed] > 0]
    )
    if len(logs) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(logs) - 1) * np.std(logs, ddof=1) / len(logs) ** 0.5)
    mean = float(np.mean(logs))
    return _LogRatio(mean, abs(mean) > half)


def _first_steps(runs: Sequence[RunFiles]) -> ByArm:
    found: dict[str, dict[int, float]] = {}
    for run in runs:
        norm = (run.fingerprint.items if run.fingerprint else {}).get("first_step", {}).get("grad_norm")
        if run.finished and isinstance(norm, int | float) and np.isfinite(norm):
            found.setdefault(run.arm, {})[run.seed] = float(norm)
    return found


def _outcome(readings: Sequence[RunReading], name: str) -> ByArm:
    found: dict[str, dict[int, float]] = {}
    for run in readings:
        value = run.values.get(name)
        if value is not None and np.isfinite(value):
            found.setdefault(run.arm, {})[run.seed] = value
    return found


def _seen(what: str, values: ByArm, asked: Mediation, one: Held) -> Seen:
    def mean(arm: str) -> float | None:
        return float(np.mean(list(values[arm].values()))) if values.get(arm) else None

    return Seen(
        what=what, baseline=mean(BASELINE), treated=mean(asked.treated), first=mean(one.first), second=mean(one.second)
    )


def _figures(before: float | None, after: float | None) -> str:
    return f"{plain_figure(before or 0)} -> {plain_figure(after or 0)}"


Values = NDArray[np.float64]

WORDS = {"grad_noise": "the gradient's noise", "max_grad_norm": "the size of the applied gradient"}


def mediated(
    plan: Plan,
    metrics: Sequence[MetricInfo],
    readings: Sequence[RunReading],
    runs: Sequence[RunFiles],
    checks: Sequence[Control],
    found: Sequence[Floor],
) -> Mediated | None:
    """Of the primary metric; None for a study that holds no mediator."""
    asked = plan.mediation
    if asked is None:
        return None
    metric = next(info for info in metrics if info.name == plan.metric)
    values, seeds, left_out = _values(plan, asked, metric.name, readings)
    about = Mediated(
        metric=metric.name,
        unit=metric.unit,
        key=asked.key,
        levels=(asked.levels[0], asked.levels[1]),
        treated=asked.treated,
        updates=(_updates(plan, BASELINE), _updates(plan, asked.treated)),
        seeds=seeds,
        left_out=left_out,
        labels=("LOW POWER",) if len(seeds) < ENOUGH_SEEDS else (),
    )
    refused = _failed((BASELINE, asked.treated), checks) or ("" if seeds else _empty(readings))
    if refused:
        return _without(about, refused)
    total = part("total", values[asked.treated] - values[BASELINE], values[asked.treated] - values[BASELINE], 0.95)
    about = replace(about, total=total)
    if why := _not_told(total, len(seeds), largest(found, metric.name)):
        return _without(replace(about, total=replace(total, share=None, share_low=None, share_high=None)), why)
    level = 1 - 0.05 / len(asked.held)
    held = tuple(
        _pair(
            about,
            one,
            values,
            level,
            plan,
            _failed((one.first, one.second), checks),
            holding(asked, one, readings, runs),
        )
        for one in asked.held
    )
    about = replace(about, held=held, limits=_limits(about, held))
    return replace(about, sentence=_sentence(about, values, plan.smallest_effect))


def said(about: Mediated | None) -> tuple[str, ...]:
    """What comes before all other conclusions."""
    if about is None:
        return ()
    return tuple(text for text in (about.sentence, *(one.sentence for one in about.held), about.limits) if text)


def part(name: str, own: Values, whole: Values, level: float) -> Contribution:
    """The mean over seeds with its t interval, and its share of the whole with Fieller's, both at this level."""
    seeds, effect, all_of_it = len(own), float(np.mean(own)), float(np.mean(whole))
    half = None
    if seeds > 1:
        half = float(stats.t.ppf(0.5 + level / 2, seeds - 1) * np.std(own, ddof=1) / seeds**0.5)
    ratio = ratio_interval(own, whole, level)
    return Contribution(
        name=name,
        effect=effect,
        low=None if half is None else effect - half,
        high=None if half is None else effect + half,
        share=effect / all_of_it if all_of_it else None,
        share_low=ratio[0] if ratio else None,
        share_high=ratio[1] if ratio else None,
        df=seeds - 1,
    )


def verdict(total: float, left: Contribution, through: Contribution, smallest_effect: float) -> str:
    """What follows from the two intervals; `undecided` rather than a claim that one of them does not bear.

    A part that is proven to be smaller than what matters comes first: it is none, be it told from 0 or not.
    """
    sign = 1.0 if total > 0 else -1.0
    goes, stays = _side(through) * sign, _side(left) * sign
    little, rest = _inside(through, smallest_effect), _inside(left, smallest_effect)
    if stays > 0 and little and not rest:
        return "none"
    if goes > 0 and rest and not little:
        return "all"
    if goes < 0:
        return "against"
    if goes and stays:
        return "part" if stays > 0 else "beyond"
    if goes:
        return "all" if rest else "some or all"
    if stays > 0:
        return "none" if little else "not all"
    return "inconclusive"


def _side(one: Contribution) -> float:
    """1 or -1 where the interval lies on one side of 0."""
    if one.low is None or one.high is None or one.low <= 0 <= one.high:
        return 0.0
    return 1.0 if one.low > 0 else -1.0


def _inside(one: Contribution, margin: float) -> bool:
    return one.low is not None and one.high is not None and -margin < one.low and one.high < margin


def _values(
    plan: Plan, asked: Mediation, metric: str, readings: Sequence[RunReading]
) -> tuple[dict[str, Values], tuple[int, ...], tuple[str, ...]]:
    """By arm, over the seeds that have a value in every arm; in words the seeds that lack some."""
    names = (BASELINE, *asked.arms)
    known: dict[str, dict[int, float]] = {name: {} for name in names}
    ended: dict[tuple[str, int], str] = {}
    for run in readings:
        value = run.values.get(metric)
        ended[run.arm, run.seed] = run.status
        if run.arm in known and value is not None and np.isfinite(value):
            known[run.arm][run.seed] = value
    seeds = tuple(seed for seed in plan.seeds if all(seed in known[name] for name in names))
    left_out = []
    for seed in (seed for seed in plan.seeds if seed not in seeds):
        what = [f"{name} ({ended.get((name, seed), 'missing')})" for name in names if seed not in known[name]]
        left_out.append(f"seed {seed} is left out: no value in {joined(what)}")
    return {name: np.asarray([known[name][seed] for seed in seeds]) for name in names}, seeds, tuple(left_out)


def _updates(plan: Plan, arm: str) -> float:
    return float(plan.arm(arm).derived.get("total_steps", 0))


def _failed(arms: Sequence[str], checks: Sequence[Control]) -> str:
    broken = [check for check in checks if check.status == "failed" and check.arm in arms]
    return f"the control `{broken[0].name}` failed: {broken[0].sentence}" if broken else ""


def _empty(readings: Sequence[RunReading]) -> str:
    waiting = [run for run in readings if run.status in ("missing", "running", "interrupted")]
    if waiting:
        return f"no seed has finished every arm yet ({len(waiting)} of {counted(len(readings), 'run')} to go)"
    return "no seed has a value in every arm"


def _without(about: Mediated, why: str) -> Mediated:
    return replace(about, refused=why, sentence=f"{_metric(about)}: nothing is divided, because {why}.")


def _not_told(total: Contribution, seeds: int, floor: float | None) -> str:
    if seeds < 2:
        return "one seed has no interval: two are the least"
    assert total.low is not None
    assert total.high is not None
    if not total.high > total.low:
        return f"the difference is {plain_figure(total.effect)} in each of {seeds} seeds: without spread there is no interval"
    if total.low <= 0 <= total.high:
        return (
            f"the total effect is not told from 0 ({change(total.effect, total.low, total.high)}); paths that cancel each "
            "other would look the same"
        )
    if floor is not None and abs(total.effect) <= floor:
        return f"the total effect, {plain_figure(total.effect)}, is no larger than {plain_figure(floor)}, which chance alone makes"
    return ""


def _pair(
    about: Mediated, one: Held, values: Mapping[str, Values], level: float, plan: Plan, failed: str, holds: Holding
) -> HeldEffect:
    base = HeldEffect(
        mediator=one.mediator, level=one.level, label=one.label, first=one.first, second=one.second, verdict="none given",
        sentence="", seen=holds.seen, held=holds.sentence,
    )  # fmt: skip
    if failed:
        return replace(base, sentence=f"{one.label}: no answer, because {failed}.")
    total = values[about.treated] - values[BASELINE]
    own = values[one.second] - values[one.first]
    left, through = part("left", own, total, level), part("through", total - own, total, level)
    assert about.total is not None
    base = replace(base, left=left, through=through)
    if not holds.held:
        sentence = (
            f"NOT HELD: {holds.sentence} So the effect between {one.first} and {one.second} "
            f"({plain_figure(left.effect)}) does not say what goes through {WORDS[one.mediator]}."
        )
        return replace(base, verdict="not held", sentence=sentence)
    found = verdict(about.total.effect, left, through, plan.smallest_effect)
    return replace(base, verdict=found, sentence=_answer(about, one, left, through, found, plan, holds))


def _answer(
    about: Mediated, one: Held, left: Contribution, through: Contribution, found: str, plan: Plan, holds: Holding
) -> str:
    """`3 % (-9 to 15) goes through the gradient's noise: with that of 8 samples at both levels, the rise is 0.115 ...`"""
    assert about.total is not None
    rise = "rise" if about.total.effect > 0 else "fall"
    where = (
        f"with that of {show(one.level)} samples at both levels"
        if one.mediator == "grad_noise"
        else f"with both levels clipped at {show(one.level)}"
    )
    turned = left.effect * about.total.effect < 0
    what = f"the {rise} turns into a {'fall' if rise == 'rise' else 'rise'} of" if turned else f"the {rise} is"
    through_it = WORDS[one.mediator]
    low, high = (
        None if value is None else f"{fixed(100 * value, 0)} %" for value in (through.share_low, through.share_high)
    )
    ends = f"{fixed(left.low or 0, _decimals(left))} .. {fixed(left.high or 0, _decimals(left))}"
    pairs = len(plan.mediation.held) if plan.mediation else 1
    over = f", simultaneous over {pairs} levels held," if pairs > 1 else ""
    figures = f"{where}, {what} {plain_figure(abs(left.effect))} (95 % interval{over} of the effect left {ends})"
    if found == "inconclusive":
        head = (
            f"Undecided: {share(through)} of it would go through {through_it}, but neither this nor what is left is told from "
            f"0; {figures}"
        )
        return f"{head}. {holds.sentence}".strip()
    head = f"{share(through)} of it goes through {through_it}: {figures}."
    least = f"at least {low}" if low and (through.share_low or 0) > 0 else "some"
    most = f"at most {high}" if high and (through.share_high or 0) < 1 else "how much is open"
    conclusion = {
        "all": f"What is left is within plus or minus {plain_figure(plan.smallest_effect)}: all of it that matters goes through it",
        "some or all": f"So {least} of it goes through it; that anything is left is not shown",
        "part": f"So it goes through it in part ({least}), and in part not",
        "beyond": "So more than all of it goes through it: something else works the other way",
        "against": f"So {through_it} works against it: held, the effect is larger",
        "none": f"So it does not need {through_it}: what goes through is within plus or minus {plain_figure(plan.smallest_effect)}",
        "not all": f"So an effect is left without it; that any goes through is not shown ({most})",
    }[found]
    return f"{head} {conclusion}. {holds.sentence}".strip()


def _decimals(one: Contribution) -> int:
    half = ((one.high or 0) - (one.low or 0)) / 2
    return max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 3


def share(one: Contribution) -> str:
    """`92 % (80 to 104)`; without an interval where the total is not told from 0 at the level of the family."""
    if one.share is None:
        return "no share"
    text = f"{fixed(100 * one.share, 0)} %"
    if one.share_low is None or one.share_high is None:
        return f"{text} (no interval)"
    return f"{text} ({fixed(100 * one.share_low, 0)} to {fixed(100 * one.share_high, 0)})"


def _sentence(about: Mediated, values: Mapping[str, Values], smallest_effect: float) -> str:
    total = about.total
    assert total is not None
    assert total.low is not None
    assert total.high is not None
    unit = f" {about.unit}" if about.unit else ""
    before, after = (plain_figure(float(np.mean(values[arm]))) for arm in (BASELINE, about.treated))
    levels = " -> ".join(show(level) for level in about.levels)
    said = (
        f"{about.key} {levels} {'raises' if total.effect > 0 else 'lowers'} {_metric(about)} from {before} to {after}{unit} "
        f"({change(total.effect, total.low, total.high)}; {counted(len(about.seeds), 'seed')})."
    )
    if abs(total.effect) < smallest_effect:
        said += f" All of it is smaller than {plain_figure(smallest_effect)}, the smallest effect that matters."
    return said


def _limits(about: Mediated, held: Sequence[HeldEffect]) -> str:
    """What does not follow."""
    answered = [one for one in held if one.verdict not in ("not held", "none given")]
    if not answered:
        return ""
    names = joined(dict.fromkeys(WORDS[one.mediator] for one in answered))
    said = (
        f"This holds for {names} at the levels held and says nothing of other mediators; what goes through is the total less "
        "what is left, and so holds what the two do only together."
    )
    before, after = about.updates
    if before != after:
        said += (
            f" The levels also differ in the number of updates ({before:g} and {after:g}), a path that stays open: what is "
            f"left may be that. train.budget='{max(before, after):g} steps' asks at equal updates."
        )
    elif any(one.mediator == "grad_noise" and BASELINE in (one.first, one.second) for one in answered):
        said += (
            " At equal updates a batch with the noise of a smaller one differs from it in little else, so that nearly all has "
            "to go through the noise; a share far from 100 % would point to a fault."
        )
    return said


def _metric(about: Mediated) -> str:
    return about.metric.replace("_", " ")

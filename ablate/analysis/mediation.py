"""How much of a treatment's effect goes through a mediator: the effect that remains when the mediator is held, and the rest.

Total: treated minus baseline. Left: the same difference between two arms that both have the mediator at one level (the
controlled direct effect at that level). Through: total minus left (the portion eliminated), which includes what treatment and
mediator do only together. All are differences within a seed.

Nothing is divided unless the total is significant: without a total effect, a false positive has to pass this gate first. With
one, what is left and what goes through cannot both be zero, so that of the two tests of a pair at most one can be a false
positive, and each has the whole 5% (Shaffer 1986); several pairs share it (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.complete_seeds import (
    complete_seeds,
    failed_control,
    no_complete_seed,
    not_divisible,
    not_significant,
)
from ablate.analysis.design_results import HeldEffect, Mediated
from ablate.analysis.mediator_checks import MediatorCheck, check_mediator
from ablate.analysis.results import RunReading
from ablate.config.schema import BASELINE
from ablate.controls.control import Control
from ablate.design.axis import show
from ablate.design.designs import Held
from ablate.design.plan import Plan
from ablate.formatting import change, counted, fixed, joined, plain_figure
from ablate.metrics.metric import MetricInfo
from ablate.records.run_files import RunFiles
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.shapley import Contribution, ratio_interval

Values = NDArray[np.float64]

WORDS = {"grad_noise": "the gradient's noise", "max_grad_norm": "the size of the applied gradient"}


def mediation(
    plan: Plan,
    metrics: Sequence[MetricInfo],
    readings: Sequence[RunReading],
    runs: Sequence[RunFiles],
    checks: Sequence[Control],
) -> Mediated | None:
    """Divide the effect on the primary metric; None for a study that does not hold a mediator."""
    design = plan.mediation
    if design is None:
        return None
    metric = next(info for info in metrics if info.name == plan.metric)
    complete = complete_seeds(plan, (BASELINE, *design.arms), metric.name, readings)
    values, seeds = complete.values, complete.seeds
    about = Mediated(
        metric=metric.name,
        unit=metric.unit,
        key=design.key,
        levels=(design.levels[0], design.levels[1]),
        treated=design.treated,
        updates=(_updates(plan, BASELINE), _updates(plan, design.treated)),
        seeds=seeds,
        left_out=complete.left_out,
        labels=("LOW POWER",) if len(seeds) < ENOUGH_SEEDS else (),
    )
    refused = failed_control((BASELINE, design.treated), checks) or ("" if seeds else no_complete_seed(readings, "arm"))
    if refused:
        return _without(about, refused)
    difference = values[design.treated] - values[BASELINE]
    total = part("total", difference, difference, 0.95)
    about = replace(about, total=total)
    if refused := not_divisible(total, len(seeds), "the total effect"):
        cancel = "; paths that cancel each other would give the same result" if not_significant(total) else ""
        total = replace(total, share=None, share_low=None, share_high=None)
        return _without(replace(about, total=total), refused + cancel)
    confidence = 1 - 0.05 / len(design.held)
    held = []
    for one in design.held:
        failed, check = failed_control((one.first, one.second), checks), check_mediator(design, one, readings, runs)
        held.append(_pair(about, one, values, confidence, plan, failed, check))
    about = replace(about, held=tuple(held), limits=_limits(about, held))
    return replace(about, sentence=_sentence(about, values, plan.smallest_effect))


def mediation_sentences(about: Mediated | None) -> tuple[str, ...]:
    """Return the sentences that precede all other conclusions."""
    if about is None:
        return ()
    return tuple(text for text in (about.sentence, *(one.sentence for one in about.held), about.limits) if text)


def part(name: str, own: Values, total: Values, confidence: float) -> Contribution:
    """Return the mean over seeds with its t interval, and its share of the total with Fieller's, both at this confidence."""
    seeds, effect, whole = len(own), float(np.mean(own)), float(np.mean(total))
    half = None
    if seeds > 1:
        half = float(stats.t.ppf(0.5 + confidence / 2, seeds - 1) * np.std(own, ddof=1) / seeds**0.5)
    ratio = ratio_interval(own, total, confidence)
    return Contribution(
        name=name,
        effect=effect,
        low=None if half is None else effect - half,
        high=None if half is None else effect + half,
        share=effect / whole if whole else None,
        share_low=ratio[0] if ratio else None,
        share_high=ratio[1] if ratio else None,
        df=seeds - 1,
    )


def verdict(total: float, left: Contribution, through: Contribution, smallest_effect: float) -> str:
    """Return what follows from the two intervals; `inconclusive` where one of them does not support a claim.

    A part that is shown to be smaller than what matters comes first: it counts as none, be it significant or not.
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
    """1 or -1 where the interval is on one side of 0."""
    if one.low is None or one.high is None or one.low <= 0 <= one.high:
        return 0.0
    return 1.0 if one.low > 0 else -1.0


def _inside(one: Contribution, margin: float) -> bool:
    return one.low is not None and one.high is not None and -margin < one.low and one.high < margin


def _updates(plan: Plan, arm: str) -> float:
    return float(plan.arm(arm).derived.get("total_steps", 0))


def _without(about: Mediated, why: str) -> Mediated:
    return replace(about, refused=why, sentence=f"{_metric(about)}: nothing is divided, because {why}.")


def _pair(
    about: Mediated,
    one: Held,
    values: Mapping[str, Values],
    confidence: float,
    plan: Plan,
    failed: str,
    check: MediatorCheck,
) -> HeldEffect:
    base = HeldEffect(
        mediator=one.mediator, level=one.level, label=one.label, first=one.first, second=one.second, verdict="none given",
        sentence="", measures=check.measures, held=check.sentence,
    )  # fmt: skip
    if failed:
        return replace(base, sentence=f"{one.label}: no answer, because {failed}.")
    total = values[about.treated] - values[BASELINE]
    own = values[one.second] - values[one.first]
    left, through = part("left", own, total, confidence), part("through", total - own, total, confidence)
    assert about.total is not None
    base = replace(base, left=left, through=through)
    if not check.held:
        sentence = (
            f"NOT HELD: {check.sentence} So the effect between {one.first} and {one.second} "
            f"({plain_figure(left.effect)}) does not show what goes through {WORDS[one.mediator]}."
        )
        return replace(base, verdict="not held", sentence=sentence)
    found = verdict(about.total.effect, left, through, plan.smallest_effect)
    return replace(base, verdict=found, sentence=_answer(about, one, left, through, found, plan, check))


def _answer(
    about: Mediated, one: Held, left: Contribution, through: Contribution, found: str, plan: Plan, check: MediatorCheck
) -> str:
    """`3% (-9 to 15) goes through the gradient's noise: with that of 8 samples at both levels, the rise is 0.115 ...`"""
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
        None if value is None else f"{fixed(100 * value, 0)}%" for value in (through.share_low, through.share_high)
    )
    ends = f"[{fixed(left.low or 0, _decimals(left))}, {fixed(left.high or 0, _decimals(left))}]"
    pairs = len(plan.mediation.held) if plan.mediation else 1
    over = f", simultaneous over {pairs} levels held," if pairs > 1 else ""
    figures = f"{where}, {what} {plain_figure(abs(left.effect))} (95% interval{over} of the effect left {ends})"
    if found == "inconclusive":
        head = (
            f"Inconclusive: {share(through)} of it would go through {through_it}, but neither this nor what is left is "
            f"significant; {figures}"
        )
        return f"{head}. {check.sentence}".strip()
    head = f"{share(through)} of it goes through {through_it}: {figures}."
    least = f"at least {low}" if low and (through.share_low or 0) > 0 else "some"
    most = f"at most {high}" if high and (through.share_high or 0) < 1 else "how much is unknown"
    margin = f"within plus or minus {plain_figure(plan.smallest_effect)}"
    conclusion = {
        "all": f"What is left is {margin}: all of it that matters goes through it",
        "some or all": f"So {least} of it goes through it; an effect without it is not shown",
        "part": f"So part of it goes through it ({least}), and part does not",
        "beyond": "So more than all of it goes through it: something else works against it",
        "against": f"So {through_it} works against it: with it held, the effect is larger",
        "none": f"So the effect does not need {through_it}: what goes through is {margin}",
        "not all": f"So part of it does not go through it; that any does is not shown ({most})",
    }[found]
    return f"{head} {conclusion}. {check.sentence}".strip()


def _decimals(one: Contribution) -> int:
    half = ((one.high or 0) - (one.low or 0)) / 2
    return max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 3


def share(one: Contribution) -> str:
    """Return `92% (80 to 104)`; without an interval where the total is not significant at the confidence of the family."""
    if one.share is None:
        return "no share"
    text = f"{fixed(100 * one.share, 0)}%"
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
        said += f" All of it is smaller than {plain_figure(smallest_effect)}, the smallest effect of interest."
    return said


def _limits(about: Mediated, held: Sequence[HeldEffect]) -> str:
    """What does not follow."""
    answered = [one for one in held if one.verdict not in ("not held", "none given")]
    if not answered:
        return ""
    names = joined(dict.fromkeys(WORDS[one.mediator] for one in answered))
    said = (
        f"This applies to {names} at the levels held, not to other mediators; what goes through is the total minus what is "
        "left, and so includes what the two do only together."
    )
    before, after = about.updates
    if before != after:
        said += (
            f" The levels also differ in the number of updates ({before:g} and {after:g}), another path: what is left "
            f"may go through it. train.budget='{max(before, after):g} steps' compares them at equal updates."
        )
    elif any(one.mediator == "grad_noise" and BASELINE in (one.first, one.second) for one in answered):
        said += (
            " At equal updates a batch with the noise of a smaller one differs from it in little else, so that nearly all has "
            "to go through the noise; a share far from 100% would point to a fault."
        )
    return said


def _metric(about: Mediated) -> str:
    return about.metric.replace("_", " ")

"""How much of the difference between two configs each key makes, from a study of the combinations between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.complete_seeds import (
    complete_seeds,
    failed_control,
    no_complete_seed,
    not_divisible,
    not_significant,
)
from ablate.analysis.design_results import Attribution, KeyMoved
from ablate.analysis.results import RunReading
from ablate.config.flatten import changed, leaf_or_absent
from ablate.controls.control import Control
from ablate.design.designs import Corners
from ablate.design.plan import Plan
from ablate.formatting import change, counted, fixed, joined, plain_figure
from ablate.metrics.metric import MetricInfo
from ablate.stats.linear_model import ENOUGH_SEEDS
from ablate.stats.shapley import (
    Contribution,
    Contributions,
    contributions,
    main_contributions,
    path_contributions,
)

ByCorner = dict[int, NDArray[np.float64]]

INTERACTION = "interaction"


def attribution(
    plan: Plan,
    metrics: Sequence[MetricInfo],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
) -> Attribution | None:
    """Attribute the difference in the primary metric; None for a study that is not one between two configs.

    Nothing is divided where a control failed, where a combination has no value, and where the total is not significant.
    """
    corners = plan.corners
    if corners is None:
        return None
    metric = next(info for info in metrics if info.name == plan.metric)
    arms = {number: corners.arm(number) for number in corners.numbers}
    complete = complete_seeds(plan, [*arms.values()], metric.name, readings)
    seeds, values = complete.seeds, {number: complete.values[arm] for number, arm in arms.items()}
    about = Attribution(
        metric=metric.name,
        unit=metric.unit,
        first=corners.first,
        second=corners.second,
        keys=tuple(_key(plan, corners, key) for key in range(len(corners.names))),
        seeds=seeds,
        left_out=complete.left_out,
        orders=len(corners.paths),
        corners=tuple(_corner(corners, number, values) for number in corners.numbers),
        labels=("LOW POWER",) if len(seeds) < ENOUGH_SEEDS else (),
    )
    failed = failed_control([*arms.values()], checks) or ("" if seeds else no_complete_seed(readings, "combination"))
    if failed:
        return replace(about, refused=failed, sentence=f"{_words(metric.name)}: no shares, because {failed}.")
    divided = _divided(corners, values)
    refused = not_divisible(divided.total, len(seeds), "the total difference")
    opposed = _opposed_keys(divided) if not_significant(divided.total) else ()
    if refused:
        divided = _without_shares(divided)
    about = replace(
        about,
        total=divided.total,
        alone=divided.alone,
        interaction=divided.interaction,
        shapley=divided.shapley,
        significant=opposed if refused else divided.significant,
        shapley_significant=() if refused else divided.shapley_significant,
        refused=refused,
        undone=divided.undone,
        together=not refused and _together(divided),
    )
    return replace(
        about, sentence=_sentence(about, values, plan.smallest_effect), shapley_sentence=_shapley_sentence(about)
    )


def attribution_sentences(about: Attribution | None) -> tuple[str, ...]:
    """Return the sentences that precede all other conclusions."""
    return () if about is None else tuple(text for text in (about.sentence, about.shapley_sentence) if text)


def _key(plan: Plan, corners: Corners, key: int) -> KeyMoved:
    moves = corners.moves[key]
    brought = changed(plan.baseline.derived, plan.arm(corners.arm(1 << key)).derived)
    return KeyMoved(
        name=corners.names[key],
        moves={name: (leaf_or_absent(plan.baseline.config, name), value) for name, value in moves.items()},
        brings=dict(brought),
    )


def _corner(corners: Corners, number: int, values: ByCorner) -> dict[str, Any]:
    mean = float(np.mean(values[number])) if len(values[number]) else None
    keys = [name for key, name in enumerate(corners.names) if number >> key & 1]
    return {"arm": corners.arm(number), "keys": keys, "mean": mean}


def _divided(corners: Corners, values: ByCorner) -> Contributions:
    if not corners.paths:
        return contributions(corners.names, np.stack([values[number] for number in corners.numbers]))
    shapley = path_contributions(corners.names, values, corners.paths)
    return replace(
        main_contributions(corners.names, values),
        shapley=shapley.shapley,
        shapley_significant=shapley.shapley_significant,
    )


def _without_shares(divided: Contributions) -> Contributions:
    def bare(one: Contribution) -> Contribution:
        return replace(one, share=None, share_low=None, share_high=None)

    assert divided.interaction is not None
    return Contributions(
        total=bare(divided.total),
        alone=tuple(map(bare, divided.alone)),
        interaction=bare(divided.interaction),
        shapley=tuple(map(bare, divided.shapley)),
    )


def _together(divided: Contributions) -> bool:
    """Return whether the difference needs several keys, and no key is significant by itself.

    Shown by the interaction, or because each of several keys removes the difference when it alone is reset. Each of these
    must exclude 0, so that no correction is needed for their number: all have to be true for the claim to be.
    """
    if any(name != INTERACTION for name in divided.significant):
        return False
    return INTERACTION in divided.significant or len(_needed(divided.undone)) > 1


def _needed(undone: Sequence[Contribution]) -> list[str]:
    return [one.name for one in undone if one.low is not None and one.high is not None and one.low * one.high > 0]


def _opposed_keys(divided: Contributions) -> tuple[str, ...]:
    """Of a total that is not significant: keys that are, where they work against each other."""
    significant = [one for one in divided.alone if one.name in divided.significant]
    return tuple(one.name for one in significant) if _on_both_sides(significant) else ()


def _on_both_sides(parts: Sequence[Contribution]) -> bool:
    return any(one.effect > 0 for one in parts) and any(one.effect < 0 for one in parts)


def _mostly_cancel(about: Attribution) -> bool:
    """Return whether keys on either side of 0 each do more than the total: shares alone would mislead."""
    assert about.total is not None
    return _on_both_sides(
        [one for one in about.alone if one.name in about.significant and abs(one.effect) > abs(about.total.effect)]
    )


def _sentence(about: Attribution, values: ByCorner, smallest_effect: float) -> str:
    """`batch_size explains 92% (80 to 104) of the fall in eval-loss irregularity; train_test_ratio -3% (-12 to 6); ...`"""
    if about.refused:
        opposed = f" By itself {_moved(about)}: they work against each other." if about.significant else ""
        return f"{_words(about.metric)}: no shares, because {about.refused}.{opposed}"
    total, interaction = about.total, about.interaction
    assert total is not None
    assert total.low is not None
    assert total.high is not None
    assert interaction is not None
    parts = sorted((*about.alone, interaction), key=lambda one: -(one.share or 0.0))
    parts.sort(key=lambda one: one.name not in about.significant)
    if about.together:
        parts.sort(key=lambda one: one.name != INTERACTION)
    findings = "; ".join([_lead(about, parts), *map(_share, parts[1:])])
    unit = f" {about.unit}" if about.unit else ""
    first, second = (plain_figure(float(np.mean(values[number]))) for number in (0, max(values)))
    figures = f"{first} -> {second}{unit}, {change(total.effect, total.low, total.high)}"
    sentence = f"{findings}. Total: {figures}; {counted(len(about.seeds), 'seed')}."
    if abs(total.effect) < smallest_effect:
        sentence += f" All of it is smaller than {plain_figure(smallest_effect)}, the smallest effect of interest."
    rest = [one.name for one in parts if one.name not in about.significant]
    return sentence + (f" Not significant (corrected for {len(parts)} comparisons): {joined(rest)}." if rest else "")


def _lead(about: Attribution, parts: Sequence[Contribution]) -> str:
    """The first clause, about the contribution that comes first."""
    assert about.total is not None
    metric, first, lead = _words(about.metric), parts[0], _share(parts[0])
    direction = "fall" if about.total.effect < 0 else "rise"
    if about.together:
        needed = _needed(about.undone)
        keys = needed if len(needed) > 1 else [key.name for key in about.keys]
        return (
            f"{joined(keys)} together, and not each by itself, explain {_percent(first)} of the {direction} in {metric}"
        )
    if _mostly_cancel(about):
        against = f"{metric}: by itself {_moved(about)}: they work against each other"
        return f"{against}. Of the remaining {direction} in {metric}, {lead}"
    if first.name in about.significant and first.name != INTERACTION:
        return f"{first.name} explains {_percent(first)} of the {direction} in {metric}"
    if about.shapley_significant:
        several = len(about.shapley_significant) > 1
        return (
            f"{joined(about.shapley_significant)} contribute{'' if several else 's'} to the {direction} in {metric}, but "
            f"whether {'each ' if several else ''}by itself or only with the others is not shown: {lead}"
        )
    return f"No key is shown to explain the {direction} in {metric} by itself: {lead}"


def _moved(about: Attribution) -> str:
    """`batch_size raises it (+1.0, ...) and train_test_ratio lowers it (-1.0, ...)`."""
    moved = []
    for one in (one for one in about.alone if one.name in about.significant):
        assert one.low is not None
        assert one.high is not None
        direction = "raises" if one.effect > 0 else "lowers"
        moved.append(f"{one.name} {direction} it ({change(one.effect, one.low, one.high)})")
    return joined(moved)


def _shapley_sentence(about: Attribution) -> str:
    """The same total with the interaction divided evenly among the keys that make it."""
    if about.refused or not about.shapley:
        return ""
    parts = sorted(about.shapley, key=lambda one: -(one.share or 0.0))
    sentence = f"With the interaction divided evenly among the keys (Shapley): {'; '.join(map(_share, parts))}"
    significant = f" Significant: {joined(about.shapley_significant) or 'none'}."
    if not about.orders:
        return f"{sentence}.{significant}"
    errors = [one.sampling_error / abs(about.total.effect) for one in parts if about.total and about.total.effect]
    most = max((error for error in errors if np.isfinite(error)), default=None)
    more = f", plus or minus {fixed(100 * most, 0)}% for the orders that were not run" if most is not None else ""
    return f"{sentence}; over {about.orders} orders of the keys{more}.{significant}"


def _share(one: Contribution) -> str:
    return f"{one.name} {_percent(one)}"


def _percent(one: Contribution) -> str:
    """`92% (80 to 104)`."""
    assert one.share is not None
    text = f"{fixed(100 * one.share, 0)}%"
    if one.share_low is None or one.share_high is None:
        return text
    return f"{text} ({fixed(100 * one.share_low, 0)} to {fixed(100 * one.share_high, 0)})"


_COMPOUND: Mapping[str, str] = {"eval_loss_": "eval-loss ", "grad_norm_": "grad-norm ", "grad_noise_": "grad-noise "}


def _words(metric: str) -> str:
    """`eval-loss irregularity` for `eval_loss_irregularity`."""
    start = next((start for start in _COMPOUND if metric.startswith(start)), "")
    return f"{_COMPOUND.get(start, '')}{metric[len(start) :]}".replace("_", " ")

"""Which key makes how much of the difference between two configs: shares that add up, from a study of the corners between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.noise_floor import largest
from ablate.analysis.results import Attribution, Floor, KeyMoved, RunReading
from ablate.config.flatten import changed, leaf_or_absent
from ablate.controls.control import Control
from ablate.design.attribution import Corners
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

NOT_TOLD = "the total difference is not told from 0"


def attribution(
    plan: Plan,
    metrics: Sequence[MetricInfo],
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    found: Sequence[Floor],
) -> Attribution | None:
    """Of the primary metric; None for a study that is not one between two configs.

    Nothing is divided where a control failed, where a corner has no value, and where the total is not told from 0.
    """
    corners = plan.corners
    if corners is None:
        return None
    metric = next(info for info in metrics if info.name == plan.metric)
    seeds, values, left_out = _values(plan, corners, metric.name, readings)
    about = Attribution(
        metric=metric.name,
        unit=metric.unit,
        first=corners.first,
        second=corners.second,
        keys=tuple(_key(plan, corners, key) for key in range(len(corners.names))),
        seeds=seeds,
        left_out=left_out,
        orders=len(corners.paths),
        corners=tuple(_corner(corners, number, values) for number in corners.numbers),
        labels=("LOW POWER",) if len(seeds) < ENOUGH_SEEDS else (),
    )
    failed = _failed(corners, checks) or ("" if seeds else _empty(corners, metric.name, readings))
    if failed:
        return replace(about, refused=failed, sentence=f"{_words(metric.name)}: no shares, because {failed}.")
    divided = _divided(corners, values)
    refused = _not_told(divided.total, values, largest(found, metric.name))
    against = _against(divided) if refused.startswith(NOT_TOLD) else ()
    if refused:
        divided = _without_shares(divided)
    about = replace(
        about,
        total=divided.total,
        alone=divided.alone,
        interaction=divided.interaction,
        shapley=divided.shapley,
        told=against if refused else divided.significant,
        told_evenly=() if refused else divided.shapley_significant,
        refused=refused,
        undone=divided.undone,
        together=not refused and _together(divided),
    )
    return replace(about, sentence=_sentence(about, values, plan.smallest_effect), even=_even(about))


def answers(about: Attribution | None) -> tuple[str, ...]:
    """What comes before all other conclusions."""
    return () if about is None else tuple(text for text in (about.sentence, about.even) if text)


def _values(
    plan: Plan, corners: Corners, metric: str, readings: Sequence[RunReading]
) -> tuple[tuple[int, ...], ByCorner, tuple[str, ...]]:
    """Seeds with a value in every corner, the values by corner, and in words the seeds that lack some."""
    known: dict[str, dict[int, float]] = {arm.name: {} for arm in plan.arms}
    for run in readings:
        value = run.values.get(metric)
        if value is not None and np.isfinite(value):
            known[run.arm][run.seed] = value
    arms = {number: corners.arm(number) for number in corners.numbers}
    seeds = tuple(seed for seed in plan.seeds if all(seed in known[name] for name in arms.values()))
    left_out = []
    for seed in (seed for seed in plan.seeds if seed not in seeds):
        without = [name for name in arms.values() if seed not in known[name]]
        ended = {run.arm: run.status for run in readings if run.seed == seed}
        what = [f"{name} ({ended.get(name, 'missing')})" for name in without]
        left_out.append(f"seed {seed} is left out: no value in {joined(what)}")
    values = {number: np.asarray([known[name][seed] for seed in seeds]) for number, name in arms.items()}
    return seeds, values, tuple(left_out)


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


def _failed(corners: Corners, checks: Sequence[Control]) -> str:
    """A corner that is not what it says leaves the shares of all keys wrong."""
    arms = [corners.arm(number) for number in corners.numbers]
    broken = [check for check in checks if check.status == "failed" and check.arm in arms]
    return f"the control `{broken[0].name}` failed: {broken[0].sentence}" if broken else ""


def _empty(corners: Corners, metric: str, readings: Sequence[RunReading]) -> str:
    waiting = [run for run in readings if run.status in ("missing", "running", "interrupted")]
    if waiting:
        return f"no seed has finished every corner yet ({len(waiting)} of {counted(len(readings), 'run')} to go)"
    return f"no seed has a value of {metric} in all of the {len(corners.numbers)} corners"


def _divided(corners: Corners, values: ByCorner) -> Contributions:
    if not corners.paths:
        return contributions(corners.names, np.stack([values[number] for number in corners.numbers]))
    evenly = path_contributions(corners.names, values, corners.paths)
    return replace(
        main_contributions(corners.names, values),
        shapley=evenly.shapley,
        shapley_significant=evenly.shapley_significant,
    )


def _not_told(total: Contribution, values: ByCorner, floor: float | None) -> str:
    """Why there is nothing to divide; '' where there is."""
    first, second = (values[number] for number in (0, max(values)))
    if len(first) < 2:
        return "one seed has no interval: two are the least"
    if total.low is None or total.high is None or not total.high > total.low:
        return f"the difference is {plain_figure(total.effect)} in each of {len(second)} seeds: without spread there is no interval"
    if total.low <= 0 <= total.high:
        return f"{NOT_TOLD} ({change(total.effect, total.low, total.high)})"
    if floor is not None and abs(total.effect) <= floor:
        return f"the total difference, {plain_figure(total.effect)}, is no larger than {plain_figure(floor)}, which chance alone makes"
    return ""


def _without_shares(divided: Contributions) -> Contributions:
    def bare(part: Contribution) -> Contribution:
        return replace(part, share=None, share_low=None, share_high=None)

    assert divided.interaction is not None
    return Contributions(
        total=bare(divided.total),
        alone=tuple(map(bare, divided.alone)),
        interaction=bare(divided.interaction),
        shapley=tuple(map(bare, divided.shapley)),
    )


def _together(divided: Contributions) -> bool:
    """Whether the difference is there only where several keys have moved, and no key is told to make any of it by itself.

    Told by the interaction, or because each of several keys takes the difference away when it alone goes back. Each of these
    must exclude 0, so that no correction is needed for their number: all have to be true for the claim to be.
    """
    if any(name != INTERACTION for name in divided.significant):
        return False
    return INTERACTION in divided.significant or len(_needed(divided.undone)) > 1


def _needed(undone: Sequence[Contribution]) -> list[str]:
    return [part.name for part in undone if part.low is not None and part.high is not None and part.low * part.high > 0]


def _against(divided: Contributions) -> tuple[str, ...]:
    """Of a total that is not told from 0: keys that are, on either side of it. They work against each other."""
    told = [part for part in divided.alone if part.name in divided.significant]
    return tuple(part.name for part in told) if _on_both_sides(told) else ()


def _on_both_sides(parts: Sequence[Contribution]) -> bool:
    return any(part.effect > 0 for part in parts) and any(part.effect < 0 for part in parts)


def _mostly_cancel(about: Attribution) -> bool:
    """Keys told on either side of 0, each of which does more than is left of them all: shares alone would mislead."""
    assert about.total is not None
    return _on_both_sides(
        [part for part in about.alone if part.name in about.told and abs(part.effect) > abs(about.total.effect)]
    )


def _sentence(about: Attribution, values: ByCorner, smallest_effect: float) -> str:
    """`batch_size explains 92 % (80 to 104) of the fall in eval-loss roughness; train_ratio -3 % (-12 to 6); ...`"""
    assert about.total is not None
    assert about.interaction is not None
    if about.refused:
        return f"{_words(about.metric)}: no shares, because {about.refused}.{_opposed(about)}"
    total = about.total
    parts = sorted((*about.alone, about.interaction), key=lambda part: -(part.share or 0.0))
    parts.sort(key=lambda part: part.name not in about.told)
    lead, *others = [_share(part) for part in parts]
    direction = "fall" if total.effect < 0 else "rise"
    whole = f"of the {direction} in {_words(about.metric)}"
    if about.together:
        needed = [part.name for part in about.undone if part.name in _needed(about.undone)]
        keys = needed if len(needed) > 1 else [key.name for key in about.keys]
        parts.sort(key=lambda part: part.name != INTERACTION)
        lead, *others = [_share(part) for part in parts]
        head = f"{joined(keys)} together, and not each by itself, explain {_only(parts[0])} {whole}"
    elif _mostly_cancel(about):
        against = f"{_words(about.metric)}: by itself {_moved(about)}: they work against each other"
        head = f"{against}. {whole[0].upper()}{whole[1:]} that is left, {lead}"
    elif parts[0].name in about.told and parts[0].name != INTERACTION:
        head = f"{parts[0].name} explains {_only(parts[0])} {whole}"
    elif about.told_evenly:
        makes = "make" if len(about.told_evenly) > 1 else "makes"
        each = "each by itself or" if len(about.told_evenly) > 1 else "by itself or"
        head = f"{joined(about.told_evenly)} {makes} a part {whole}, whether {each} only with the others is not told: {lead}"
    else:
        head = f"No key is shown to explain the {direction} in {_words(about.metric)} by itself: {lead}"
    unit = f" {about.unit}" if about.unit else ""
    ends = [float(np.mean(values[number])) for number in (0, max(values))]
    assert total.low is not None
    assert total.high is not None
    figures = f"{plain_figure(ends[0])} -> {plain_figure(ends[1])}{unit}, {change(total.effect, total.low, total.high)}"
    said = f"{'; '.join([head, *others])}. Total: {figures}; {counted(len(about.seeds), 'seed')}."
    if abs(total.effect) < smallest_effect:
        said += f" All of it is smaller than {plain_figure(smallest_effect)}, the smallest effect that matters."
    untold = [part.name for part in parts if part.name not in about.told]
    return said + (
        f" Not told from 0 (over {counted(len(parts), 'part')} together): {joined(untold)}." if untold else ""
    )


def _opposed(about: Attribution) -> str:
    """`batch_size raises it by 1.0 (...) and train_ratio lowers it by 1.0 (...): they work against each other.`"""
    return f" By itself {_moved(about)}: they work against each other." if about.told else ""


def _moved(about: Attribution) -> str:
    moved = []
    for part in (part for part in about.alone if part.name in about.told):
        assert part.low is not None
        assert part.high is not None
        moved.append(
            f"{part.name} {'raises' if part.effect > 0 else 'lowers'} it ({change(part.effect, part.low, part.high)})"
        )
    return joined(moved)


def _even(about: Attribution) -> str:
    """The second reading: the interaction divided evenly among the keys that make it."""
    if about.refused or not about.shapley:
        return ""
    parts = sorted(about.shapley, key=lambda part: -(part.share or 0.0))
    said = f"With the interaction divided evenly among the keys (Shapley): {'; '.join(map(_share, parts))}"
    told = f" Told from 0: {joined(about.told_evenly) or 'none'}."
    if not about.orders:
        return f"{said}.{told}"
    errors = [part.sampling_error / abs(about.total.effect) for part in parts if about.total and about.total.effect]
    most = max((error for error in errors if np.isfinite(error)), default=None)
    more = f", give or take {fixed(100 * most, 0)} % for the orders that were not run" if most is not None else ""
    return f"{said}; over {about.orders} orders of the keys{more}.{told}"


def _share(part: Contribution) -> str:
    return f"{part.name} {_only(part)}"


def _only(part: Contribution) -> str:
    """`92 % (80 to 104)`."""
    assert part.share is not None
    text = f"{fixed(100 * part.share, 0)} %"
    if part.share_low is None or part.share_high is None:
        return text
    return f"{text} ({fixed(100 * part.share_low, 0)} to {fixed(100 * part.share_high, 0)})"


_COMPOUND: Mapping[str, str] = {"eval_loss_": "eval-loss ", "grad_norm_": "grad-norm ", "grad_noise_": "grad-noise "}


def _words(metric: str) -> str:
    """`eval-loss roughness` for `eval_loss_roughness`."""
    start = next((start for start in _COMPOUND if metric.startswith(start)), "")
    return f"{_COMPOUND.get(start, '')}{metric[len(start) :]}".replace("_", " ")

"""A study on an external Hydra app: metrics and controls from the values that its main function returned and its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ablate.analysis.load import RunFiles
from ablate.controls.control import Control
from ablate.controls.fingerprint_match import match, match_baseline
from ablate.controls.took_effect import took_effect
from ablate.design.axis import Axis
from ablate.design.axis_files import FINGERPRINT
from ablate.design.derived import DERIVED
from ablate.design.plan import Arm, Plan
from ablate.formatting import counted, joined
from ablate.metrics.metric import MetricInfo
from ablate.metrics.registry import METRICS, check_recorded, get_metric, recorded
from ablate.records.returned_values import BARE, choose_metric

NOTHING_RECORDED = (
    "not verified: the app records nothing of its loop, so initial weights, data or order may differ from the baseline's "
    "unnoticed; ablate.Recorder records them"
)


def settled(plan: Plan, runs: Sequence[RunFiles]) -> Plan:
    """Return the plan with the name of its metric: `hydra.sweeper.metric` may be left out where main returns one value.

    Raises ConfigError for an unknown metric, and where one of several values must be chosen.
    """
    if plan.app is None:
        check_recorded(plan.metric, [list(run.curves) for run in runs if run.curves])
        return plan
    names = _names(runs)
    return (
        replace(plan, metric=choose_metric(plan.metric, names)) if names else replace(plan, metric=plan.metric or BARE)
    )


def metrics_of(plan: Plan, runs: Sequence[RunFiles]) -> tuple[MetricInfo, ...]:
    """Return the metrics of a report: the primary one, the standard ones, the final value of any other that was evaluated.

    For an external app: the values that it returned, then the metrics of its record.
    """
    if plan.app is None:
        measured = recorded(metric for run in runs for metric in run.curves or {})
        return tuple(get_metric(name).info for name in dict.fromkeys((plan.metric, *METRICS, *measured)))
    returned = dict.fromkeys((plan.metric, *_names(runs)))
    infos = [_info(name, plan.app.lower_is_better if name == plan.metric else None) for name in returned]
    if any(run.trace is not None for run in runs):
        infos += [one.info for name, one in METRICS.items() if name not in returned]
    return tuple(infos)


def app_controls(plan: Plan, arm: Arm, runs: Sequence[RunFiles]) -> list[Control]:
    """Return the controls of an arm, or of the baseline, as far as the app recorded them."""
    baseline, own = (
        [run for run in runs if run.arm == name and run.finished] for name in (plan.baseline.name, arm.name)
    )
    prints = [{run.seed: run.fingerprint for run in mine} for mine in (baseline, own)]
    recorded = all(prints) and all(value is not None for mine in prints for value in mine.values())
    if arm.axis is None:
        same = _seeds_differ(plan, baseline)
        return [match_baseline(arm.name, prints[1])] * recorded + ([same] if same else [])
    axis = _with_items(plan.axis(arm.axis), prints) if recorded else None
    return [
        _not_recorded(arm) if axis is None else match(arm.name, axis, baseline=prints[0], fingerprints=prints[1]),
        _effect(arm, plan.axis(arm.axis), baseline, own),
    ]


def _names(runs: Sequence[RunFiles]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.returned or ()))


def _info(name: str, lower_is_better: bool | None) -> MetricInfo:
    return MetricInfo(name=name, unit="", definition="As returned by the app.", lower_is_better=lower_is_better)


def _not_recorded(arm: Arm) -> Control:
    return Control(arm=arm.name, name="matched", status="unverified", sentence=NOTHING_RECORDED)


def _seeds_differ(plan: Plan, baseline: Sequence[RunFiles]) -> Control | None:
    """A failed control where every seed has equal values: the seed has no effect, so that seeds are not repetitions."""
    values = [run.returned for run in baseline]
    if len(values) < 2 or any(value != values[0] for value in values):
        return None
    assert plan.app is not None
    sentence = (
        f"{plan.baseline.name} returned exactly the same values in {counted(len(values), 'seed')}: {plan.app.seed_key} does "
        "not reach any source of randomness, or there is none; the intervals then do not cover chance"
    )
    return Control(arm=plan.baseline.name, name="matched", status="failed", sentence=sentence)


def _with_items(axis: Axis, prints: Sequence[Mapping[int, object]]) -> Axis:
    """An app's setting may change anything of its loop, but not the environment; and the initial weights only together with the
    shapes of the parameters."""
    shapes = [{str(getattr(value, "items", {}).get("parameters")) for value in mine.values()} for mine in prints]
    held = ("environment",) if shapes[0] != shapes[1] else ("environment", "init")
    known = {name for mine in prints for value in mine.values() for name in getattr(value, "items", {})}
    return replace(
        axis,
        may_change=(*DERIVED, *(item for item in FINGERPRINT if item not in held)),
        must_match=tuple(i for i in held if i in known),
    )


def _effect(arm: Arm, axis: Axis, baseline: Sequence[RunFiles], own: Sequence[RunFiles]) -> Control:
    weights = [{run.seed: run.weights for run in mine} for mine in (baseline, own)]
    if all(weights) and all(value is not None for mine in weights for value in mine.values()):
        prints = [{run.seed: run.fingerprint for run in mine} for mine in (baseline, own)]
        return took_effect(arm.name, axis, baseline=prints[0], fingerprints=prints[1], weights=(weights[0], weights[1]))
    left, right = ({run.seed: run.returned for run in mine} for mine in (baseline, own))
    common = sorted(left.keys() & right.keys())
    equal = [seed for seed in common if left[seed] == right[seed]]
    if not common:
        sentence = "not verified: no seed in which both the baseline and the arm have finished"
        return Control(arm=arm.name, name="took_effect", status="unverified", sentence=sentence)
    where = f"seed {common[0]}" if len(common) == 1 else counted(len(common), "seed")
    if len(equal) == len(common):
        sentence = (
            f"no-op: {arm.name} returned exactly the baseline's values in {where}: {joined(list(axis.keys))} never reached the "
            "run, or changed nothing in it that the values show"
        )
        return Control(arm=arm.name, name="took_effect", status="failed", sentence=sentence)
    some = f"; the same in seed {', '.join(map(str, equal))}" if equal else ""
    sentence = f"returned other values than the baseline's in {len(common) - len(equal)} of {where}{some}"
    return Control(arm=arm.name, name="took_effect", status="proven", sentence=sentence)

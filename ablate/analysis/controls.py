"""The controls of every arm, from the plan and from the records of the finished runs.

What is recorded decides how they are checked: our loop and `Recorder` leave fingerprints, an external app at least the values
that it returned, and a log from another tool neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ablate.config.flatten import leaf, leaf_or_absent
from ablate.controls.config_isolation import isolate
from ablate.controls.control import Control
from ablate.controls.declared_settings import COLUMNS, Made, applied
from ablate.controls.fingerprint_match import Fingerprints, Sessions, match, match_baseline, sessions_alike
from ablate.controls.recorded_evidence import Evidence, with_evidence
from ablate.controls.took_effect import repeats, seeds_differ, took_effect
from ablate.design.axis import Axis, show
from ablate.design.axis_files import FINGERPRINT
from ablate.design.derived import DERIVED
from ablate.design.plan import Arm, Plan
from ablate.errors import AblateError, RecordError
from ablate.formatting import counted, first_of, joined
from ablate.records.reader import read_predictions
from ablate.records.run_files import RunFiles

NOT_RECORDED = "initial weights, sample order, splits, evaluation set, environment, code and final weights"
"""What no control can check in a log from another tool."""

_MIN_EQUAL_VALUES = 4
"""Two runs that agree in fewer values may do so by chance: an accuracy of three evaluations has few values."""

BySeed = Mapping[int, RunFiles]


def controls(plan: Plan, runs: Sequence[RunFiles]) -> tuple[Control, ...]:
    """Return the controls arm by arm in plan order: one variable, matched, took effect, and those of an arm by itself."""
    finished: dict[str, dict[int, RunFiles]] = {arm.name: {} for arm in plan.arms}
    for run in runs:
        if run.finished:
            finished[run.arm][run.seed] = run
    baseline = finished[plan.baseline.name]
    found: list[Control] = []
    for arm in plan.arms:
        own = finished[arm.name]
        if plan.app is not None:
            found += _of_app(plan, arm, baseline, own)
        elif arm.replayed:
            found += [_isolate(plan, arm), *_replayed(plan, arm, baseline)]
        elif formats := log_formats([*baseline.values(), *own.values()]):
            found += _of_log(plan, arm, baseline, own, formats)
        elif arm.axis is None:
            matched = match_baseline(arm.name, _fingerprints(own))
            found += [with_evidence(matched, None, {}, _evidence(own)), *_alone(plan, arm, own)]
        else:
            found += [_isolate(plan, arm), *_trained(plan, arm, baseline, own), *_alone(plan, arm, own)]
    return tuple(found)


def _unverified(arm: Arm, name: str, reason: str) -> Control:
    return Control(arm=arm.name, name=name, status="unverified", sentence=f"not verified: {reason}")


def _failed(arm: Arm, name: str, reason: str) -> Control:
    return Control(arm=arm.name, name=name, status="failed", sentence=reason)


def _checked(arm: Arm, name: str, evidence: str) -> Control:
    return Control(arm=arm.name, name=name, status="checked", sentence=evidence)


def _fingerprints(runs: BySeed) -> Fingerprints:
    return {seed: run.fingerprint for seed, run in runs.items()}


def _weights(runs: BySeed) -> dict[int, str | None]:
    return {seed: run.weights for seed, run in runs.items()}


def _isolate(plan: Plan, arm: Arm) -> Control:
    """Verified before the first run; a plan that fails now was edited, or made by other code."""
    axis = plan.axis(arm.axis or "")
    if not axis.keys:
        return _isolate_inferred(plan.baseline, arm)
    try:
        return isolate(plan.baseline, arm, axis)
    except AblateError as error:
        return _failed(arm, "one_variable", error.problem)


def _isolate_inferred(baseline: Arm, arm: Arm) -> Control:
    """Of an arm whose axis, inferred from the runs, has no keys: it changes several settings, or none."""
    if arm.kind == "placebo":
        return _checked(arm, "one_variable", "the baseline's settings, leaf by leaf")
    if arm.changes:
        pairs = [f"{key} ({show(leaf(baseline.config, key))} -> {show(value)})" for key, value in arm.changes.items()]
        reason = f"changes {len(pairs)} settings together, so it is not a one-variable comparison: {', '.join(pairs)}"
    else:
        reason = "has the baseline's settings, leaf by leaf: no variable is changed"
    return _failed(arm, "one_variable", f"{arm.name} {reason}")


# Runs of our loop, or of one with a Recorder


def _trained(plan: Plan, arm: Arm, baseline: BySeed, own: BySeed) -> list[Control]:
    axis, weights = plan.axis(arm.axis or ""), (_weights(baseline), _weights(own))
    prints = {"baseline": _fingerprints(baseline), "fingerprints": _fingerprints(own)}
    matched = match(arm.name, axis, **prints)
    matched = with_evidence(matched, axis, _evidence(baseline), _evidence(own))
    if axis.kind == "rerun":  # equal weights are what it should have
        return [matched, repeats(arm.name, weights=weights)]
    return [matched, took_effect(arm.name, axis, **prints, weights=weights)]


def _alone(plan: Plan, arm: Arm, own: BySeed) -> list[Control]:
    """Seeds that differ, settings applied, consistent resume; as far as they were recorded."""
    made = {
        seed: Made(run.fingerprint.items, {name: run.trace[name] for name in COLUMNS})
        for seed, run in own.items()
        if run.fingerprint is not None and run.trace is not None
    }
    accepted = (plan.code_digest, *plan.accepted) if plan.accepted else ()
    found = [
        seeds_differ(arm.name, fingerprints=_fingerprints(own), weights=_weights(own)),
        applied(arm.name, made),
        sessions_alike(arm.name, {seed: _sessions(run) for seed, run in own.items()}, accepted=accepted),
    ]
    return [control for control in found if control is not None]


def _evidence(runs: BySeed) -> dict[int, Evidence]:
    return {seed: recorded_evidence(run) for seed, run in runs.items()}


def recorded_evidence(run: RunFiles) -> Evidence:
    """Collect what the record of a run shows besides its fingerprint; predictions that cannot be read are left out."""
    items = run.fingerprint.items if run.fingerprint is not None else {}
    every_step = run.trace is not None and run.trace.every_step
    rates = run.trace["learning_rate"] if run.trace is not None and every_step else None
    if not run.folder.predictions.exists():
        return Evidence(items=items, rates=rates, final={})
    try:
        predictions = read_predictions(run.folder.predictions)
    except RecordError:
        return Evidence(items=items, rates=rates, final={})
    total = float(np.sum(predictions["items"]))
    final = {}
    for metric, curve in (run.curves or {}).items():
        if metric in predictions.metrics and len(curve) and curve.step[-1] == predictions.step and total:
            final[metric] = (float(np.sum(predictions[metric])) / total, float(curve.value[-1]))
    return Evidence(items=items, eval_ids=np.sort(predictions["id"].astype(np.int64)), rates=rates, final=final)


def _sessions(run: RunFiles) -> Sessions:
    code = [str(one.get("code_digest", "")) for one in (run.manifest.sessions if run.manifest else ())]
    return Sessions(code, [one.get("environment", {}) for one in (run.outcome.sessions if run.outcome else ())])


def _replayed(plan: Plan, arm: Arm, baseline: BySeed) -> list[Control]:
    """An observation axis is the baseline's own run at another cadence: nothing else can differ."""
    weights = [digest for digest in _weights(baseline).values() if digest is not None]
    if not weights:
        return [_unverified(arm, name, "no run of the baseline has finished") for name in ("matched", "took_effect")]
    shown = ", ".join(digest[:12] for digest in weights[:3]) + (", ..." if len(weights) > 3 else "")
    same = f"the baseline's own runs, read at another cadence: the same trajectory bit for bit (final weights {shown})"
    before, after = (int(each.derived["evaluations"]) for each in (plan.baseline, arm))
    read = f"{before} evaluations -> {after} evaluations"
    if before == after:
        read = "log rows at another cadence; nothing else can differ"
    return [_checked(arm, "matched", same), _checked(arm, "took_effect", read)]


# Runs of an external Hydra app


def _of_app(plan: Plan, arm: Arm, baseline: BySeed, own: BySeed) -> list[Control]:
    """As far as the app recorded them."""
    prints = (_fingerprints(baseline), _fingerprints(own))
    recorded = all(prints) and all(value is not None for mine in prints for value in mine.values())
    if arm.axis is None:
        same = _ignored_seed(plan, baseline)
        matched = with_evidence(match_baseline(arm.name, prints[1]), None, {}, _evidence(own))
        known = recorded or matched.status == "failed"
        return [matched] * known + ([same] if same else [])
    axis = plan.axis(arm.axis)
    if recorded:
        matched = match(arm.name, _app_axis(axis, prints), baseline=prints[0], fingerprints=prints[1])
    else:
        reason = (
            "the app records nothing of its loop, so initial weights, data or order may differ from the baseline's unnoticed; "
            "ablate.Recorder records them"
        )
        matched = _unverified(arm, "matched", reason)
    named = replace(axis, may_change=())  # all fingerprint items, whatever its key
    matched = with_evidence(matched, named, _evidence(baseline), _evidence(own))
    return [_isolate(plan, arm), matched, _app_effect(arm, axis, baseline, own)]


def _ignored_seed(plan: Plan, baseline: BySeed) -> Control | None:
    """A failed control where every seed has equal values: the seed has no effect, so that seeds are not repetitions."""
    values = [run.returned for run in baseline.values()]
    if len(values) < 2 or any(value != values[0] for value in values):
        return None
    assert plan.app is not None
    reason = (
        f"{plan.baseline.name} returned exactly the same values in {counted(len(values), 'seed')}: {plan.app.seed_key} does "
        "not reach any source of randomness, or there is none; the intervals then do not cover chance"
    )
    return _failed(plan.baseline, "matched", reason)


def _app_axis(axis: Axis, prints: tuple[Fingerprints, Fingerprints]) -> Axis:
    """An app's setting may change anything of its loop, but not the environment; and the initial weights only together with the
    shapes of the parameters."""
    items = [[value.items for value in mine.values() if value is not None] for mine in prints]
    shapes = [{str(one.get("parameters")) for one in mine} for mine in items]
    held = ("environment",) if shapes[0] != shapes[1] else ("environment", "init")
    known = {name for mine in items for one in mine for name in one}
    return replace(
        axis,
        may_change=(*DERIVED, *(item for item in FINGERPRINT if item not in held)),
        must_match=tuple(item for item in held if item in known),
    )


def _app_effect(arm: Arm, axis: Axis, baseline: BySeed, own: BySeed) -> Control:
    weights = (_weights(baseline), _weights(own))
    if all(weights) and all(value is not None for mine in weights for value in mine.values()):
        prints = {"baseline": _fingerprints(baseline), "fingerprints": _fingerprints(own)}
        return took_effect(arm.name, axis, **prints, weights=weights)
    common = sorted(baseline.keys() & own.keys())
    equal = [seed for seed in common if baseline[seed].returned == own[seed].returned]
    if not common:
        return _unverified(arm, "took_effect", "no seed in which both the baseline and the arm have finished")
    if len(equal) == len(common):
        reason = (
            f"no-op: {arm.name} returned exactly the baseline's values in {_seeds(common)}: {joined(axis.keys)} never reached "
            "the run, or changed nothing in it that the values show"
        )
        return _failed(arm, "took_effect", reason)
    some = f"; the same in seed {', '.join(map(str, equal))}" if equal else ""
    evidence = f"returned other values than the baseline's in {len(common) - len(equal)} of {_seeds(common)}{some}"
    return _checked(arm, "took_effect", evidence)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else counted(len(seeds), "seed")


# Runs imported from a log


def log_formats(runs: Sequence[RunFiles]) -> str:
    """Return the formats of the imported runs among these, in words; '' where none was imported."""
    return joined(dict.fromkeys(run.origin.format for run in runs if run.origin is not None))


def _of_log(plan: Plan, arm: Arm, baseline: BySeed, own: BySeed, formats: str) -> list[Control]:
    if arm.axis is None:
        reason = f"a log ({formats}) does not show that its seeds had one environment and one code"
        return [_unverified(arm, "matched", reason), *_logged_seeds(arm, own)]
    reason = f"a log ({formats}) holds no fingerprint: {NOT_RECORDED} may differ from the baseline's unnoticed"
    return [
        _isolate_logged(plan, arm, baseline, own),
        _unverified(arm, "matched", reason),
        _logged_effect(arm, baseline, own),
        *_logged_seeds(arm, own),
    ]


def differing(plan: Plan, arm: Arm) -> list[str]:
    """Return the recorded settings in which an arm differs from the baseline: `optim.lr (0.1 -> 0.5)`."""
    before = plan.baseline.config
    return [f"{key} ({show(leaf_or_absent(before, key))} -> {show(value)})" for key, value in arm.changes.items()]


def several_variables(pairs: Sequence[str]) -> str:
    """Return why settings that differ together show no cause. pairs: as `differing` returns them."""
    return (
        f"differs from the baseline in {len(pairs)} recorded settings ({first_of(pairs)}): a contrast of several "
        "variables does not show which of them is the cause. Import a run with each of them alone, or run all combinations "
        "with `ablate attribute`"
    )


def _isolate_logged(plan: Plan, arm: Arm, baseline: BySeed, own: BySeed) -> Control:
    pairs = differing(plan, arm)
    if len(pairs) > 1 and arm.kind != "placebo":
        return _failed(arm, "one_variable", f"{arm.name} {several_variables(pairs)}")
    groups = {"the baseline": baseline, arm.name: own}
    bare = [
        name
        for name, group in groups.items()
        if not any(run.origin is None or run.origin.settings for run in group.values())
    ]
    if bare:
        reason = f"no settings are on record for {joined(bare)}: --config-file ARM=FILE gives them"
    elif pairs:
        reason = (
            f"of the settings in the logs, only {pairs[0]} differs; settings that are not in them may differ as well"
        )
    else:
        cadence = _differing_cadence(baseline, own)
        reason = f"the settings on record are equal, so what {arm.name} changes is not among them{cadence}"
    return _unverified(arm, "one_variable", reason)


def _differing_cadence(baseline: BySeed, own: BySeed) -> str:
    """Settings of the cadence in which the first runs differ."""
    first = [next(iter(group.values()), None) for group in (baseline, own)]
    left, right = (run.origin.cadence if run is not None and run.origin else {} for run in first)
    keys = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
    changes = [f"{key} ({show(left.get(key, 'absent'))} -> {show(right.get(key, 'absent'))})" for key in keys]
    return f"; only the cadence differs: {', '.join(changes)}" if changes else ""


def _logged_effect(arm: Arm, baseline: BySeed, own: BySeed) -> Control:
    common = sorted(baseline.keys() & own.keys())
    if common and all(_same_values(baseline[seed], own[seed]) for seed in common):
        reason = (
            f"no-op: {arm.name} logged exactly the baseline's values in {_seeds(common)}: its change never reached the run, or "
            "the same run was imported twice"
        )
        return _failed(arm, "took_effect", reason)
    reason = "no final weights are on record; values other than the baseline's may have another cause"
    return _unverified(arm, "took_effect", reason)


def _logged_seeds(arm: Arm, own: BySeed) -> list[Control]:
    for first, second in combinations(sorted(own), 2):
        if _same_values(own[first], own[second]):
            same = f"{arm.name}, seeds {first} and {second} logged exactly the same values: they are one run"
            return [_failed(arm, "seeds_differ", f"seed ignored: {same}")]
    if len(own) < 2:
        return []
    return [_unverified(arm, "seeds_differ", "their values differ, but no final weights are on record")]


def _same_values(first: RunFiles, second: RunFiles) -> bool:
    left, right = _values(first), _values(second)
    return len(left) >= _MIN_EQUAL_VALUES and bool(np.array_equal(left, right, equal_nan=True))


def _values(run: RunFiles) -> NDArray[np.float64]:
    """All logged losses, norms and evaluations, in order."""
    curves = [run.curves[metric].value for metric in sorted(run.curves)] if run.curves else []
    trace = run.trace
    rows = [trace[column][trace.recorded(column)] for column in ("loss", "grad_norm")] if trace is not None else []
    return np.concatenate([np.empty(0), *curves, *rows])

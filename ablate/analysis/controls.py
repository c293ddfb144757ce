"""The controls of every arm, from the plan and from the records of the finished runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablate.analysis.hydra_app import app_controls
from ablate.analysis.imported_runs import imported_controls
from ablate.analysis.infer_plan import isolate_adopted
from ablate.analysis.load import RunFiles
from ablate.controls.config_isolation import isolate
from ablate.controls.control import Control
from ablate.controls.declared_settings import COLUMNS, Made, applied
from ablate.controls.fingerprint_match import Fingerprints, Sessions, match, match_baseline, sessions_alike
from ablate.controls.recorded_evidence import Evidence, with_evidence
from ablate.controls.took_effect import repeats, seeds_differ, took_effect
from ablate.design.axis import Axis
from ablate.design.plan import Arm, Plan
from ablate.errors import AblateError, RecordError
from ablate.records.reader import read_predictions


def controls(plan: Plan, runs: Sequence[RunFiles]) -> tuple[Control, ...]:
    """Arm by arm in plan order: isolate, match, took effect, and what is true of an arm by itself; of the baseline the last,
    and that its seeds share an environment."""
    if plan.app is not None:
        isolated = {arm.name: [_isolate(plan, arm, plan.axis(arm.axis))] for arm in plan.arms if arm.axis}
        return tuple(one for arm in plan.arms for one in (*isolated.get(arm.name, ()), *app_controls(plan, arm, runs)))
    found = imported_controls(plan, plan.baseline, runs) or [
        with_evidence(
            match_baseline(plan.baseline.name, _fingerprints(runs, plan.baseline)),
            None,
            {},
            _evidence(runs, plan.baseline),
        ),
        *_alone(plan, plan.baseline, runs),
    ]
    for arm in plan.arms[1:]:
        if not arm.replayed and (unverified := imported_controls(plan, arm, runs)) is not None:
            found += unverified
            continue
        axis = plan.axis(arm.axis or "")
        found.append(_isolate(plan, arm, axis))
        found += _replayed(plan, arm, runs) if arm.replayed else _trained(plan, arm, axis, runs)
        found += [] if arm.replayed else _alone(plan, arm, runs)
    return tuple(found)


def _isolate(plan: Plan, arm: Arm, axis: Axis) -> Control:
    """Verified before the first run; a plan that fails now was edited, or made by other code."""
    if not axis.keys:
        return isolate_adopted(plan.baseline, arm)
    try:
        return isolate(plan.baseline, arm, axis)
    except AblateError as error:
        return Control(arm=arm.name, name="one_variable", status="failed", sentence=error.problem)


def _trained(plan: Plan, arm: Arm, axis: Axis, runs: Sequence[RunFiles]) -> list[Control]:
    baseline, own = _fingerprints(runs, plan.baseline), _fingerprints(runs, arm)
    weights = (_weights(runs, plan.baseline), _weights(runs, arm))
    matched = match(arm.name, axis, baseline=baseline, fingerprints=own)
    matched = with_evidence(matched, axis, _evidence(runs, plan.baseline), _evidence(runs, arm))
    if axis.kind == "rerun":  # equal weights are what it should have
        return [matched, repeats(arm.name, weights=weights)]
    return [matched, took_effect(arm.name, axis, baseline=baseline, fingerprints=own, weights=weights)]


def _alone(plan: Plan, arm: Arm, runs: Sequence[RunFiles]) -> list[Control]:
    """Controls of an arm by itself: settings applied, consistent resume, seeds that differ; as far as they were recorded."""
    own = [run for run in runs if run.arm == arm.name and run.finished]
    made = {run.seed: made for run in own if (made := _made(run)) is not None}
    sessions = {run.seed: _sessions(run) for run in own}
    controls = [
        seeds_differ(arm.name, fingerprints=_fingerprints(runs, arm), weights=_weights(runs, arm)),
        applied(arm.name, made),
        sessions_alike(arm.name, sessions, accepted=(plan.code_digest, *plan.accepted) if plan.accepted else ()),
    ]
    return [control for control in controls if control is not None]


def _evidence(runs: Sequence[RunFiles], arm: Arm) -> dict[int, Evidence]:
    return {run.seed: recorded_evidence(run) for run in runs if run.arm == arm.name and run.finished}


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


def _made(run: RunFiles) -> Made | None:
    if run.fingerprint is None or run.trace is None:
        return None
    return Made(run.fingerprint.items, {name: run.trace[name] for name in COLUMNS})


def _sessions(run: RunFiles) -> Sessions:
    code = [str(one.get("code_digest", "")) for one in (run.manifest.sessions if run.manifest else ())]
    return Sessions(code, [one.get("environment", {}) for one in (run.outcome.sessions if run.outcome else ())])


def _replayed(plan: Plan, arm: Arm, runs: Sequence[RunFiles]) -> list[Control]:
    """An observation axis is the baseline's own run at another cadence: nothing else can differ."""
    weights = [digest for digest in _weights(runs, plan.baseline).values() if digest is not None]
    if not weights:
        sentence = "not verified: no run of the baseline has finished"
        return [
            Control(arm=arm.name, name=name, status="unverified", sentence=sentence)
            for name in ("matched", "took_effect")
        ]
    shown = ", ".join(digest[:12] for digest in weights[:3]) + (", ..." if len(weights) > 3 else "")
    same = f"the baseline's own runs, read at another cadence: the same trajectory bit for bit (final weights {shown})"
    before, after = (int(each.derived["evaluations"]) for each in (plan.baseline, arm))
    read = (
        f"{before} evaluations -> {after} evaluations"
        if before != after
        else "log rows at another cadence; nothing else can differ"
    )
    return [
        Control(arm=arm.name, name="matched", status="proven", sentence=same),
        Control(arm=arm.name, name="took_effect", status="proven", sentence=read),
    ]


def _fingerprints(runs: Sequence[RunFiles], arm: Arm) -> Fingerprints:
    return {run.seed: run.fingerprint for run in runs if run.arm == arm.name and run.finished}


def _weights(runs: Sequence[RunFiles], arm: Arm) -> dict[int, str | None]:
    return {run.seed: run.weights for run in runs if run.arm == arm.name and run.finished}

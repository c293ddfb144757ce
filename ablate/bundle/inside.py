"""Whether the files of one run tell of one run: what fingerprint and outcome took from the tables still stands there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ablate.errors import RecordError
from ablate.record.reader import Evals, Trace, read_evals, read_predictions, read_trace
from ablate.record.rundir import RunDir
from ablate.record.values import Outcome, read_fingerprint, read_manifest, read_outcome

_CLOSE = 1e-6
"""Relative. A trace holds 7 digits of a loss, and a sum may be taken in another order."""


def inside(place: RunDir) -> Iterator[str]:
    """What does not fit, of a run that was recorded and has come to an end."""
    name = f"{place.path.parent.name}/{place.path.name}"
    try:
        outcome = read_outcome(place)
        if outcome is None or outcome.status != "finished" or read_manifest(place).origin or not place.trace.exists():
            return
        fingerprint, trace, evals = read_fingerprint(place), read_trace(place.trace), read_evals(place.evals)
        items = fingerprint.items if fingerprint is not None else {}
        yield from (f"{name}: {problem}" for problem in _trace(items, outcome, trace))
        yield from (f"{name}: {problem}" for problem in _evals(items, outcome, evals))
        if place.predictions.exists():
            yield from (f"{name}: {problem}" for problem in _predictions(place, evals))
    except RecordError as error:
        yield error.problem
    except (ValueError, TypeError, KeyError, IndexError) as error:
        yield f"{name}: {type(error).__name__}: {error}"[:300]


def _trace(items: Mapping[str, Any], outcome: Outcome, trace: Trace) -> Iterator[str]:
    last = int(trace["step"][-1]) if len(trace) else 0
    if outcome.step != last:
        yield f"outcome.json says {outcome.step} steps, and trace.arrow has {last}"
    for column, said in items.get("first_step", {}).items():
        if len(trace) and not _same(said, trace[column][0]):
            yield f"fingerprint.json says {said} for {column} of the first step, and trace.arrow {trace[column][0]:.9g}"
    if "tokens_seen" in items and len(trace) and int(items["tokens_seen"]) != int(trace["tokens"][-1]):
        yield f"fingerprint.json says {items['tokens_seen']} tokens, and trace.arrow {trace['tokens'][-1]:.0f}"


def _evals(items: Mapping[str, Any], outcome: Outcome, evals: Evals) -> Iterator[str]:
    for metric, said in items.get("loss_at_start", {}).items():
        curve = evals.curve(metric)
        if len(curve) and curve.step[0] == 0 and not _same(said, curve.value[0]):
            yield f"fingerprint.json says {said} for {metric} before training, and evals.arrow {curve.value[0]:.9g}"
    for metric, best in outcome.best.items():
        curve = evals.curve(metric)
        at = curve.value[curve.step == best["step"]]
        if len(at) == 0 or not any(_same(best["value"], value) for value in at):
            yield f"outcome.json says that {metric} was {best['value']} at step {best['step']}, and evals.arrow does not"


def _predictions(place: RunDir, evals: Evals) -> Iterator[str]:
    kept = read_predictions(place.predictions)
    for metric in kept.metrics:
        curve = evals.curve(metric)
        at = curve.value[curve.step == kept.step]
        value = float(np.sum(kept[metric])) / max(float(np.sum(kept["items"])), 1.0)
        if len(at) and not _same(value, at[-1]):
            yield f"predictions.arrow has {metric} {value:.9g} at step {kept.step}, and evals.arrow {at[-1]:.9g}"


def _same(one: Any, other: Any) -> bool:
    return bool(np.isclose(float(one), float(other), rtol=_CLOSE, atol=_CLOSE * 1e-3, equal_nan=True))

"""Contamination that the records show where no fingerprint does: evaluation examples, learning rates, altered evaluations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.controls.control import Control
from ablate.design.axis import Axis

_RATE_WORDS = ("lr", "learning_rate", "rate", "optim", "schedule", "warmup", "decay", "budget", "steps", "epochs")
"""An axis whose keys or accepted items contain one of these may change the learning rates."""

_EVAL_WORD = re.compile(r"(?<![a-z])(eval|evaluation|val|validation)(?![a-z])")
"""An axis may change the evaluation examples where its keys or accepted items have one of these words. A whole word:
`evaluations`, their number, which any larger batch changes, accepts no other examples."""

_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the record of a finished run holds besides its fingerprint.

    items: of the fingerprint. eval_ids: of the examples of the final evaluation, ascending; None where none were saved.
    rates: learning rate of each step; None where not every step is recorded.
    final: {metric: (from the saved predictions, from the evaluations)} at the same step.
    """

    items: Mapping[str, Any]
    eval_ids: NDArray[np.int64] | None = None
    rates: NDArray[np.float64] | None = None
    final: Mapping[str, tuple[float, float]]


def with_evidence(
    matched: Control, axis: Axis | None, baseline: Mapping[int, Evidence], own: Mapping[int, Evidence]
) -> Control:
    """Return the control `matched`, failed where the records of the arm contradict it.

    axis: None for the baseline, of which only the evaluations are checked. baseline, own: by seed.
    """
    if matched.status == "failed":
        return matched
    for seed, evidence in sorted(own.items()):
        found = _altered(evidence)
        if axis is not None and not found and seed in baseline:
            found = _other_examples(axis, baseline[seed], evidence) or _other_rates(axis, baseline[seed], evidence)
        if found:
            sentence = f"contaminated: {matched.arm}, seed {seed}: {found}"
            return replace(matched, status="failed", sentence=sentence)
    return matched


def _altered(run: Evidence) -> str:
    for metric, (predicted, evaluated) in run.final.items():
        if abs(predicted - evaluated) > _TOLERANCE * max(1.0, abs(predicted)):
            return (
                f"its saved predictions give a final {metric} of {predicted:.6g}, and its evaluations {evaluated:.6g}: one of "
                "the two was altered, or is of another run"
            )
    return ""


def _other_examples(axis: Axis, baseline: Evidence, arm: Evidence) -> str:
    theirs, ids = baseline.eval_ids, arm.eval_ids
    if theirs is None or ids is None or np.array_equal(theirs, ids) or any(map(_EVAL_WORD.search, _names(axis))):
        return ""
    common = len(np.intersect1d(theirs, ids))
    return (
        f"evaluated on other examples than the baseline ({common} in common, of {len(ids)} and {len(theirs)}), and axis "
        f"{axis.name} does not accept it"
    )


def _other_rates(axis: Axis, baseline: Evidence, arm: Evidence) -> str:
    """Only where no schedule was declared, which `settings_applied` would check, and the runs have equally many steps."""
    if any("rates" in run.items or run.rates is None for run in (baseline, arm)) or any(
        word in name for name in _names(axis) for word in _RATE_WORDS
    ):
        return ""
    assert baseline.rates is not None
    assert arm.rates is not None
    if len(baseline.rates) != len(arm.rates):
        return ""
    off = np.flatnonzero(~np.isclose(baseline.rates, arm.rates, rtol=_TOLERANCE, atol=0.0, equal_nan=True))
    if not len(off):
        return ""
    k = int(off[0])
    return (
        f"learning rate {arm.rates[k]:.6g} at step {k + 1}, where the baseline has {baseline.rates[k]:.6g}, and axis "
        f"{axis.name} does not accept it ({len(off)} such steps)"
    )


def _names(axis: Axis) -> list[str]:
    """Return what the axis is called, changes and accepts, in small letters; `evalSet` as `eval_set`."""
    names = (axis.name, *axis.keys, *axis.may_change)
    return [re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in names]

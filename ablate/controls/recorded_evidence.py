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

_RATE_WORDS = re.compile("lr|rate|optim|schedule|warmup|decay|budget|steps|epochs")
_EVAL_WORDS = re.compile(r"(?<![a-z])(eval|evaluation|val|validation)(?![a-z])")
"""An axis may change the learning rates or the evaluation examples where its name or keys have such a word, or where it accepts
`optimizer.lr` or `eval_set`. Other accepted items say nothing of the two: of a loop that is not ours, `optimizer` and
`eval_examples` are accepted with every setting."""

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
    """Return the control `matched`, failed where the records of the arm contradict it; else its sentence says what agrees.

    axis: None for the baseline, of which only the evaluations are checked. baseline, own: by seed.
    """
    if matched.status == "failed":
        return matched
    agreeing: list[set[str]] = []
    for seed, evidence in sorted(own.items()):
        found = {"predictions and evaluations": _altered(evidence)}
        if axis is not None and seed in baseline:
            found["evaluation examples"] = _other_examples(axis, baseline[seed], evidence)
            found["learning rates"] = _other_rates(axis, baseline[seed], evidence)
        if problem := next(filter(None, found.values()), ""):
            sentence = f"contaminated: {matched.arm}, seed {seed}: {problem}"
            return replace(matched, status="failed", sentence=sentence)
        agreeing.append({name for name, problem in found.items() if problem is not None})
    agree = sorted(set.intersection(*agreeing)) if agreeing else []
    return replace(matched, sentence=f"{matched.sentence}; of the whole run: {', '.join(agree)}") if agree else matched


# Each check returns what is wrong; '' where nothing is, and None where there is nothing to compare.


def _altered(run: Evidence) -> str | None:
    for metric, (predicted, evaluated) in run.final.items():
        if abs(predicted - evaluated) > _TOLERANCE * max(1.0, abs(predicted)):
            return (
                f"its saved predictions give a final {metric} of {predicted:.6g}, and its evaluations {evaluated:.6g}: one of "
                "the two was altered, or is of another run"
            )
    return "" if run.final else None


def _other_examples(axis: Axis, baseline: Evidence, arm: Evidence) -> str | None:
    theirs, ids = baseline.eval_ids, arm.eval_ids
    if theirs is None or ids is None or _may(axis, _EVAL_WORDS, "eval_set"):
        return None
    if np.array_equal(theirs, ids):
        return ""
    common = len(np.intersect1d(theirs, ids))
    return (
        f"evaluated on other examples than the baseline ({common} in common, of {len(ids)} and {len(theirs)}), and axis "
        f"{axis.name} does not accept it"
    )


def _other_rates(axis: Axis, baseline: Evidence, arm: Evidence) -> str | None:
    """Only where no schedule was declared, which `settings_applied` would check, and the runs have equally many steps."""
    theirs, rates = baseline.rates, arm.rates
    declared = any("rates" in run.items for run in (baseline, arm))
    if declared or theirs is None or rates is None or len(theirs) != len(rates) or np.all(np.isnan(rates)):
        return None
    if _may(axis, _RATE_WORDS, "optimizer.lr"):
        return None
    off = np.flatnonzero(~np.isclose(theirs, rates, rtol=_TOLERANCE, atol=0.0, equal_nan=True))
    if not len(off):
        return ""
    k = int(off[0])
    return (
        f"learning rate {rates[k]:.6g} at step {k + 1}, where the baseline has {theirs[k]:.6g}, and axis {axis.name} does not "
        f"accept it ({len(off)} such steps)"
    )


def _may(axis: Axis, words: re.Pattern[str], item: str) -> bool:
    names = (re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in (axis.name, *axis.keys))
    return item in axis.may_change or any(map(words.search, names))

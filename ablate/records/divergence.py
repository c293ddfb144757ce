"""Divergence of a run whose loop did not report it, derived from its record."""

from __future__ import annotations

import numpy as np

from ablate.records.layout import RunDir
from ablate.records.reader import read_evals, read_trace

_TRAILING = 3
"""Training rows at the end that must all be non-finite: a single one may be a skipped step."""


def divergence(run: RunDir) -> str:
    """Return how a complete record ends if it is not finite, `eval_loss is nan at step 40`; '' for a finite end.

    The last evaluation of the held-out examples decides; if training went on after it, the last training losses.
    """
    evals = read_evals(run.evals)
    curves = {metric: evals.curve(metric) for metric in evals.metrics()}
    evaluated = max((int(curve.step[-1]) for curve in curves.values()), default=-1)
    trace = read_trace(run.trace, ("step", "loss"))
    losses = trace["loss"][trace.recorded("loss")]
    steps = trace["step"][trace.recorded("loss")]
    if len(steps) and steps[-1] > evaluated:
        diverged = not np.isfinite(losses[-_TRAILING:]).any()
        return f"loss is {losses[-1]:g} at step {steps[-1]:.0f}, the last one" if diverged else ""
    for metric, curve in curves.items():
        if curve.step[-1] == evaluated and not np.isfinite(curve.value[-1]):
            return f"eval_{metric} is {curve.value[-1]:g} at step {evaluated}, the last evaluation"
    return ""

"""Lines about a single run for the terminal."""

from __future__ import annotations

import numpy as np

from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus
from ablate.records.reader import EvalCurve, read_evals


def eval_curves(run: RunDir) -> dict[str, EvalCurve]:
    """Return the curves of a run's evaluations by metric; none for a run that ended before its first evaluation."""
    if not run.evals.exists():
        return {}
    evals = read_evals(run.evals)
    curves = {metric: evals.curve(metric) for metric in evals.metrics()}
    return {metric: curve for metric, curve in curves.items() if len(curve)}


def eval_line(name: str, curve: EvalCurve) -> str:
    """Return a metric before and after a run, with the standard error of the last evaluation over its examples."""
    error = f" (standard error {curve.standard_error[-1]:.2g})" if np.isfinite(curve.standard_error[-1]) else ""
    evaluations = f"{len(curve)} evaluations of {curve.count[-1]} examples"
    return f"eval {name}  {curve.value[0]:.4g} -> {curve.value[-1]:.4g}{error} in {evaluations}"


def pace_line(outcome: RunStatus) -> str:
    """Return how fast a run was; empty for one that took no step."""
    rates = outcome.throughput
    if not rates.get("train_samples_per_second"):
        return ""
    parts = [f"train {rates['train_samples_per_second']:.3g} samples/s"]
    if rates["train_tokens_per_second"]:
        parts.append(f"{rates['train_tokens_per_second']:.0f} tokens/s")
    if rates["eval_samples_per_second"]:
        parts.append(f"eval {rates['eval_samples_per_second']:.3g} samples/s")
    if "mfu" in rates:
        parts.append(f"MFU {rates['mfu']:.0%} of an assumed {rates['device_peak_flops'] / 1e12:.0f} TFLOP/s")
    parts.append(f"peak memory {rates['peak_memory_bytes'] / 2**30:.2f} GiB")
    return "pace " + ", ".join(parts)

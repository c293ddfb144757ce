"""The runs that lie in a folder without a plan, arm by arm, as they recorded themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ablate.errors import RecordError
from ablate.record.origin import origin_of
from ablate.record.reader import Evals, Trace, read_evals, read_trace
from ablate.record.rundir import RunDir, StudyDir, safe_name
from ablate.record.values import Manifest, Outcome, read_fingerprint, read_manifest, read_outcome
from ablate.record.yaml_file import read_yaml


@dataclass(slots=True)
class FoundArm:
    """One arm as it lies there: by seed, its folder, its manifest (None where unreadable) and its settings."""

    runs: dict[int, RunDir] = field(default_factory=dict)
    manifests: dict[int, Manifest | None] = field(default_factory=dict)
    configs: dict[int, dict[str, Any]] = field(default_factory=dict)


def found_arms(folder: Path) -> dict[str, FoundArm]:
    """Arms by name. A folder that was renamed counts by its new name, because that is where its runs are looked for."""
    found: dict[str, FoundArm] = {}
    for run in StudyDir(folder).runs():
        number = run.path.name.removeprefix("seed=")
        if not number.isdecimal() or str(int(number)) != number or run.leads_out():
            continue
        try:
            manifest = read_manifest(run)
        except (RecordError, TypeError):
            manifest = None
        own = run.path.parent.name
        name = manifest.arm if manifest is not None and safe_name(manifest.arm) == own else own
        arm, seed = found.setdefault(name, FoundArm()), int(number)
        arm.runs[seed], arm.manifests[seed], arm.configs[seed] = run, manifest, _settings(run)
    return found


def _settings(run: RunDir) -> dict[str, Any]:
    """config.yaml, less what every run has of its own. Raises RecordError for one that cannot be read."""
    try:
        value = read_yaml(run.config) if run.config.exists() else {}
    except (OSError, ValueError) as error:
        raise RecordError(f"{run.config} cannot be read: {error}", "remove that run's folder") from None
    value = _undotted(value) if isinstance(value, Mapping) else {}
    return {key: item for key, item in value.items() if key not in ("seed", "arm")}


def _undotted(value: Any) -> Any:
    """Keys as leaves name them: a dot separates levels, so it cannot be part of a key."""
    if not isinstance(value, Mapping):
        return value
    return {str(key).replace(".", "_"): _undotted(item) for key, item in value.items()}


def fingerprint_item(run: RunDir, name: str) -> Any:
    """One item of a run's fingerprint; None where there is none."""
    try:
        known = read_fingerprint(run)
    except (RecordError, TypeError):
        return None
    return known.items.get(name) if known else None


def counts(run: RunDir) -> dict[str, float]:
    """Steps, samples, looks and epochs of a finished run, by their names in `design.derive`; nothing of any other."""
    try:
        outcome, trace, evals = read_outcome(run), read_trace(run.trace), read_evals(run.evals)
        manifest = read_manifest(run)
    except (RecordError, TypeError):
        return {}
    if outcome is None or outcome.status != "finished":
        return {}
    if origin := origin_of(manifest.origin):
        return _imported_counts(outcome, trace, evals, origin.samples_per_step)
    if not len(trace):
        return {}
    samples, epochs = trace["samples"], float(trace["epoch"][-1])
    curves = [evals.curve(metric) for metric in evals.metrics()]
    found: dict[str, float] = {
        "total_steps": len(trace),
        "samples_seen": int(samples[-1]),
        "effective_batch": int(samples[0]),
        "evaluations": max((len(set(curve.step.tolist())) for curve in curves), default=0),
        "eval_examples": max((int(curve.count.max()) for curve in curves if len(curve)), default=0),
    }
    # nan where the loop did not say how many samples an epoch has
    return found | ({"epochs": epochs, "train_examples": round(samples[-1] / epochs)} if epochs > 0 else {})


def _imported_counts(outcome: Outcome, trace: Trace, evals: Evals, samples_per_step: int) -> dict[str, float]:
    """The same of an imported run, as far as its log says them: rows are not steps there, and nobody counted the examples."""
    curves = [evals.curve(metric) for metric in evals.metrics()]
    found: dict[str, float] = {
        "total_steps": outcome.step,
        "evaluations": max((len(set(curve.step.tolist())) for curve in curves), default=0),
    }
    epochs = np.concatenate([trace["epoch"][-1:], *(curve.epoch[-1:] for curve in curves)])
    if samples_per_step:
        found |= {"effective_batch": samples_per_step, "samples_seen": outcome.step * samples_per_step}
    if len(epochs) and np.isfinite(epochs).any():
        found["epochs"] = float(np.nanmax(epochs))
    return found

"""From a job in Hydra's grammar to a run: composed, named, given its folder, and started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ablate.config import TrackerConfig, make_config
from ablate.design.compose import Composer
from ablate.design.leaves import changed
from ablate.design.plan import BASELINE, run_digest, what_counts
from ablate.errors import StudyError
from ablate.record.digest import code_digest
from ablate.record.reader import EvalCurve, read_evals
from ablate.record.rundir import RunDir, StudyDir, safe_name
from ablate.record.values import Outcome, read_manifest, read_outcome
from ablate.study.sweep import check_writable, holds_result, pending, read_plan
from ablate.study.track import notice
from ablate.study.workers import Job, run_all

SINGLE = "single"
"""Folder of the runs that belong to no study."""

_NOT_THE_ARM = ("seed", "study.", "study=", "tracker", "hydra")


def launch_local(composer: Composer, job_overrides: Sequence[Sequence[str]]) -> list[Outcome]:
    """Run the jobs of one study on this machine, a fresh process each."""
    jobs = compose_jobs(composer, job_overrides)
    if not jobs:
        return []
    config = make_config(jobs[0].config)
    study = config.study
    folder = Path(study.root) / safe_name(study.name or SINGLE)
    done = 0
    if StudyDir(folder).plan.exists():
        plan = read_plan(folder)
        done = len(plan.runs) - len(pending(plan, folder))
    _say_if_untracked(config.tracker)
    return run_all(jobs, slots=study.workers, fail_fast=study.fail_fast, title=study.name or SINGLE, already_done=done)


def _say_if_untracked(tracker: TrackerConfig) -> None:
    """Here too, because what a run says is in its own log."""
    if line := notice(tracker):
        print(line, flush=True)


def compose_jobs(composer: Composer, job_overrides: Sequence[Sequence[str]]) -> list[Job]:
    """The jobs, composed once per arm: runs of one arm differ in `seed=` only."""
    composed: dict[tuple[str, ...], dict[str, Any]] = {}
    jobs = []
    for overrides in job_overrides:
        seeds = [int(text.removeprefix("seed=")) for text in overrides if re.fullmatch(r"seed=\d+", text)]
        shared = tuple(text for text in overrides if not re.fullmatch(r"seed=\d+", text))
        if shared not in composed:
            composed[shared] = composer.compose(shared)
        seed = seeds[-1] if seeds else composed[shared]["seed"]
        jobs.append(make_job(composer, {**composed[shared], "seed": seed}, overrides))
    return jobs


def make_job(composer: Composer, config: dict[str, Any], overrides: Sequence[str]) -> Job:
    """A run of a frozen plan, or a run of its own: `<root>/single/<its overrides>/seed=<n>`."""
    study = make_config(config).study
    folder = Path(study.root) / safe_name(study.name or SINGLE)
    digest = run_digest(config, seed=config["seed"], code_digest=code_digest())
    if StudyDir(folder).plan.exists():
        changes = _planned_changes(folder, config, digest)
    else:
        config = {**config, "arm": _arm_name(config, overrides), "study": {**config["study"], "name": folder.name}}
        base = what_counts(composer.compose())
        changes = {key: after for key, (_, after) in changed(base, what_counts(config)).items()}
    return Job(
        arm=config["arm"],
        seed=config["seed"],
        config=config,
        folder=StudyDir(folder).run(config["arm"], config["seed"]).path,
        changes=changes,
        digest=digest,
    )


def _planned_changes(folder: Path, config: dict[str, Any], digest: str) -> dict[str, Any]:
    plan = read_plan(folder)
    for run in plan.runs:
        if (run.arm, run.seed, run.digest) == (config["arm"], config["seed"], digest):
            return plan.arm(run.arm).changes
    raise StudyError(
        f"{folder} holds a study, and its plan has no run {config['arm']}, seed {config['seed']} of this config",
        "study.name=<another> for a run beside it",
    )


def _arm_name(config: dict[str, Any], overrides: Sequence[str]) -> str:
    if config["arm"] != BASELINE:
        return str(config["arm"])
    kept = sorted(text for text in overrides if not text.startswith(_NOT_THE_ARM))
    return ",".join(kept) or BASELINE


def run_single(composer: Composer, overrides: Sequence[str]) -> tuple[Job, Outcome, bool]:
    """One run of its own. The last value says whether it was made now, or lay there already.

    Raises DataError or ModelError before a folder is made, and StudyError where another run's result lies.
    """
    from ablate.tasks.facts import data_facts

    job = compose_jobs(composer, [overrides])[0]
    place = RunDir(job.folder)
    data_facts(make_config(job.config))
    check_writable(job.folder)
    if holds_result(place, job.digest):
        outcome = read_outcome(place)
        assert outcome is not None
        return job, outcome, False
    if place.manifest.exists() and read_manifest(place).digest != job.digest:
        raise StudyError(
            f"{job.folder} holds a run of another config, or by other code of ablate",
            f"study.name=<another>, or remove {job.folder}",
        )
    _say_if_untracked(make_config(job.config).tracker)
    return job, run_all([job], slots=1, fail_fast=False, title=f"{job.arm}/seed={job.seed}")[0], True


def run_here(composer: Composer, overrides: Sequence[str]) -> Outcome:
    """One run in this process, for launchers that make their own processes."""
    from ablate.study.worker import execute

    job = compose_jobs(composer, [overrides])[0]
    return execute(make_config(job.config), RunDir(job.folder), changes=job.changes, digest=job.digest)


def look_line(name: str, curve: EvalCurve) -> str:
    """A metric before and after a run, with the standard error of the last look over its examples, on one line."""
    error = f" (standard error {curve.standard_error[-1]:.2g})" if np.isfinite(curve.standard_error[-1]) else ""
    examples = f"{len(curve)} looks at {curve.count[-1]} examples"
    return f"eval {name}  {curve.value[0]:.4g} -> {curve.value[-1]:.4g}{error} in {examples}"


def pace_line(outcome: Outcome) -> str:
    """How fast a run went, on one line; empty for one that took no step."""
    rates = outcome.throughput
    if not rates.get("train_samples_per_second"):
        return ""
    parts = [f"train {rates['train_samples_per_second']:.3g} samples/s"]
    if rates["train_tokens_per_second"]:
        parts.append(f"{rates['train_tokens_per_second']:.0f} tokens/s")
    if rates["eval_samples_per_second"]:
        parts.append(f"eval {rates['eval_samples_per_second']:.3g} samples/s")
    if "mfu" in rates:
        parts.append(f"MFU {rates['mfu']:.0%} of an assumed {rates['assumed_peak_flops'] / 1e12:.0f} TFLOP/s")
    parts.append(f"peak memory {rates['peak_memory_bytes'] / 2**30:.2f} GiB")
    return "pace " + ", ".join(parts)


def eval_curves(place: RunDir) -> dict[str, EvalCurve]:
    """{metric: curve} of a run's evaluations; nothing for a run that did not come as far as its first look."""
    if not place.evals.exists():
        return {}
    evals = read_evals(place.evals)
    curves = {metric: evals.curve(metric) for metric in evals.metrics()}
    return {metric: curve for metric, curve in curves.items() if len(curve)}

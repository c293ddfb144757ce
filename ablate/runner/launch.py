"""A run in a process that an engine made and may use again: it runs as one of ours does, and leaves the process as it was."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ablate.config.flatten import changed
from ablate.config.schema import BASELINE, TrackerConfig, make_config
from ablate.design.plan import Plan, Run, config_digest, digest_by, request_digest, what_counts
from ablate.design.plan_file import read_plan
from ablate.errors import RecordError, StudyError
from ablate.hashing import Planned
from ablate.planning.compose import Composer
from ablate.planning.shared_prefix import siblings
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import RunStatus, read_manifest, read_status
from ablate.records.reader import EvalCurve, read_evals
from ablate.records.source_code import code_digest, code_files
from ablate.runner.devices import leases
from ablate.runner.locks import Claim, Claims
from ablate.runner.log_capture import captured
from ablate.runner.reuse import has_result, holds_result, what_changed
from ablate.runner.run_study import check_writable, course_in, pending
from ablate.runner.scheduler import result_by_now, run_all
from ablate.runner.stop import forget_stop, stop_request
from ablate.runner.subprocess_run import Job
from ablate.tracking import notice
from ablate.training.signals import stop_on_signals

_ENGINES_OWN = (signal.SIGUSR1, signal.SIGUSR2)
"""With these an engine says that the job's time is nearly over, to a handler of its own."""


@contextmanager
def working_in(folder: Path | None) -> Iterator[None]:
    """The current folder is the one in which the command was typed, which is what relative paths in it mean; None: stay here.

    Raises RecordError where this machine has no such folder.
    """
    if folder is None:
        yield
        return
    before = Path.cwd()
    try:
        os.chdir(folder)
    except OSError as error:
        raise RecordError(
            f"{folder}, where the study was started, is not on {socket.gethostname()}: {error.strerror or error}",
            "start it in a folder that all machines of the engine share",
        ) from None
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def as_in_its_own(log: Path) -> Iterator[Callable[[], str | None]]:
    """What our own processes give a run: threads as there, and output in its log. Yields what `train` wants as `stop`.

    The engine's warning ends the run at its next step, with a checkpoint. Only then does the engine's own handler see it: it
    raises, exits or queues the job again, and must not do so in the middle of a step.
    """
    import torch

    log.parent.mkdir(parents=True, exist_ok=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(leases(None)[0].num_threads)  # how a sum is split decides how it rounds
    try:
        with _engine_heard_last() as stop, captured(log):
            yield stop
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _engine_heard_last() -> Iterator[Callable[[], str | None]]:
    numbers = [number for number in _ENGINES_OWN if callable(signal.getsignal(number))]
    if not numbers or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    with stop_on_signals(*numbers) as caught:
        yield caught
        name = caught()
    if name is not None:
        signal.raise_signal(signal.Signals[name])


# From a job in Hydra's grammar to a run: composed, named, given its folder, and started.

SINGLE = "single"
"""Folder of the runs that belong to no study."""

_ASK_SECONDS = 2.0
_NOT_THE_ARM = ("seed", "study.", "study=", "tracker", "hydra")


def launch_local(composer: Composer, job_overrides: Sequence[Sequence[str]]) -> list[RunStatus]:
    """Run the jobs of one study on this machine, a fresh process each."""
    jobs = compose_jobs(composer, job_overrides)
    if not jobs:
        return []
    config = make_config(jobs[0].config)
    study, folder = config.study, study_folder(jobs[0].config)
    done, after, title = 0, dict[str, str](), study.name or SINGLE
    if StudyDir(folder).plan.exists():
        plan = read_plan(folder)
        done = len(plan.runs) - len(pending(plan, folder))
        after = siblings(plan)
        if (course := course_in(folder, plan)) is not None and course.next is not None:
            title = f"{title}, to the look at {course.next} seeds"
    _say_if_untracked(config.tracker)
    return run_all(jobs, study, title=title, already_done=done, after=after)


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
    folder = study_folder(config)
    if StudyDir(folder).plan.exists():
        changes, digest, planned = _as_planned(folder, config)
    else:
        config = {**config, "arm": _arm_name(config, overrides), "study": {**config["study"], "name": folder.name}}
        base = what_counts(composer.compose())
        changes = {key: after for key, (_, after) in changed(base, what_counts(config)).items()}
        planned = _planned_alone(config)
        digest = digest_by(planned.request, code_digest(planned.code))
    return Job(
        arm=config["arm"],
        seed=config["seed"],
        config=config,
        folder=StudyDir(folder).run(config["arm"], config["seed"]).path,
        changes=changes,
        digest=digest,
        planned=planned,
    )


def _planned_alone(config: dict[str, Any]) -> Planned:
    """Of a run that belongs to no study. Raises DataError or ModelError."""
    from ablate.tasks.sizes import data_facts

    facts = data_facts(make_config(config))
    request = request_digest(config_digest(config), seed=config["seed"], data=facts.data, model=facts.model)
    return Planned(request=request, data=facts.data, code=code_files([config["task"]["entry_point"]]))


def study_folder(config: dict[str, Any]) -> Path:
    """Where a config's study lies; `<root>/single` for a run that belongs to none."""
    study = make_config(config).study
    return Path(study.output_dir) / safe_name(study.name or SINGLE)


def _as_planned(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], str, Planned]:
    """What the plan says of a run: its arm's changes, its digest, and what that is made of."""
    path = StudyDir(folder).plan
    plan, runs = _plan_in(folder, path.stat().st_mtime_ns)
    run = runs.get((config["arm"], config["seed"]))
    if run is not None:
        arm = plan.arm(run.arm)
        if run.request == request_digest(config_digest(config), seed=run.seed, data=arm.data, model=arm.model):
            return arm.changes, run.digest, Planned(request=run.request, data=arm.data, code=plan.code)
    raise StudyError(
        f"{folder} holds a study, and its plan has no run {config['arm']}, seed {config['seed']} of this config",
        "study.name=<another> for a run beside it",
    )


@lru_cache(maxsize=4)
def _plan_in(folder: Path, _written: int) -> tuple[Plan, dict[tuple[str, int], Run]]:
    """Read once for all jobs of a study; `_written` tells it from an earlier one in the same place."""
    plan = read_plan(folder)
    return plan, {(run.arm, run.seed): run for run in plan.runs}


def _arm_name(config: dict[str, Any], overrides: Sequence[str]) -> str:
    if config["arm"] != BASELINE:
        return str(config["arm"])
    kept = sorted(text for text in overrides if not text.startswith(_NOT_THE_ARM))
    return ",".join(kept) or BASELINE


def run_single(composer: Composer, overrides: Sequence[str]) -> tuple[Job, RunStatus, bool]:
    """One run of its own. The last value says whether it was made now, or lay there already.

    Raises DataError or ModelError before a folder is made, and StudyError where another run's result lies.
    """
    job = compose_jobs(composer, [overrides])[0]
    place = RunDir(job.folder)
    check_writable(job.folder)
    if holds_result(place, job.digest):
        outcome = read_status(place)
        assert outcome is not None
        return job, outcome, False
    config = make_config(job.config)
    earlier = read_manifest(place) if place.manifest.exists() else None
    if earlier is not None and earlier.request != job.planned.request:
        raise StudyError(
            f"{job.folder} holds a run of another config or of other data",
            f"study.name=<another>, or remove {job.folder}",
        )
    if earlier is not None and has_result(place):
        if config.study.accept_code_change and (outcome := read_status(place)) is not None:
            return job, outcome, False
        raise StudyError(
            f"{job.folder} was made by other code: {', '.join(what_changed(earlier, job.planned.code))}",
            f"--accept-code-change keeps it; or study.name=<another>, or remove {job.folder}",
        )
    _say_if_untracked(config.tracker)
    forget_stop(study_folder(job.config))
    return job, run_all([job], replace(config.study, workers=1, fail_fast=False))[0], True


def run_here(composer: Composer, overrides: Sequence[str], *, typed_in: Path | None = None) -> RunStatus:
    """One run in this process, for launchers that make their own processes. A result that lies there already is kept.

    typed_in: the folder in which the study was started; relative paths are relative to it. Raises RecordError where this
    machine does not see the study.
    """
    from ablate.runner.worker import execute

    with working_in(typed_in):
        job = compose_jobs(composer, [overrides])[0]
        plan = StudyDir(study_folder(job.config)).plan
        if typed_in is not None and not plan.exists():
            raise RecordError(
                f"{plan.absolute()} is not to be seen on {socket.gethostname()}",
                "study.output_dir=<a folder that all machines share>",
            )
        run = RunDir(job.folder)
        with Claims(plan.parent.parent) as claims:
            claim = _in_turn(claims, job, plan.parent)
            if isinstance(claim, RunStatus):
                return claim
            with as_in_its_own(run.log) as stop:
                return execute(
                    make_config(job.config),
                    run,
                    changes=job.changes,
                    digest=job.digest,
                    planned=job.planned,
                    stop=_Reasons(stop, claims, claim, plan.parent),
                )


def _in_turn(claims: Claims, job: Job, study: Path) -> Claim | RunStatus:
    """Take a run, when whoever has it is done or gone; the outcome where there is nothing to do any more."""
    while True:
        if stop_request(study) is not None:
            return RunStatus(status="interrupted", reason="stop", message="not started: `ablate stop` asked for it")
        if (claim := claims.take(job.digest)) is not None:
            outcome = result_by_now(job)
            return claim if outcome is None else outcome
        time.sleep(_ASK_SECONDS)


class _Reasons:
    """What ends a run in an engine's job before its time: the engine, `ablate stop`, or another process that has it now."""

    def __init__(self, engine: Callable[[], str | None], claims: Claims, claim: Claim, study: Path) -> None:
        self._engine, self._claims, self._claim, self._study = engine, claims, claim, study
        self._next = 0.0

    def __call__(self) -> str | None:
        if (reason := self._engine()) is not None:
            return reason
        if self._claims.is_lost(self._claim):
            return "another process has taken this run over"
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _ASK_SECONDS
            request = stop_request(self._study)
            if request is not None and not request.after_current:
                return "`ablate stop` asked for it"
        return None


def look_line(name: str, curve: EvalCurve) -> str:
    """A metric before and after a run, with the standard error of the last look over its examples, on one line."""
    error = f" (standard error {curve.standard_error[-1]:.2g})" if np.isfinite(curve.standard_error[-1]) else ""
    examples = f"{len(curve)} looks at {curve.count[-1]} examples"
    return f"eval {name}  {curve.value[0]:.4g} -> {curve.value[-1]:.4g}{error} in {examples}"


def pace_line(outcome: RunStatus) -> str:
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
        parts.append(f"MFU {rates['mfu']:.0%} of an assumed {rates['device_peak_flops'] / 1e12:.0f} TFLOP/s")
    parts.append(f"peak memory {rates['peak_memory_bytes'] / 2**30:.2f} GiB")
    return "pace " + ", ".join(parts)


def eval_curves(place: RunDir) -> dict[str, EvalCurve]:
    """{metric: curve} of a run's evaluations; nothing for a run that did not come as far as its first look."""
    if not place.evals.exists():
        return {}
    evals = read_evals(place.evals)
    curves = {metric: evals.curve(metric) for metric in evals.metrics()}
    return {metric: curve for metric, curve in curves.items() if len(curve)}

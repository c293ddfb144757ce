"""A few real steps, timed: short runs in processes of their own, as many at a time as the study will have."""

from __future__ import annotations

import io
import statistics
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate.config import Config
from ablate.errors import AblateError
from ablate.record.rundir import RunDir, StudyDir
from ablate.study.pace import Pace, pace_of, span_of
from ablate.study.process import Job
from ablate.study.workers import run_all

_WARM_UP_STEPS = 3  # which the throughput leaves out
_TIMED_SAMPLES = 96
_FEWEST_STEPS = 2
_LOOKED_AT = 64
_STUDY = "timing"


def timed(config: Config, *, at_once: int) -> tuple[Pace, float]:
    """Train a few steps for real, between two looks, `at_once` times at once. Leaves nothing.

    Returns the pace, and the seconds until the first run could begin (the libraries are imported once for all of them).
    Raises AblateError with what the first of the runs failed with.
    """
    short = _short(config)
    silence = io.StringIO()
    with TemporaryDirectory(prefix="ablate-") as place, redirect_stdout(silence), redirect_stderr(silence):
        jobs = [_job(short, Path(place), seed) for seed in range(at_once)]
        began = time.time()
        outcomes = run_all(jobs, replace(config.study, workers=at_once, retries=0, fail_fast=False), title=_STUDY)
        paces = [pace_of(RunDir(job.folder), at_once=at_once) for job in jobs]
        spans = [span for job in jobs if (span := span_of(RunDir(job.folder))) is not None]
        ended = time.time()
    found = [pace for pace in paces if pace is not None]
    if not found:
        raise AblateError(f"the first steps fail: {outcomes[0].sentence}")
    waited = min(span.start for span in spans) - began
    # From a run's end until its place is free, and from there until the next one begins.
    gap = ended - max(span.end for span in spans)
    pace = _mean(found)
    return replace(pace, startup_seconds=pace.startup_seconds + gap + min(waited, gap)), waited


def _short(config: Config) -> Config:
    size = config.samples_per_step
    samples = size * (_WARM_UP_STEPS + max(_FEWEST_STEPS, -(-_TIMED_SAMPLES // size)))
    looked_at = min(_LOOKED_AT, config.observe.eval_examples or _LOOKED_AT)
    return replace(
        config,
        loop=replace(config.loop, budget=f"{samples} samples", checkpoint_every=None),
        observe=replace(config.observe, eval_every=f"{samples} samples", eval_spacing="even", eval_examples=looked_at),
        tracker=replace(config.tracker, name="none"),
    )


def _job(config: Config, place: Path, seed: int) -> Job:
    whole = asdict(replace(config, seed=seed, study=replace(config.study, name=_STUDY, root=str(place))))
    folder = StudyDir(place / _STUDY).run(config.arm, seed).path
    return Job(arm=config.arm, seed=seed, config=whole, folder=folder, changes={}, digest=_STUDY)


def _mean(paces: list[Pace]) -> Pace:
    def mean(name: str) -> float:
        return statistics.fmean(getattr(pace, name) for pace in paces)

    return replace(
        paces[0],
        train=mean("train"),
        evaluate=mean("evaluate"),
        startup_seconds=mean("startup_seconds"),
        peak_memory_bytes=max(pace.peak_memory_bytes for pace in paces),
    )

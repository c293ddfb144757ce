"""Forecast of a study before its first run: what is done, what is reused, what the rest costs, and whether to ask before it."""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate.config.schema import Config
from ablate.design.plan import Plan, Run
from ablate.errors import AblateError, StudyError
from ablate.planning.cost import Cost, Pace, combined, estimate, obviously_below, pace_of, span_of
from ablate.planning.planner import Prepared
from ablate.records.layout import StudyDir
from ablate.runner.devices import num_slots
from ablate.runner.freeze import pending, settled
from ablate.runner.jobs import Job
from ablate.runner.reuse import reusable
from ablate.runner.run_study import at_most
from ablate.runner.scheduler import run_all

RunKey = tuple[str, int]
"""(arm, seed) of a run."""

_WARM_UP_STEPS = 3
"""Steps that the throughput leaves out."""
_TIMED_SAMPLES, _MIN_TIMED_STEPS, _EVALUATED = 96, 2, 64
_STUDY = "timing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What is known of a plan before its first run."""

    done: frozenset[RunKey] = frozenset()
    """Runs with a stored result."""
    shared: Mapping[RunKey, str] = field(default_factory=dict)
    """{run: study that its result can be reused from}."""
    stopped: frozenset[RunKey] = frozenset()
    """Runs that are no longer needed, because an interim analysis has decided their variant."""
    costs: Mapping[str, Cost] = field(default_factory=dict)
    """Cost of one run by arm; arms without an estimate are missing."""
    seconds: float | None = None
    """Time of all that is to do; None where a cost is missing."""
    basis: str = ""
    """Where the costs come from, in words."""
    num_parallel: int = 1
    """Runs at a time."""

    def waiting(self, plan: Plan) -> list[Run]:
        """Return the runs that are still to be trained."""
        gone = {*self.done, *self.shared, *self.stopped}
        return [run for run in plan.runs if (run.arm, run.seed) not in gone]


def forecast(prepared: Prepared, *, measure: bool) -> Forecast:
    """Return everything that can be known before the first run.

    measure: time a few steps where no earlier run tells the pace.
    Raises StudyError where the directory holds another study, AblateError where the timed steps fail.
    """
    plan, known = _known(prepared)
    expected = estimate(
        plan,
        known.waiting(plan),
        prepared.folder.parent,
        slots=_slots(plan),
        time_steps=time_steps if measure else None,
    )
    return replace(
        known, costs=expected.costs, seconds=expected.seconds, basis=expected.basis, num_parallel=expected.num_parallel
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LongStudy:
    """A study that is expected to take longer than `study.confirm_above_hours`."""

    study: str
    num_runs: int
    num_parallel: int
    hours: float
    limit: float
    is_sequential: bool = False

    @property
    def sentence(self) -> str:
        runs = f"{self.num_runs} run{'s' * (self.num_runs != 1)} to do, {self.num_parallel} at a time"
        most = "at most " if self.is_sequential else ""
        return (
            f"{self.study} takes {most}about {self.hours:.1f} hours ({runs}), "
            f"and study.confirm_above_hours={self.limit:g} asks before more than that"
        )

    def refusal(self) -> StudyError:
        """Return the error for a command without a terminal."""
        larger = math.ceil(self.hours * 1.1)
        return StudyError(
            f"{self.sentence}; there is no terminal to ask on, and nothing was started",
            f"study.confirm_above_hours={larger}, or study.confirm_above_hours=null never to ask",
        )


def longer_than_allowed(prepared: Prepared, *, local: bool) -> LongStudy | None:
    """Return what to ask before the study starts; None where it is short, or where its time is unknown.

    local: the runs go on this machine, so that a few steps can be timed here. They are not where the study is obviously small.
    """
    limit = prepared.plan.baseline.config["study"]["confirm_above_hours"]
    if limit is None:
        return None
    plan, known = _known(prepared)
    waiting = known.waiting(plan)
    if not waiting or obviously_below(plan, waiting, _slots(plan), 3600 * limit):
        return None
    try:
        expected = estimate(
            plan, waiting, prepared.folder.parent, slots=_slots(plan), time_steps=time_steps if local else None
        )
    except AblateError:
        return None  # its first steps fail: the run itself reports that, with its log
    if expected.seconds is None or expected.seconds <= 3600 * limit:
        return None
    return LongStudy(
        study=plan.study,
        num_runs=len(waiting),
        num_parallel=expected.num_parallel,
        hours=expected.seconds / 3600,
        limit=limit,
        is_sequential=bool(plan.interim_seeds),
    )


def _known(prepared: Prepared) -> tuple[Plan, Forecast]:
    """Return the plan without the runs that are no longer needed, and what is done, reused and not needed."""
    folder, settings = prepared.folder, prepared.plan.baseline.config["study"]
    whole = settled(prepared.plan, folder, accept_code_change=settings["accept_code_change"])
    plan = at_most(folder, whole)
    waiting = pending(plan, folder)
    return plan, Forecast(
        done=_keys(plan.runs) - _keys(waiting),
        shared={key: run.study for key, run in reusable(plan, folder, waiting).items()},
        stopped=_keys(whole.runs) - _keys(plan.runs),
    )


def _keys(runs: Iterable[Run]) -> frozenset[RunKey]:
    return frozenset((run.arm, run.seed) for run in runs)


def _slots(plan: Plan) -> int:
    settings = plan.baseline.config["study"]
    return num_slots(settings["workers"], settings["runs_per_gpu"])


def time_steps(config: Config, *, num_parallel: int) -> tuple[Pace, float]:
    """Train a few real steps between two evaluations, in `num_parallel` simultaneous processes. Leaves no files.

    Returns the pace, and the seconds until the first run could begin (the libraries are imported once for all of them).
    Raises AblateError with the failure of the first run.
    """
    short, silence = _short(config), io.StringIO()
    with TemporaryDirectory(prefix="ablate-") as root, redirect_stdout(silence), redirect_stderr(silence):
        jobs = [_job(short, Path(root), seed) for seed in range(num_parallel)]
        began = time.time()
        outcomes = run_all(jobs, replace(config.study, workers=num_parallel, retries=0, fail_fast=False), title=_STUDY)
        paces = [pace for job in jobs if (pace := pace_of(job.run, num_parallel=num_parallel)) is not None]
        spans = [span for job in jobs if (span := span_of(job.run)) is not None]
        ended = time.time()
    if not paces:
        raise AblateError(f"the first steps fail: {outcomes[0].message}")
    waited = min(span.start for span in spans) - began
    # From a run's end until its lease is free, and from there until the next one begins.
    gap = ended - max(span.end for span in spans)
    pace = combined(paces, statistics.fmean)
    return replace(pace, startup_seconds=pace.startup_seconds + gap + min(waited, gap)), waited


def _short(config: Config) -> Config:
    size = config.samples_per_step
    samples = size * (_WARM_UP_STEPS + max(_MIN_TIMED_STEPS, -(-_TIMED_SAMPLES // size)))
    evaluated = min(_EVALUATED, config.eval.max_examples or _EVALUATED)
    return replace(
        config,
        train=replace(config.train, budget=f"{samples} samples"),
        checkpoint=replace(config.checkpoint, every=None),
        eval=replace(config.eval, every=f"{samples} samples", spacing="even", max_examples=evaluated),
        tracker=replace(config.tracker, name="none"),
    )


def _job(config: Config, root: Path, seed: int) -> Job:
    values = asdict(replace(config, seed=seed, study=replace(config.study, name=_STUDY, output_dir=str(root))))
    folder = StudyDir(root / _STUDY).run(config.arm, seed).path
    return Job(arm=config.arm, seed=seed, config=values, folder=folder, changes={}, digest=_STUDY)

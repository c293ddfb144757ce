"""Forecast of a study before its first run: what is done, what is reused, what the rest costs, and whether to ask before it.

A run costs its start, its steps and its evaluations, at the mean seconds per step and per evaluated example of earlier runs
that trained alike, or of a few steps that are timed here.
"""

from __future__ import annotations

import heapq
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ablate.config.schema import Config, make_config
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan, Run, what_counts
from ablate.errors import AblateError, StudyError
from ablate.hashing import digest_of
from ablate.planning.planner import Prepared
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_fingerprint, read_manifest, read_status
from ablate.runner.freeze import pending, settled
from ablate.runner.jobs import Job
from ablate.runner.processes import leases
from ablate.runner.reuse import reusable
from ablate.runner.run_study import at_most
from ablate.runner.scheduler import run_all
from ablate.serialization import read_yaml

OVERHEAD_SECONDS = 11.0
"""Time to import the libraries, once for all runs, to plan a study and to write its report; measured on two idle CPU cores."""

_NO_PACE = {
    "model": ("dropout",),
    "data": ("split", "split_seed", "train_test_ratio", "eval_test_ratio"),
    "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "lr_schedule", "warmup_ratio", "min_lr_ratio"),
    "train": ("budget", "max_grad_norm", "noise_batch_size", "max_skipped_steps"),
    "eval": ("every", "spacing", "num_evaluations", "max_examples"),
    "random_streams": ("init", "order", "augment", "dropout", "noise"),
}
"""Keys that leave the cost of a step unchanged. A key that is not named here is assumed to change it."""

_MOST_READ = 100
"""Most runs of one study whose times are read."""
_BETWEEN_RUNS_SECONDS = 1.0
"""From the end of a run until the next one begins on the same device."""

_RECORD_BYTES, _BYTES_PER_STEP, _BYTES_PER_EVALUATION, _BYTES_PER_EXAMPLE = 30e3, 300.0, 1e3, 40.0
"""Disk space of a finished run: its small files, a row of the trace, an evaluation, a prediction. Measured."""

_WARM_UP_STEPS = 3
"""Steps that a run's seconds per step leave out."""
_TIMED_SAMPLES, _MIN_TIMED_STEPS, _EVALUATED = 96, 2, 64
_STUDY = "timing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What the parts of a run cost."""

    step_seconds: float
    example_seconds: float
    """Per evaluated example."""
    startup_seconds: float
    """Before the first step and after the last evaluation."""
    peak_memory_bytes: float = 0.0
    num_parameters: int = 0
    """0 where unknown."""
    num_trainable: int = 0


TimeSteps = Callable[..., Pace]
"""`(config, *, num_parallel)` -> pace of a few real steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one run."""

    seconds: float
    """Start-up and evaluations included."""
    memory_bytes: float
    record_bytes: float
    """Size of its record."""
    checkpoint_bytes: float
    """Further space that it may use while it is running."""


RunKey = tuple[str, int]
"""(arm, seed) of a run."""


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
    """Cost of one run by arm; arms of unknown pace are missing."""
    seconds: float | None = None
    """Time until all runs that are to do have ended and the report is written; None where a cost is missing."""
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
    return _estimated(prepared, plan, known, measure=measure)


def too_long(prepared: Prepared, *, local: bool) -> StudyError | None:
    """Return the refusal of a study that is expected to take longer than `study.confirm_above_hours`; None for any other.

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
        expected = _estimated(prepared, plan, known, measure=local)
    except AblateError:
        return None  # its first steps fail: the run itself reports that, with its log
    if expected.seconds is None or expected.seconds <= 3600 * limit:
        return None
    hours, most = expected.seconds / 3600, "at most " * bool(plan.interim_seeds)
    runs = f"{len(waiting)} run{'s' * (len(waiting) != 1)} to do, {expected.num_parallel} at a time"
    return StudyError(
        f"{plan.study} takes {most}about {hours:.1f} hours ({runs}), and study.confirm_above_hours={limit:g} asks before more "
        "than that",
        f"study.confirm_above_hours={math.ceil(hours * 1.1)}, or study.confirm_above_hours=null never to ask",
    )


def estimate(
    plan: Plan, waiting: Sequence[Run], root: Path, *, slots: int, time_steps: TimeSteps | None = None
) -> Forecast:
    """Return what the waiting runs will cost. Earlier runs under `root` count if they trained alike, as many at a time.

    time_steps: times what no earlier run tells, once for all arms that train alike. Raises AblateError where its steps fail.
    """
    num_parallel = max(1, min(slots, len(waiting)))
    profiles = {arm.name: profile(arm.config) for arm in plan.arms if not arm.replayed}
    paces, num_earlier = earlier(root, set(profiles.values()), num_parallel)
    timed = []
    for run in waiting:
        if time_steps is not None and profiles[run.arm] not in paces:
            paces[profiles[run.arm]] = _timed(time_steps, plan.arm(run.arm), num_parallel)
            timed.append(run.arm)
    costs = {name: _cost(paces[key], plan.arm(name)) for name, key in profiles.items() if key in paces}
    seconds = None
    if all(run.arm in costs for run in waiting):
        free = [0.0] * num_parallel  # each run begins on the first free lease, in the order of the plan
        for run in waiting:
            heapq.heappush(free, heapq.heappop(free) + costs[run.arm].seconds + _BETWEEN_RUNS_SECONDS)
        seconds = max(free) + OVERHEAD_SECONDS
    basis = [f"{num_earlier} earlier run{'s' * (num_earlier != 1)} in {root}"] * bool(num_earlier)
    basis += [f"a few steps of {', '.join(timed)}, timed just now"] * bool(timed)
    together = f", {num_parallel} at a time" if basis and num_parallel > 1 else ""
    return Forecast(costs=costs, seconds=seconds, num_parallel=num_parallel, basis=" and ".join(basis) + together)


def obviously_below(plan: Plan, waiting: Sequence[Run], slots: int, seconds: float) -> bool:
    """Return whether the runs would end sooner even at one sample per second in training and three in evaluation.

    A model of some hundred million parameters on one CPU core is slower than that; nearly everything else is not.
    """
    derived = [plan.arm(run.arm).derived for run in waiting]
    samples = [one["samples_seen"] + one["evaluations"] * one["eval_examples"] / 3 for one in derived]
    return math.fsum(samples) / max(1, slots) < seconds


def profile(config: Mapping[str, Any]) -> str:
    """Return the digest of what the cost of a config's step depends on: equal profiles are timed once."""
    relevant = {key: value for key, value in what_counts(config).items() if key != "rerun"}
    for group, keys in _NO_PACE.items():
        relevant[group] = {key: value for key, value in relevant.get(group, {}).items() if key not in keys}
    return digest_of(relevant)


def earlier(root: Path, profiles: set[str], num_parallel: int) -> tuple[dict[str, Pace], int]:
    """Return the median pace of the earlier runs under `root` by profile, and the number of these runs.

    Runs with another number at a time than `num_parallel` do not count: they share cores and caches. Nor does what cannot be
    read (other versions, half written).
    """
    paces: dict[str, list[Pace]] = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        known = {path.name: _profile_of(path) for path in folder.iterdir() if path.is_dir()}
        if not profiles & set(known.values()):
            continue
        spans = {run.path: span for run in StudyDir(folder).runs() if (span := _span(run)) is not None}
        # A few dozen tell as much as a thousand.
        for path, span in list(spans.items())[:: 1 + len(spans) // _MOST_READ]:
            key = known.get(path.parent.name, "")
            if key in profiles and round(num_simultaneous(span, spans.values())) == num_parallel:
                paces.setdefault(key, []).extend(_pace_of(RunDir(path)))
    return {key: _median(some) for key, some in paces.items() if some}, sum(map(len, paces.values()))


def time_steps(config: Config, *, num_parallel: int) -> Pace:
    """Train a few real steps between two evaluations, in `num_parallel` simultaneous processes. Leaves no files.

    Raises AblateError with the failure of the first run.
    """
    short, silence = _short(config), io.StringIO()
    with TemporaryDirectory(prefix="ablate-") as root, redirect_stdout(silence), redirect_stderr(silence):
        jobs = [_job(short, Path(root), seed) for seed in range(num_parallel)]
        outcomes = run_all(jobs, replace(config.study, workers=num_parallel, retries=0, fail_fast=False), title=_STUDY)
        paces = [pace for job in jobs for pace in _pace_of(job.run)]
    if not paces:
        raise AblateError(f"the first steps fail: {outcomes[0].message}")
    return _median(paces)


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


def _estimated(prepared: Prepared, plan: Plan, known: Forecast, *, measure: bool) -> Forecast:
    """Return `known` with the cost of the runs that are to do."""
    timer = time_steps if measure else None
    found = estimate(plan, known.waiting(plan), prepared.folder.parent, slots=_slots(plan), time_steps=timer)
    return replace(found, done=known.done, shared=known.shared, stopped=known.stopped)


def _keys(runs: Iterable[Run]) -> frozenset[RunKey]:
    return frozenset((run.arm, run.seed) for run in runs)


def _slots(plan: Plan) -> int:
    settings, device = plan.baseline.config["study"], plan.baseline.config["train"]["device"]
    return len(leases(settings["workers"], settings["runs_per_gpu"], device))


def _median(paces: Sequence[Pace]) -> Pace:
    """Return the median of some paces; the memory is that of the largest."""
    times = ("step_seconds", "example_seconds", "startup_seconds")
    return replace(
        paces[0],
        **{name: statistics.median(getattr(pace, name) for pace in paces) for name in times},
        peak_memory_bytes=max(pace.peak_memory_bytes for pace in paces),
    )


def _profile_of(arm: Path) -> str:
    """Return the profile of the runs in the directory of an arm; '' where their config cannot be read."""
    try:
        return profile(read_yaml(next(arm.glob("seed=*/config.yaml"))))
    except (StopIteration, OSError, ValueError, TypeError, AttributeError):
        return ""


def _span(run: RunDir) -> tuple[float, float] | None:
    """Return when the run was running, in seconds since the epoch; None where its record does not tell."""
    try:
        manifest = read_manifest(run)
        if not manifest.started or not manifest.ended or manifest.shared_from:
            return None
        start, end = (datetime.fromisoformat(text).timestamp() for text in (manifest.started, manifest.ended))
    except (AblateError, OSError, TypeError, ValueError):
        return None
    return start, end


def num_simultaneous(span: tuple[float, float], spans: Iterable[tuple[float, float]]) -> float:
    """Return how many runs went at a time during one of them, itself included: a mean over its time."""
    start, end = span
    overlaps = (min(end, other_end) - max(start, other_start) for other_start, other_end in spans)
    return max(1.0, sum(max(0.0, part) for part in overlaps) / max(end - start, 1e-9))


def _pace_of(run: RunDir) -> list[Pace]:
    """Return the pace of one finished run; nothing where it was interrupted, or its record does not tell."""
    try:
        outcome, span, fingerprint = read_status(run), _span(run), read_fingerprint(run)
        if outcome is None or outcome.status != "finished" or span is None or len(outcome.sessions) > 1:
            return []
        rates = outcome.throughput
        counts = fingerprint.items.get("parameters", {}) if fingerprint is not None else {}
        return [Pace(
            step_seconds=1 / rates["train_steps_per_second"],
            example_seconds=1 / rates["eval_samples_per_second"],
            startup_seconds=max(0.0, span[1] - span[0] - rates["train_seconds"] - rates["eval_seconds"]),
            peak_memory_bytes=rates.get("peak_memory_bytes", 0.0),
            num_parameters=int(counts.get("count", 0)),
            num_trainable=int(counts.get("trainable", 0)),
        )]  # fmt: skip
    except (AblateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return []


def _timed(time_steps: TimeSteps, arm: Arm, num_parallel: int) -> Pace:
    try:
        return time_steps(replace(make_config(arm.config), arm=arm.name), num_parallel=num_parallel)
    except AblateError as error:
        command = " ".join(["ablate", *(f"{key}={show(value)}" for key, value in arm.changes.items())])
        raise type(error)(
            f"{arm.name}: {error.problem}", error.fix or f"`{command}` shows the whole log of such a run"
        ) from None


def _cost(pace: Pace, arm: Arm) -> Cost:
    derived, config = arm.derived, make_config(arm.config)
    evaluated = derived["evaluations"] * derived["eval_examples"]
    moments = 1 if config.optim.name == "sgd" else 2
    state = 4.0 * (pace.num_parameters + moments * pace.num_trainable)
    steps = derived["total_steps"]
    return Cost(
        seconds=pace.startup_seconds + steps * pace.step_seconds + evaluated * pace.example_seconds,
        memory_bytes=pace.peak_memory_bytes,
        record_bytes=_RECORD_BYTES
        + _BYTES_PER_STEP * steps
        + _BYTES_PER_EVALUATION * derived["evaluations"]
        + _BYTES_PER_EXAMPLE * derived["eval_examples"] * config.eval.save_predictions,
        # A new checkpoint is complete before an old one goes.
        checkpoint_bytes=state * (config.checkpoint.keep + 1),
    )


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

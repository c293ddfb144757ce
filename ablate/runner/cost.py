"""A study that takes long is asked about before it starts."""

from __future__ import annotations

import heapq
import io
import math
import statistics
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
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
from ablate.planning.shared_prefix import Shared, saved_steps, sharing
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_fingerprint, read_manifest, read_status
from ablate.runner.devices import num_slots
from ablate.runner.reuse import shareable
from ablate.runner.run_study import at_most, pending, settled
from ablate.runner.scheduler import run_all
from ablate.runner.subprocess_run import Job
from ablate.serialization import read_json, read_yaml

# What runs cost: per sample, at the start, in memory. Learnt from earlier runs; runs that train alike cost
# alike.

_NO_PACE = {
    "model": ("dropout",),
    "data": ("split", "split_seed", "train_test_ratio", "eval_test_ratio"),
    "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "lr_schedule", "warmup_ratio"),
    "train": ("budget", "max_grad_norm", "noise_batch_size", "max_skipped_steps"),
    "eval": ("every", "spacing", "num_evaluations", "max_examples"),
    "random_streams": ("init", "order", "augment", "dropout", "noise"),
}
"""Keys that leave the cost of a sample as it is. A key that is not named here is taken to change it."""


_MOST_READ = 100
"""Runs of one study whose rates are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What a run costs. train, evaluate: samples per second. startup_seconds: those that its place is taken without a step or a
    look: before the first step, after the last look, and until the next run begins there.

    at_once: how many runs went at a time. num_parameters, num_trainable: 0 where nobody said.
    """

    train: float
    evaluate: float
    startup_seconds: float
    at_once: int
    peak_memory_bytes: float = 0.0
    num_parameters: int = 0
    num_trainable: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """When a run was going, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def beside(self, others: Sequence[Span]) -> float:
        """How many runs went at a time while this one did, itself included: a mean over its time."""
        shared = [min(self.end, other.end) - max(self.start, other.start) for other in others]
        return sum(max(0.0, part) for part in shared) / self.seconds if self.seconds > 0 else 1.0


def profile(config: Mapping[str, Any]) -> str:
    """Digest of what a config's cost per sample depends on: equal profiles are timed once."""
    kept = {key: value for key, value in what_counts(config).items() if key != "rerun"}
    for group, keys in _NO_PACE.items():
        kept[group] = {key: value for key, value in kept.get(group, {}).items() if key not in keys}
    return digest_of(kept)


def earlier(root: Path, wanted: Mapping[str, int]) -> tuple[dict[str, Pace], int]:
    """The median pace of the earlier runs under `root`, by profile, and from how many runs it is.

    wanted: {profile: runs at a time}. Runs that had more or fewer beside them do not count: cores and caches are shared.
    """
    found: dict[str, list[Pace]] = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for key, pace in _in_study(folder, wanted):
            if pace.at_once == wanted[key]:
                found.setdefault(key, []).append(pace)
    return {key: _median(paces) for key, paces in found.items()}, sum(len(paces) for paces in found.values())


def pace_of(run: RunDir, *, at_once: int) -> Pace | None:
    """Of one finished run; None where it was interrupted, or does not say."""
    outcome, span = read_status(run), span_of(run)
    if outcome is None or outcome.status != "finished" or span is None or len(outcome.sessions) > 1:
        return None
    rates = outcome.throughput
    train, evaluate = (rates.get(f"{name}_samples_per_second", 0.0) for name in ("train", "eval"))
    if train <= 0 or evaluate <= 0:
        return None
    steady = sum(session.get("samples", 0) for session in outcome.sessions) / train or math.inf
    fingerprint = read_fingerprint(run)
    counts = fingerprint.items.get("parameters", {}) if fingerprint is not None else {}
    return Pace(
        train=train,
        evaluate=evaluate,
        # The first steps are slow, and the rate leaves them out: what they took longer belongs to the start.
        startup_seconds=max(
            0.0, span.seconds - min(steady, rates.get("train_seconds", 0.0)) - rates.get("eval_seconds", 0.0)
        ),
        at_once=at_once,
        peak_memory_bytes=rates.get("peak_memory_bytes", 0.0),
        num_parameters=int(counts.get("count", 0)),
        num_trainable=int(counts.get("trainable", 0)),
    )


def span_of(run: RunDir) -> Span | None:
    """When the run was going; None while it is, or where it does not say."""
    if not run.manifest.exists():
        return None
    manifest = read_manifest(run)
    if not manifest.started or not manifest.ended or manifest.shared_from:
        return None
    return Span(*(datetime.fromisoformat(text).timestamp() for text in (manifest.started, manifest.ended)))


def _in_study(folder: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, Pace]]:
    """(profile, pace) of the runs in one folder; what cannot be read (another version's, half written) does not count."""
    profiles = dict(_profiles(folder))
    if not wanted.keys() & profiles.values():
        return
    spans: dict[Path, Span] = {}
    for run in StudyDir(folder).runs():
        try:
            if span := span_of(run):
                spans[run.path] = span
        except (AblateError, TypeError, ValueError):
            continue
    everyone = list(spans.values())
    gap = _gap(everyone)
    # A few dozen say as much as a thousand.
    for path, span in list(spans.items())[:: 1 + len(spans) // _MOST_READ]:
        key = profiles.get(path.parent.name) or profiles.get(f"{path.parent.name}/{path.name}", "")
        if key not in wanted:
            continue
        try:
            pace = pace_of(RunDir(path), at_once=max(1, round(span.beside(everyone))))
        except (AblateError, TypeError, ValueError, AttributeError):
            continue
        if pace is not None:
            yield key, replace(pace, startup_seconds=pace.startup_seconds + gap)


def _gap(spans: Sequence[Span]) -> float:
    """From the end of a run to the start of the next one, as it mostly is; a study that was interrupted has a few long ones."""
    ends = sorted(span.end for span in spans)
    before = [(span.start, bisect_right(ends, span.start)) for span in spans]
    gaps = [start - ends[place - 1] for start, place in before if place]
    return statistics.median(gaps) if gaps else 0.0


def _profiles(folder: Path) -> Iterator[tuple[str, str]]:
    """(arm's folder, profile) as the plan has them; run by run where there is no plan."""
    study = StudyDir(folder)
    try:
        if study.plan.exists():
            for arm in read_json(study.plan)["arms"]:
                yield study.run(arm["name"], 0).path.parent.name, profile(arm["config"])
            return
        for run in study.runs():
            if run.config.exists():
                yield f"{run.path.parent.name}/{run.path.name}", profile(read_yaml(run.config))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return


def _median(paces: Sequence[Pace]) -> Pace:
    def middle(name: str) -> float:
        return float(statistics.median(getattr(pace, name) for pace in paces))

    first = paces[0]
    return Pace(
        train=middle("train"),
        evaluate=middle("evaluate"),
        startup_seconds=middle("startup_seconds"),
        at_once=first.at_once,
        peak_memory_bytes=max(pace.peak_memory_bytes for pace in paces),
        num_parameters=first.num_parameters,
        num_trainable=first.num_trainable,
    )


# How long a plan will take and what it will hold: from earlier runs, or from a few real steps timed just now.

IMPORT_SECONDS = 6.0
"""To import torch and transformers, once for all runs, where it was not timed."""
AROUND_SECONDS = 5.0
"""Of a study besides: to compose and plan it, and to write its report. Both measured on two CPU cores that did nothing else."""

_KEPT_BYTES, _BYTES_PER_STEP, _BYTES_PER_LOOK, _BYTES_PER_EXAMPLE = 30e3, 300.0, 1e3, 40.0
"""What a finished run leaves: its small files, a row of the trace, a look. Measured on the reference study."""

_LOOKS_PER_STEP = 3.0
"""A look at a sample is a forward pass, a third of what a step does with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one run. seconds: with its start-up and its looks. kept_bytes: what it leaves. checkpoint_bytes: what it may hold
    besides while it is going."""

    seconds: float
    startup_seconds: float
    memory_bytes: float
    kept_bytes: float
    checkpoint_bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """costs: by arm; an arm of unknown pace is missing. seconds: of all that is still to do, None while a cost is missing.

    at_once: runs at a time. basis: where the figures come from, in words.
    """

    costs: Mapping[str, Cost]
    seconds: float | None
    at_once: int
    basis: str = ""


def estimate(plan: Plan, waiting: Sequence[Run], root: Path, *, slots: int, measure: bool) -> Estimate:
    """What the runs that wait will cost. Earlier runs under `root` count where they trained alike, as many at a time.

    measure: time what no earlier run tells, once for all arms that train alike; raises AblateError where its steps fail.
    """
    at_once = max(1, min(slots, len(waiting)))
    keys = {arm.name: profile(arm.config) for arm in plan.arms if not arm.replayed}
    paces, num_earlier = earlier(root, dict.fromkeys(keys.values(), at_once))
    missing: dict[str, str] = {}
    for run in waiting:
        if keys[run.arm] not in paces:
            missing.setdefault(keys[run.arm], run.arm)
    names = list(missing.values()) if measure else []
    waited = []
    for name in names:
        paces[keys[name]], seconds = _timed(plan.arm(name), at_once)
        waited.append(seconds)
    # The first one waits for the libraries; the others find them imported.
    import_seconds = waited[0] if waited else IMPORT_SECONDS
    costs = {name: _cost(paces[key], plan.arm(name)) for name, key in keys.items() if key in paces}
    begins_late = sharing(plan) if plan.baseline.config["study"]["share_prefix"] else {}
    known = all(run.arm in costs for run in waiting)
    return Estimate(
        costs=costs,
        seconds=_whole([_rest(plan, run, costs, begins_late) for run in waiting], at_once, import_seconds)
        if known
        else None,
        at_once=at_once,
        basis=_basis(num_earlier, root, names, at_once),
    )


def obviously_below(plan: Plan, waiting: Sequence[Run], slots: int, seconds: float) -> bool:
    """Whether the runs would end sooner even at one sample per second in training and three in evaluation.

    A model of some hundred million parameters on one CPU core is slower than that; nearly everything else is not.
    """
    derived = [plan.arm(run.arm).derived for run in waiting]
    samples = [one["samples_seen"] + one["evaluations"] * one["eval_examples"] / _LOOKS_PER_STEP for one in derived]
    return math.fsum(samples) / max(1, slots) < seconds


def _timed(arm: Arm, at_once: int) -> tuple[Pace, float]:

    try:
        return timed(replace(make_config(arm.config), arm=arm.name), at_once=at_once)
    except AblateError as error:
        typed = " ".join(["ablate", *(f"{key}={show(value)}" for key, value in arm.changes.items())])
        raise type(error)(f"{arm.name}: {error.problem}", error.fix or f"{typed}, for its whole log") from None


def _cost(pace: Pace, arm: Arm) -> Cost:
    derived, config = arm.derived, make_config(arm.config)
    loop, kept_examples = config.train, derived["eval_examples"] * config.eval.save_predictions
    seconds = derived["samples_seen"] / pace.train + derived["evaluations"] * derived["eval_examples"] / pace.evaluate
    moments = 1 if arm.config["optim"]["name"] == "sgd" else 2
    state = 4.0 * (pace.num_parameters + moments * pace.num_trainable)
    return Cost(
        seconds=pace.startup_seconds + seconds,
        startup_seconds=pace.startup_seconds,
        memory_bytes=pace.peak_memory_bytes,
        kept_bytes=_KEPT_BYTES
        + _BYTES_PER_STEP * derived["total_steps"]
        + _BYTES_PER_LOOK * derived["evaluations"]
        + _BYTES_PER_EXAMPLE * kept_examples,
        # A new checkpoint is complete before an old one goes.
        checkpoint_bytes=state * (config.checkpoint.keep + 1),
    )


def _rest(plan: Plan, run: Run, costs: Mapping[str, Cost], begins_late: Mapping[str, Shared]) -> float:
    """Seconds of a run, less the steps for which it starts from its sibling's checkpoint."""
    cost, shared = costs[run.arm], begins_late.get(run.arm)
    if shared is None or shared.clips_at is not None:  # how far it is shared hangs on the first clipped step
        return cost.seconds
    left = 1 - shared.step / plan.arm(run.arm).derived["total_steps"]
    return cost.startup_seconds + (cost.seconds - cost.startup_seconds) * left


def _whole(seconds: Sequence[float], at_once: int, import_seconds: float) -> float:
    """From the command to its report: each run begins in the first place that is free, in the order of the plan."""
    free = [0.0] * at_once
    for one in seconds:
        heapq.heappush(free, heapq.heappop(free) + one)
    # Importing, planning and reporting are work of one kind: where the first was timed and took longer, so do the others.
    return max(free) + import_seconds + AROUND_SECONDS * import_seconds / IMPORT_SECONDS


def _basis(num_earlier: int, root: Path, timed_arms: Sequence[str], at_once: int) -> str:
    parts = [f"{num_earlier} earlier run{'s' * (num_earlier != 1)} in {root}"] if num_earlier else []
    parts += [f"a few steps of {', '.join(timed_arms)}, timed just now"] if timed_arms else []
    return " and ".join(parts) + (f", {at_once} at a time" if parts and at_once > 1 else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Long:
    """A study that is expected to take longer than the limit."""

    study: str
    num_runs: int
    at_once: int
    hours: float
    limit: float
    has_looks: bool = False

    @property
    def sentence(self) -> str:
        runs = f"{self.num_runs} run{'s' * (self.num_runs != 1)} to do, {self.at_once} at a time"
        most = "at most " if self.has_looks else ""
        return (
            f"{self.study} takes {most}about {self.hours:.1f} hours ({runs}), "
            f"and study.confirm_above_hours={self.limit:g} asks before more than that"
        )

    def refusal(self) -> StudyError:
        """Where nobody can be asked."""
        larger = math.ceil(self.hours * 1.1)
        return StudyError(
            f"{self.sentence}; there is no terminal to ask on, and nothing was started",
            f"study.confirm_above_hours={larger}, or study.confirm_above_hours=null never to be asked",
        )


def longer_than_allowed(prepared: Prepared, *, local: bool) -> Long | None:
    """What must be asked about before the study starts; None where it is short, or where nobody knows.

    local: the runs go on this machine, so that a few steps can be timed here. They are not where no earlier run tells, but the
    study is obviously small.
    """
    folder, settings = prepared.folder, prepared.plan.baseline.config["study"]
    limit = settings["confirm_above_hours"]
    if limit is None:
        return None
    plan = settled(prepared.plan, folder, accept_code_change=settings["accept_code_change"])
    plan = at_most(folder, plan)
    waiting = pending(plan, folder)
    free = shareable(plan, folder, waiting)
    waiting = [run for run in waiting if (run.arm, run.seed) not in free]
    slots = num_slots(settings["workers"], settings["runs_per_gpu"])
    if not waiting or obviously_below(plan, waiting, slots, 3600 * limit):
        return None
    try:
        expected = estimate(plan, waiting, folder.parent, slots=slots, measure=local)
    except AblateError:
        return None  # its first steps fail: the run itself says so, at once and with its log
    if expected.seconds is None or expected.seconds <= 3600 * limit:
        return None
    hours = expected.seconds / 3600
    return Long(
        study=plan.study,
        num_runs=len(waiting),
        at_once=expected.at_once,
        hours=hours,
        limit=limit,
        has_looks=bool(plan.interim_seeds),
    )


# What is known of a plan before its first run: what is done, what is free, what the rest costs.

Place = tuple[str, int]
"""(arm, seed) of a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """done: runs whose result lies there. shared: {run: the study that its result can be taken from}.
    stopped: runs that no longer come, because a look has decided their variant.
    saved_steps: of runs that start from a sibling's checkpoint. may_save_steps: further ones; the first clipped step decides.

    costs: of one run, by arm; arms without an estimate are missing. seconds: of all that is to do, None where one is missing.
    basis: where they come from. at_once: runs at a time.
    """

    done: frozenset[Place] = frozenset()
    shared: Mapping[Place, str] = field(default_factory=dict)
    saved_steps: int = 0
    may_save_steps: int = 0
    costs: Mapping[str, Cost] = field(default_factory=dict)
    seconds: float | None = None
    basis: str = ""
    at_once: int = 1
    stopped: frozenset[Place] = frozenset()

    def waiting(self, plan: Plan) -> list[Run]:
        """The runs that are still to be trained."""
        gone = {*self.done, *self.shared, *self.stopped}
        return [run for run in plan.runs if (run.arm, run.seed) not in gone]


def forecast(prepared: Prepared, *, measure: bool) -> Forecast:
    """Everything that can be known before the first run. measure: time a few steps where no earlier run tells the pace.

    Raises StudyError where the folder holds another study, AblateError where the timed steps fail.
    """
    folder, settings = prepared.folder, prepared.plan.baseline.config["study"]
    plan = settled(prepared.plan, folder, accept_code_change=settings["accept_code_change"])
    every = {(run.arm, run.seed) for run in plan.runs}
    plan = at_most(folder, plan)
    undone = pending(plan, folder)
    done = {(run.arm, run.seed) for run in plan.runs} - {(run.arm, run.seed) for run in undone}
    shared = {place: found.study for place, found in shareable(plan, folder, undone).items()}
    saved, may_save = saved_steps(plan)
    known = Forecast(
        done=frozenset(done),
        shared=shared,
        saved_steps=saved,
        may_save_steps=may_save,
        stopped=frozenset(every - {(run.arm, run.seed) for run in plan.runs}),
    )
    slots = num_slots(settings["workers"], settings["runs_per_gpu"])
    expected = estimate(plan, known.waiting(plan), folder.parent, slots=slots, measure=measure)
    return replace(
        known,
        costs=expected.costs,
        seconds=expected.seconds,
        basis=expected.basis,
        at_once=expected.at_once,
    )


# A few real steps, timed: short runs in processes of their own, as many at a time as the study will have.

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
        raise AblateError(f"the first steps fail: {outcomes[0].message}")
    waited = min(span.start for span in spans) - began
    # From a run's end until its place is free, and from there until the next one begins.
    gap = ended - max(span.end for span in spans)
    pace = _mean(found)
    return replace(pace, startup_seconds=pace.startup_seconds + gap + min(waited, gap)), waited


def _short(config: Config) -> Config:
    size = config.samples_per_step
    samples = size * (_WARM_UP_STEPS + max(_FEWEST_STEPS, -(-_TIMED_SAMPLES // size)))
    looked_at = min(_LOOKED_AT, config.eval.max_examples or _LOOKED_AT)
    return replace(
        config,
        train=replace(config.train, budget=f"{samples} samples"),
        checkpoint=replace(config.checkpoint, every=None),
        eval=replace(config.eval, every=f"{samples} samples", spacing="even", max_examples=looked_at),
        tracker=replace(config.tracker, name="none"),
    )


def _job(config: Config, place: Path, seed: int) -> Job:
    whole = asdict(replace(config, seed=seed, study=replace(config.study, name=_STUDY, output_dir=str(place))))
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

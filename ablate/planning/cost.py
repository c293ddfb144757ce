"""Cost of a study before it runs: time, memory and disk per run, from earlier runs that trained alike or from timed steps."""

from __future__ import annotations

import heapq
import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ablate.config.schema import make_config
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan, Run, what_counts
from ablate.errors import AblateError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_fingerprint, read_manifest, read_status
from ablate.serialization import read_json, read_yaml

_NO_PACE = {
    "model": ("dropout",),
    "data": ("split", "split_seed", "train_test_ratio", "eval_test_ratio"),
    "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "lr_schedule", "warmup_ratio", "min_lr_ratio"),
    "train": ("budget", "max_grad_norm", "noise_batch_size", "max_skipped_steps"),
    "eval": ("every", "spacing", "num_evaluations", "max_examples"),
    "random_streams": ("init", "order", "augment", "dropout", "noise"),
}
"""Keys that leave the cost of a sample unchanged. A key that is not named here is assumed to change it."""

_MOST_READ = 100
"""Most runs of one study whose rates are read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What a run of one profile costs."""

    train: float
    """Training samples per second."""
    evaluate: float
    """Evaluated examples per second."""
    startup_seconds: float
    """Before the first step, after the last evaluation, and until the next run begins on the same device."""
    num_parallel: int
    """Number of runs that went simultaneously."""
    peak_memory_bytes: float = 0.0
    num_parameters: int = 0
    """0 where unknown."""
    num_trainable: int = 0


TimeSteps = Callable[..., tuple[Pace, float]]
"""`(config, *, num_parallel)` -> pace of a few real steps, and the seconds until the first run could begin."""


@dataclass(frozen=True, slots=True)
class Span:
    """When a run was running, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def num_simultaneous(self, spans: Sequence[Span]) -> float:
        """Return how many runs went at a time during this one, itself included: a mean over its time."""
        overlaps = [min(self.end, other.end) - max(self.start, other.start) for other in spans]
        return sum(max(0.0, part) for part in overlaps) / self.seconds if self.seconds > 0 else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of one run."""

    seconds: float
    """Start-up and evaluations included."""
    startup_seconds: float
    memory_bytes: float
    record_bytes: float
    """Size of its record."""
    checkpoint_bytes: float
    """Further space that it may use while it is running."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Cost of the runs that are still to do."""

    costs: Mapping[str, Cost]
    """By arm; an arm of unknown pace is missing."""
    seconds: float | None
    """Until all have ended and the report is written; None while a cost is missing."""
    num_parallel: int
    """Runs at a time."""
    basis: str = ""
    """Where the figures come from, in words."""


IMPORT_SECONDS = 6.0
"""Time to import torch and transformers, once for all runs, where it was not timed."""
AROUND_SECONDS = 5.0
"""Time to compose and plan a study and to write its report. Both were measured on two idle CPU cores."""

_RECORD_BYTES, _BYTES_PER_STEP, _BYTES_PER_EVALUATION, _BYTES_PER_EXAMPLE = 30e3, 300.0, 1e3, 40.0
"""Disk space of a finished run: its small files, a row of the trace, an evaluation, a prediction. Measured."""

_EVALUATED_PER_TRAINED = 3.0
"""To evaluate an example is a forward pass, a third of a training step on it."""


def estimate(
    plan: Plan, waiting: Sequence[Run], root: Path, *, slots: int, time_steps: TimeSteps | None = None
) -> Estimate:
    """Return what the waiting runs will cost. Earlier runs under `root` count if they trained alike, as many at a time.

    time_steps: times what no earlier run tells, once for all arms that train alike. Raises AblateError where its steps fail.
    """
    num_parallel = max(1, min(slots, len(waiting)))
    profiles = {arm.name: profile(arm.config) for arm in plan.arms if not arm.replayed}
    paces, num_earlier = earlier(root, dict.fromkeys(profiles.values(), num_parallel))
    missing: dict[str, str] = {}
    for run in waiting:
        if profiles[run.arm] not in paces:
            missing.setdefault(profiles[run.arm], run.arm)
    timed = list(missing.values()) if time_steps is not None else []
    startup = []
    for name in timed:
        assert time_steps is not None
        paces[profiles[name]], seconds = _timed(time_steps, plan.arm(name), num_parallel)
        startup.append(seconds)
    # Only the first one waits until the libraries are imported.
    import_seconds = startup[0] if startup else IMPORT_SECONDS
    costs = {name: _cost(paces[key], plan.arm(name)) for name, key in profiles.items() if key in paces}
    known = all(run.arm in costs for run in waiting)
    return Estimate(
        costs=costs,
        seconds=_total([costs[run.arm].seconds for run in waiting], num_parallel, import_seconds) if known else None,
        num_parallel=num_parallel,
        basis=_basis(num_earlier, root, timed, num_parallel),
    )


def obviously_below(plan: Plan, waiting: Sequence[Run], slots: int, seconds: float) -> bool:
    """Return whether the runs would end sooner even at one sample per second in training and three in evaluation.

    A model of some hundred million parameters on one CPU core is slower than that; nearly everything else is not.
    """
    derived = [plan.arm(run.arm).derived for run in waiting]
    samples = [
        one["samples_seen"] + one["evaluations"] * one["eval_examples"] / _EVALUATED_PER_TRAINED for one in derived
    ]
    return math.fsum(samples) / max(1, slots) < seconds


def profile(config: Mapping[str, Any]) -> str:
    """Return the digest of what a config's cost per sample depends on: equal profiles are timed once."""
    relevant = {key: value for key, value in what_counts(config).items() if key != "rerun"}
    for group, keys in _NO_PACE.items():
        relevant[group] = {key: value for key, value in relevant.get(group, {}).items() if key not in keys}
    return digest_of(relevant)


def earlier(root: Path, wanted: Mapping[str, int]) -> tuple[dict[str, Pace], int]:
    """Return the median pace of the earlier runs under `root` by profile, and the number of these runs.

    wanted: {profile: runs at a time}. Runs with another number at a time do not count: they share cores and caches.
    """
    paces: dict[str, list[Pace]] = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for key, pace in _paces_in(folder, wanted):
            if pace.num_parallel == wanted[key]:
                paces.setdefault(key, []).append(pace)
    return {key: combined(some, statistics.median) for key, some in paces.items()}, sum(map(len, paces.values()))


def combined(paces: Sequence[Pace], average: Callable[[list[float]], float]) -> Pace:
    """Return the average of some paces; the memory is that of the largest."""

    def mean(name: str) -> float:
        return float(average([getattr(pace, name) for pace in paces]))

    return replace(
        paces[0],
        train=mean("train"),
        evaluate=mean("evaluate"),
        startup_seconds=mean("startup_seconds"),
        peak_memory_bytes=max(pace.peak_memory_bytes for pace in paces),
    )


def pace_of(run: RunDir, *, num_parallel: int) -> Pace | None:
    """Return the pace of one finished run; None where it was interrupted, or its record does not tell."""
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
        # The first steps are slow, and the rate leaves them out: their extra time counts as start-up.
        startup_seconds=max(
            0.0, span.seconds - min(steady, rates.get("train_seconds", 0.0)) - rates.get("eval_seconds", 0.0)
        ),
        num_parallel=num_parallel,
        peak_memory_bytes=rates.get("peak_memory_bytes", 0.0),
        num_parameters=int(counts.get("count", 0)),
        num_trainable=int(counts.get("trainable", 0)),
    )


def span_of(run: RunDir) -> Span | None:
    """Return when the run was running; None while it is, or where its record does not tell."""
    if not run.manifest.exists():
        return None
    manifest = read_manifest(run)
    if not manifest.started or not manifest.ended or manifest.shared_from:
        return None
    return Span(*(datetime.fromisoformat(text).timestamp() for text in (manifest.started, manifest.ended)))


def _paces_in(folder: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, Pace]]:
    """Yield (profile, pace) of the runs in one directory. What cannot be read (other versions, half written) does not count."""
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
    all_spans = list(spans.values())
    gap = _gap(all_spans)
    # A few dozen tell as much as a thousand.
    for path, span in list(spans.items())[:: 1 + len(spans) // _MOST_READ]:
        key = profiles.get(path.parent.name) or profiles.get(f"{path.parent.name}/{path.name}", "")
        if key not in wanted:
            continue
        try:
            pace = pace_of(RunDir(path), num_parallel=max(1, round(span.num_simultaneous(all_spans))))
        except (AblateError, TypeError, ValueError, AttributeError):
            continue
        if pace is not None:
            yield key, replace(pace, startup_seconds=pace.startup_seconds + gap)


def _gap(spans: Sequence[Span]) -> float:
    """Return the median time from the end of a run to the start of the next one; interruptions make a few of them long."""
    ends = sorted(span.end for span in spans)
    ended = [(span.start, bisect_right(ends, span.start)) for span in spans]
    gaps = [start - ends[count - 1] for start, count in ended if count]
    return statistics.median(gaps) if gaps else 0.0


def _profiles(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (directory of an arm, profile) from the plan; run by run where there is no plan."""
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


def _timed(time_steps: TimeSteps, arm: Arm, num_parallel: int) -> tuple[Pace, float]:
    try:
        return time_steps(replace(make_config(arm.config), arm=arm.name), num_parallel=num_parallel)
    except AblateError as error:
        command = " ".join(["ablate", *(f"{key}={show(value)}" for key, value in arm.changes.items())])
        raise type(error)(
            f"{arm.name}: {error.problem}", error.fix or f"`{command}` shows the whole log of such a run"
        ) from None


def _cost(pace: Pace, arm: Arm) -> Cost:
    derived, config = arm.derived, make_config(arm.config)
    stored_examples = derived["eval_examples"] * config.eval.save_predictions
    seconds = derived["samples_seen"] / pace.train + derived["evaluations"] * derived["eval_examples"] / pace.evaluate
    moments = 1 if arm.config["optim"]["name"] == "sgd" else 2
    state = 4.0 * (pace.num_parameters + moments * pace.num_trainable)
    return Cost(
        seconds=pace.startup_seconds + seconds,
        startup_seconds=pace.startup_seconds,
        memory_bytes=pace.peak_memory_bytes,
        record_bytes=_RECORD_BYTES
        + _BYTES_PER_STEP * derived["total_steps"]
        + _BYTES_PER_EVALUATION * derived["evaluations"]
        + _BYTES_PER_EXAMPLE * stored_examples,
        # A new checkpoint is complete before an old one goes.
        checkpoint_bytes=state * (config.checkpoint.keep + 1),
    )


def _total(seconds: Sequence[float], num_parallel: int, import_seconds: float) -> float:
    """Return the time from the command to its report: each run begins on the first free lease, in the order of the plan."""
    free = [0.0] * num_parallel
    for run_seconds in seconds:
        heapq.heappush(free, heapq.heappop(free) + run_seconds)
    # Planning and reporting are scaled like the import: where that was timed and took longer, so do they.
    return max(free) + import_seconds + AROUND_SECONDS * import_seconds / IMPORT_SECONDS


def _basis(num_earlier: int, root: Path, timed_arms: Sequence[str], num_parallel: int) -> str:
    parts = [f"{num_earlier} earlier run{'s' * (num_earlier != 1)} in {root}"] if num_earlier else []
    parts += [f"a few steps of {', '.join(timed_arms)}, timed just now"] if timed_arms else []
    return " and ".join(parts) + (f", {num_parallel} at a time" if parts and num_parallel > 1 else "")

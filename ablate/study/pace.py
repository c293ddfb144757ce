"""What runs cost: per sample, at the start, in memory. Learnt from earlier runs; runs that train alike cost alike."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ablate.design.plan import what_counts
from ablate.errors import AblateError
from ablate.record.digest import digest_of
from ablate.record.rundir import RunDir, StudyDir, read_json
from ablate.record.values import read_fingerprint, read_manifest, read_outcome
from ablate.record.yaml_file import read_yaml

_NO_PACE = {
    "model": ("dropout",),
    "data": ("split", "split_seed", "train_ratio", "eval_ratio"),
    "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "schedule", "warmup"),
    "loop": ("budget", "clip_norm", "grad_noise_of", "max_skipped"),
    "observe": ("eval_every", "eval_spacing", "eval_looks", "eval_examples"),
    "streams": ("init", "order", "augment", "dropout", "noise"),
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
    kept = {key: value for key, value in what_counts(config).items() if key != "repeat"}
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
    outcome, span = read_outcome(run), span_of(run)
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

"""Compare two single runs: their differences in settings and in results, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.load import common_evaluations, common_rows, reading
from ablate.analysis.power import PowerOptions, power
from ablate.config.flatten import changed
from ablate.controls.fingerprint_match import Difference, differences
from ablate.design.axis import show
from ablate.design.plan import what_counts
from ablate.errors import AblateError
from ablate.formatting import counted, joined, plain_figure
from ablate.metrics.metric import MetricInfo
from ablate.metrics.registry import METRICS, find, recorded
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest
from ablate.records.run_files import RunFiles, read_single_run
from ablate.serialization import read_yaml

ENOUGH = 5
"""Seeds below which every verdict is labelled LOW POWER."""

_NAMES = ("arm", "study", "tracker")
_VERSIONED = ("python", "torch", "transformers", "datasets", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Differing:
    """One difference. key: dotted. counts: True where it can change the result of a run, or is a result."""

    key: str
    first: Any
    second: Any
    counts: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class OneRun:
    """One of the two runs. named: by the user. steps: rows of its trace."""

    named: str
    arm: str
    seed: int
    status: str
    sentence: str
    steps: int | None
    samples: float | None
    device: str
    weights_sha256: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDiff:
    """Differences between two runs.

    config: leaves by type and value, the seed among them. environment: device, threads, versions. code: files by their hash.
    fingerprint: leaves of its items. data: of the pool and of what came from a hub. equal: items of the
    fingerprint that are equal. unknown: what one of the two has not recorded.
    """

    first: OneRun
    second: OneRun
    config: tuple[Differing, ...]
    data: tuple[Differing, ...]
    environment: tuple[Differing, ...]
    code: tuple[Differing, ...]
    fingerprint: tuple[Differing, ...]
    equal: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def counting(self) -> tuple[Differing, ...]:
        """Differences that can change a result, or are one."""
        every = (*self.config, *self.data, *self.environment, *self.code, *self.fingerprint)
        return tuple(one for one in every if one.counts)

    @property
    def same(self) -> bool:
        """True where the two are equal in everything that counts."""
        return not self.counting

    @property
    def moved(self) -> tuple[Differing, ...]:
        """Differing keys of the config that count, without the seed."""
        return tuple(one for one in self.config if one.counts and one.key != "seed")

    @property
    def one_seed(self) -> bool:
        return self.first.seed == self.second.seed

    @property
    def same_weights(self) -> bool | None:
        """True where the final weights are equal; None where one of the two has none."""
        hashes = (self.first.weights_sha256, self.second.weights_sha256)
        return None if None in hashes else hashes[0] == hashes[1]

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"same": self.same, "one_seed": self.one_seed, "same_weights": self.same_weights}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One metric of both. difference: second minus first; None where one of them has no value."""

    info: MetricInfo
    first: float | None
    second: float | None
    difference: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TwinCurve:
    """One curve of both, by samples. Arrays of shape [points]."""

    name: str
    first: tuple[NDArray[np.float64], NDArray[np.float64]]
    second: tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """diff: differences of the two. says: conclusions, most important first."""

    diff: RunDiff
    outcomes: tuple[Pair, ...]
    curves: tuple[TwinCurve, ...]
    says: tuple[str, ...]
    seeds_needed: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "diff": self.diff.to_json(),
            "outcomes": [asdict(one) for one in self.outcomes],
            "says": list(self.says),
            "seeds_needed": self.seeds_needed,
        }


def diff_runs(first: RunDir, second: RunDir, named: tuple[str, str]) -> RunDiff:
    """Return the differences between two runs. Raises RecordError for a run whose files cannot be read."""
    return _diff(read_single_run(first), read_single_run(second), named)


def compare_runs(first: RunDir, second: RunDir, named: tuple[str, str]) -> Comparison:
    """Return the differences with metrics and curves. Raises as `diff_runs` does."""
    one, other = read_single_run(first), read_single_run(second)
    diff = _diff(one, other, named)
    study = _study(one, other, named[0]) if diff.moved else None
    return Comparison(
        diff=diff,
        outcomes=_metrics([one, other]),
        curves=tuple(_curves([one, other])),
        says=tuple(_conclusions(diff, study)),
        seeds_needed=study.needed if study else None,
    )


def _diff(first: RunFiles, second: RunFiles, named: tuple[str, str]) -> RunDiff:
    unknown: list[str] = []
    left, right = (run.manifest for run in (first, second))
    assert left is not None
    assert right is not None
    items, other_items = (run.fingerprint.items if run.fingerprint is not None else {} for run in (first, second))
    compared = [{name: one[name] for name in one if name != "environment"} for one in (items, other_items)]
    unequal = _differing(differences(*compared)) if all(compared) else ()
    if not all(compared):
        unknown.append("fingerprint: a run has none")
    named_items = {one.key.partition(".")[0] for one in unequal} | {"environment", "rates"}
    pool = {"pool": (left.data, right.data)} if left.data and right.data and left.data != right.data else {}
    return RunDiff(
        first=_one(first, named[0]),
        second=_one(second, named[1]),
        config=_configs(first, second, unknown),
        data=(*_pairs(pool), *_pairs(changed(left.hub, right.hub), "hub.")),
        environment=(*_environment(left, right), *_measured_environment(items, other_items)),
        code=_code(left, right, unknown),
        fingerprint=unequal,
        equal=tuple(item for item in items if item in other_items and item not in named_items),
        unknown=tuple(unknown),
    )


def _one(run: RunFiles, named: str) -> OneRun:
    trace = run.recorded_trace()
    return OneRun(
        named=named,
        arm=run.arm,
        seed=run.seed,
        status=run.status,
        sentence=run.sentence,
        steps=len(trace) if trace is not None else None,
        samples=float(trace["samples"][-1]) if trace is not None and len(trace) else None,
        device=run.manifest.device if run.manifest else "",
        weights_sha256=run.weights,
    )


def _pairs(pairs: Mapping[str, tuple[Any, Any]], prefix: str = "") -> tuple[Differing, ...]:
    return tuple(Differing(key=f"{prefix}{key}", first=pair[0], second=pair[1]) for key, pair in pairs.items())


def _differing(leaves: Iterable[Difference]) -> tuple[Differing, ...]:
    return tuple(Differing(key=leaf.path, first=leaf.baseline, second=leaf.arm) for leaf in leaves)


def _configs(first: RunFiles, second: RunFiles, unknown: list[str]) -> tuple[Differing, ...]:
    left, right = (_config(run, unknown) for run in (first, second))
    if left is None or right is None:
        return _pairs(changed({"seed": first.seed}, {"seed": second.seed}))
    compared = [what_counts(one) if {"eval", "train"} <= one.keys() else one for one in (left, right)]
    counting = (set(changed(*compared)) | {"seed"}) - {"rerun"}  # which only tells a repeat from its baseline
    pairs = changed({"seed": first.seed, **_without_names(left)}, {"seed": second.seed, **_without_names(right)})
    differing = [replace(one, counts=one.key in counting) for one in _pairs(pairs)]
    return tuple(sorted(differing, key=lambda one: (not one.counts, one.key)))


def _without_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without names and tracker settings, of which only the cadence of the log rows is compared."""
    tracker = config.get("tracker")
    cadence = {"log_every": tracker["log_every"]} if isinstance(tracker, Mapping) and "log_every" in tracker else {}
    compared = {key: value for key, value in config.items() if key not in _NAMES}
    return compared | ({"tracker": cadence} if cadence else {})


def _config(run: RunFiles, unknown: list[str]) -> dict[str, Any] | None:
    try:
        values = read_yaml(run.folder.config)
    except (OSError, ValueError):
        unknown.append(f"config: {run.folder.config.name} of {run.arm}, seed {run.seed} cannot be read")
        return None
    return {str(key): value for key, value in values.items()} if isinstance(values, Mapping) else {}


def _environment(left: Manifest, right: Manifest) -> Iterable[Differing]:
    names = ("device", "num_threads", "padding", "git", "versions")
    pairs = changed(*({name: getattr(one, name) for name in names} for one in (left, right)))
    return (replace(one, counts=one.key != "git") for one in _pairs(pairs))


def _measured_environment(items: Mapping[str, Any], other_items: Mapping[str, Any]) -> Iterable[Differing]:
    """What the fingerprints hold of the environment beyond the manifests."""
    both = [{"environment": one["environment"]} for one in (items, other_items) if one.get("environment")]
    for one in _differing(differences(*both)) if len(both) == 2 else ():
        key = one.key.partition(".")[2]
        if key not in ("device", "num_threads", *_VERSIONED):
            yield replace(one, key=key)


def _code(left: Manifest, right: Manifest, unknown: list[str]) -> tuple[Differing, ...]:
    if left.code and right.code:
        return (*_pairs(changed(left.code, right.code)), *_pairs(changed(left.imported, right.imported), "imported "))
    if left.code_digest != right.code_digest:
        return _pairs({"code_digest": (left.code_digest, right.code_digest)})
    if not left.code_digest:
        unknown.append("code: a run has not recorded its own")
    return ()


def _metrics(runs: list[RunFiles]) -> tuple[Pair, ...]:
    names = dict.fromkeys(
        name for run in runs for name in (*(run.returned or ()), *METRICS, *recorded(run.curves or ()))
    )
    common, rows = common_evaluations(runs), common_rows(runs)
    values = [reading(run, run.folder.path.parents[1], common, names, rows).values for run in runs]
    pairs = []
    for name in names:
        first, second = (one.get(name) for one in values)
        if first is not None or second is not None:
            known = find(name)
            info = known.info if known else MetricInfo(name=name, unit="", definition="", lower_is_better=None)
            apart = None if first is None or second is None else second - first
            pairs.append(Pair(info=info, first=first, second=second, difference=apart))
    return tuple(pairs)


def _curves(runs: Sequence[RunFiles]) -> Iterable[TwinCurve]:
    """The curves of both: the first metric evaluated, the training loss, the gradient norm."""
    evaluated = set.intersection(*(set(run.curves or ()) for run in runs))
    for name in sorted(evaluated, key=lambda name: (name != "loss", name))[:1]:
        curves = [run.curves[name] for run in runs if run.curves]
        first, second = ((curve.samples.astype(np.float64), curve.value) for curve in curves)
        yield TwinCurve(name=f"eval {name}", first=first, second=second)
    traces = [run.trace for run in runs if run.trace is not None]
    for name, column in (("train loss", "loss"), ("grad norm", "grad_norm")) if len(traces) == len(runs) else ():
        rows = [trace.recorded(column) for trace in traces]
        if all(mask.any() for mask in rows):
            first, second = (
                (trace["samples"][mask], trace[column][mask]) for trace, mask in zip(traces, rows, strict=True)
            )
            yield TwinCurve(name=name, first=first, second=second)


@dataclass(frozen=True, slots=True)
class _Study:
    """The study of both runs. needed: seeds that decide, by its spread. sd: that spread, in words."""

    folder: str
    needed: int | None = None
    sd: str = ""


def _study(first: RunFiles, second: RunFiles, named: str) -> _Study | None:
    """None where the runs belong to two studies, to none, or are in an archive."""
    folders = {run.folder.path.parents[1].resolve() for run in (first, second)}
    folder = first.folder.path.parents[1]
    if len(folders) > 1 or not StudyDir(folder).plan.exists():
        return None
    parent = Path(named).parent.parent
    shown = str(parent) if parent.resolve() == folder.resolve() else str(folder)
    try:
        known = power(folder, PowerOptions(variants=1))
    except AblateError:
        return _Study(shown)
    unit = f" {known.unit}" if known.unit else ""
    spread = f"residual sd {plain_figure(known.spread.sd, 2)}{unit}"
    question = f"whether {known.metric} differs by {known.effect:g}" if known.effect else f"about {known.metric}"
    return _Study(shown, known.needed, f"{question}, by the spread of {shown} ({spread})")


def _conclusions(diff: RunDiff, study: _Study | None) -> Iterable[str]:
    keys = [one.key for one in diff.moved]
    groups = (("data", diff.data), ("environment", diff.environment), ("code", diff.code))
    others = [name for name, differing in groups if any(one.counts for one in differing)]
    if diff.same_weights:
        yield "The same weights, bit for bit: none of the differences changed the training."
        return
    if not diff.one_seed:
        yield (
            f"The seeds are unequal ({diff.first.seed} and {diff.second.seed}): two single runs show nothing about a cause. "
            "Their difference is that of the change and of randomness together."
        )
    elif len(keys) == 1:
        moved = diff.moved[0]
        yield (
            f"One seed, and {keys[0]} ({show(moved.first)} -> {show(moved.second)}) differs: the difference is its effect for "
            "this one seed. Another seed may show the opposite; a general claim about the cause needs several."
        )
    elif keys:
        yield (
            f"One seed, and {len(keys)} keys differ ({joined(keys)}): the difference is their joint effect for this one "
            "seed, and does not show which of them is the cause."
        )
    elif not others:
        yield "Equal in config, seed, data, environment and code." + (
            " But their final weights differ: this is nondeterminism, and a difference of this size between other runs has "
            "no meaning."
            if diff.same_weights is False
            else ""
        )
    if keys and others:
        yield f"Not only the config differs, but {joined(others)} as well, so no key is the only cause."
    bad = [f"{run.named} ({run.status})" for run in (diff.first, diff.second) if run.status != "finished"]
    if bad:
        yield f"Only finished runs have metrics: {joined(bad)}."
    if keys:
        yield _seeds(study)
        yield _next_step(diff, study)


def _seeds(study: _Study | None) -> str:
    if study is not None and study.needed is not None:
        return f"About {counted(max(study.needed, 2), 'seed')} would decide {study.sd}."
    return (
        f"Two runs have no spread, so the number of seeds that would decide is unknown: at least {ENOUGH} (fewer are LOW "
        "POWER); `ablate power` computes it from a pilot of three."
    )


def _next_step(diff: RunDiff, study: _Study | None) -> str:
    if study is not None:
        return f"Result of all seeds of their study: ablate report {study.folder}"
    named = (diff.first.named, diff.second.named)
    if all(Path(one).is_dir() for one in named):
        return f"To decide, run both at every seed: ablate attribute {' '.join(named)} study.seeds={ENOUGH}"
    return f"To decide, run both at every seed, from their unpacked folders: ablate attribute A B study.seeds={ENOUGH}"

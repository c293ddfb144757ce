"""Infer a plan for a directory that has none: runs of an external loop, whose arms differ in what they recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.config.flatten import ABSENT, changed, leaf, leaf_or_absent
from ablate.config.schema import BASELINE, StudyConfig
from ablate.design.axis import Axis, show
from ablate.design.axis_files import FINGERPRINT, ad_hoc_axis
from ablate.design.derived import DERIVED
from ablate.design.plan import Arm, Plan, Run
from ablate.errors import ConfigError, RecordError, StudyError, nearest
from ablate.formatting import counted, first_of, joined
from ablate.metrics.registry import check_metric
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Manifest, read_manifest
from ablate.records.run_files import RunFiles, read_run
from ablate.serialization import read_yaml

_MUST_MATCH = ("init", "order", "splits", "eval_set", "environment")
"""Fingerprint items that a setting must not change, unless it is declared to."""

PLACEBO = "placebo"
"""An arm of this name differs from the baseline in randomness alone: all its changes are declared to be that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanOptions:
    """Settings that a plan would have fixed before the first run. None takes the default of a study.

    accepts: fingerprint items that may change with the arms, next to those that a changed setting implies.
    """

    metric: str | None = None
    smallest_effect: float | None = None
    accepts: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        return self != PlanOptions()


@dataclass(frozen=True, slots=True)
class _StoredRun:
    """A run directory, its manifest (None where unreadable) and its settings."""

    run_dir: RunDir
    manifest: Manifest | None
    config: dict[str, Any]

    @property
    def imported(self) -> bool:
        """Return whether another tool's log is all that is known of the run."""
        return self.manifest is not None and bool(self.manifest.origin)


_StoredArm = Mapping[int, _StoredRun]
"""By seed."""


def adopt(folder: Path, options: PlanOptions) -> Plan:
    """Return the plan that the runs in `folder` could have had: the arm `baseline`, and an axis for each changed setting.

    Settings are compared leaf by leaf, seed by seed, by type and value. An arm that changes several stays, with an axis without
    keys: its control `one_variable` fails and it gets no verdict. Only seeds that every arm has are read.
    Raises StudyError without a baseline or a common seed, ConfigError for an unknown metric, effect or item.
    """
    check_options(options)
    stored = _stored_arms(folder)
    if BASELINE not in stored:
        raise StudyError(
            f"{str(folder)!r} has no plan.json and no arm called {BASELINE!r}; arms there: {', '.join(stored)}",
            f"name the folder of the arm to compare with {BASELINE}: mv {folder / next(iter(stored))} {folder / BASELINE}",
        )
    seeds = sorted(set.intersection(*(set(arm) for arm in stored.values())))
    if not seeds:
        have = "; ".join(f"{name} {', '.join(map(str, sorted(arm)))}" for name, arm in stored.items())
        raise StudyError(
            f"the arms in {str(folder)!r} have no seed in common: {have}", "run each arm with the same seeds"
        )
    names = [BASELINE, *(name for name in stored if name != BASELINE)]
    files = {name: read_run(stored[name][seeds[0]].run_dir, arm=name, seed=seeds[0]) for name in names}
    _add_batch_sizes(stored, files, seeds[0])
    moves = {name: _moves(stored[BASELINE], stored[name], seeds) for name in names}
    configs = _filled({name: _config(stored[BASELINE], stored[name], seeds, moves[name]) for name in names}, moves)
    derived = _derived(files)
    arms = [_arm(name, moves[name], configs[name], derived[name]) for name in names]
    defaults = StudyConfig()
    return Plan(
        study=folder.resolve().name,
        question=" ".join(dict.fromkeys(_question(arm) for arm in arms[1:])),
        metric=options.metric or defaults.metric,
        smallest_effect=options.smallest_effect or defaults.smallest_effect,
        seeds=tuple(seeds),
        axes=_axes(arms, _reshaped(files), options.accepts),
        arms=tuple(arms),
        runs=tuple(
            Run(arm=name, seed=seed, digest=manifest.digest if (manifest := stored[name][seed].manifest) else "")
            for seed in seeds
            for name in names
        ),
        code_digest="",
        notes=tuple(_notes(stored, seeds)),
    )


def check_options(options: PlanOptions) -> None:
    """Raise ConfigError for an unknown metric, effect or item."""
    if options.metric is not None:
        check_metric(options.metric, key="--metric")
    if options.smallest_effect is not None and not options.smallest_effect > 0:
        raise ConfigError(f"--smallest-effect {options.smallest_effect:g} is not above 0", "--smallest-effect 0.01")
    for item in options.accepts:
        if item.partition(".")[0] not in FINGERPRINT:
            raise ConfigError(
                f"--allow-change {item} is not an item of a fingerprint; {nearest(item, FINGERPRINT)}",
                "--allow-change order",
            )


_MAX_ARMS = 1000
"""Limit of the arms that a plan is inferred from: every setting of each is compared with the baseline's."""


def _stored_arms(folder: Path) -> dict[str, dict[int, _StoredRun]]:
    """Arms by name. A directory that was renamed counts by its new name, because its runs are looked up there."""
    arms: dict[str, dict[int, _StoredRun]] = {}
    runs = list(StudyDir(folder).runs())
    if (count := len({run.path.parent for run in runs})) > _MAX_ARMS:
        raise StudyError(
            f"{folder} has no plan.json: expected at most {_MAX_ARMS:,} arms to infer one from, got {count:,}",
            "a directory with fewer arms",
        )
    for run in runs:
        number = run.path.name.removeprefix("seed=")
        if not number.isdecimal() or str(int(number)) != number or run.leads_out():
            continue
        try:
            manifest = read_manifest(run)
        except (RecordError, TypeError):
            manifest = None
        directory = run.path.parent.name
        name = manifest.arm if manifest is not None and safe_name(manifest.arm) == directory else directory
        arms.setdefault(name, {})[int(number)] = _StoredRun(run, manifest, _settings(run))
    return arms


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


def _moves(baseline: _StoredArm, arm: _StoredArm, seeds: Sequence[int]) -> dict[str, int]:
    """{setting: first seed in which it differs from the baseline's}; a group in place of a value is one setting."""
    moved: dict[str, int] = {}
    for seed in seeds:
        for key, pair in changed(baseline[seed].config, arm[seed].config).items():
            # What a log does not mention is not on record: that is no difference.
            if ABSENT not in pair or not (baseline[seed].imported or arm[seed].imported):
                moved.setdefault(key, seed)
    return {key: seed for key, seed in moved.items() if not any(key.startswith(f"{other}.") for other in moved)}


def _add_batch_sizes(stored: Mapping[str, _StoredArm], files: Mapping[str, RunFiles], seed: int) -> None:
    """Add `samples_per_step` to the settings where an arm trained with another number and no setting on record says so.

    A trainer may have made its batch smaller by itself, to fit into memory.
    """
    sizes = {name: _samples_per_step(run) for name, run in files.items()}
    base = sizes[BASELINE]
    for name, size in sizes.items():
        if not base or not size or size == base:
            continue
        pairs = changed(stored[BASELINE][seed].config, stored[name][seed].config).values()
        if any(_explains(pair, base, size) for pair in pairs):
            continue
        for arm in (BASELINE, name):
            for run in stored[arm].values():
                run.config["samples_per_step"] = sizes[arm]


def _explains(pair: tuple[Any, Any], base: int, size: int) -> bool:
    """Return whether a setting that differs is the batch size, or has its ratio, such as passes per step or processes."""
    whole = [type(value) is int for value in pair]
    if all(whole):
        return bool(pair[0] * size == pair[1] * base)
    return (whole[0] and pair[0] == base) or (whole[1] and pair[1] == size)


def _samples_per_step(run: RunFiles) -> int:
    """Return the number of samples of most steps; 0 where there is none, or it is unknown."""
    if run.origin:
        return run.origin.samples_per_step
    if run.trace is None or not len(run.trace):
        return 0
    sizes, counts = np.unique(np.diff(run.trace["samples"], prepend=0), return_counts=True)
    return int(sizes[counts.argmax()]) if 2 * counts.max() > counts.sum() else 0


def _config(baseline: _StoredArm, arm: _StoredArm, seeds: Sequence[int], moves: Mapping[str, int]) -> dict[str, Any]:
    """The baseline's settings of the first seed, so that what varies with the seed alone is equal, with the arm's changes."""
    config: dict[str, Any] = deepcopy(baseline[seeds[0]].config)
    for key, seed in moves.items():
        value = leaf_or_absent(arm[seed].config, key)
        # A setting that differs in a later seed only is a mistake in the runs, and must not equal the baseline's.
        _put(config, key, value if seed == seeds[0] else f"{show(value)} in seed {seed}")
    return config


def _filled(configs: dict[str, dict[str, Any]], moves: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """Give every arm every setting that any arm changes; one that it lacks is `absent`."""
    for key in {key for moved in moves.values() for key in moved}:
        for config in configs.values():
            if leaf_or_absent(config, key) == ABSENT:
                _put(config, key, ABSENT)
    return configs


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        if not isinstance(config.get(group), dict):
            config[group] = {}
        config = config[group]
    config[last] = value


def _arm(name: str, moves: Mapping[str, int], config: dict[str, Any], derived: dict[str, float]) -> Arm:
    if name == BASELINE:
        return Arm(name=name, config=config, derived=derived)
    changes = {key: leaf(config, key) for key in moves}
    one = len(changes) == 1 and name != PLACEBO
    return Arm(
        name=name,
        axis=next(iter(changes)) if one else name,
        value=next(iter(changes.values())) if one else changes,
        kind="placebo" if name == PLACEBO else "training",
        changes=changes,
        config=config,
        derived=derived,
    )


def _axes(arms: Sequence[Arm], reshaped: Iterable[str], accepts: Sequence[str]) -> tuple[Axis, ...]:
    """One per setting, with the values of its arms; one per arm that does not change exactly one setting."""
    by_axis: dict[str, list[Arm]] = {}
    for arm in arms[1:]:
        by_axis.setdefault(arm.axis or "", []).append(arm)
    axes = []
    for name, group in by_axis.items():
        first, new_shape = group[0], any(arm.name in reshaped for arm in group)
        may_change = {*accepts, *(item for key in first.changes for item in ad_hoc_axis(key, (), ()).may_change)}
        may_change |= ({"init"} if new_shape else set()) | ({"order"} if first.kind == "placebo" else set())
        free = [item for item in FINGERPRINT if item not in _MUST_MATCH]
        axes.append(
            Axis(
                name=name,
                question=_question(first),
                kind=first.kind or "training",
                keys=tuple(first.changes) if len(first.changes) == 1 or first.kind == "placebo" else (),
                values=tuple(arm.value for arm in group),
                may_change=(*DERIVED, *free, *sorted(may_change - set(DERIVED))),
                must_match=tuple(item for item in _MUST_MATCH if item not in may_change),
            )
        )
    return tuple(axes)


def _question(arm: Arm) -> str:
    if arm.kind == "placebo":
        return "How far apart are two runs that differ in nothing but chance?"
    return f"What does {arm.axis} change?"


def _reshaped(files: Mapping[str, RunFiles]) -> list[str]:
    """Arms whose model has other parameters than the baseline's, so that its initial weights must differ."""
    shapes = {name: run.fingerprint.items.get("parameters") for name, run in files.items() if run.fingerprint}
    base = shapes.get(BASELINE)
    return [name for name, shape in shapes.items() if shape is not None and base is not None and shape != base]


def _derived(files: Mapping[str, RunFiles]) -> dict[str, dict[str, float]]:
    """Steps, samples and evaluations of the first seed's runs; only those that are known of every arm."""
    known = {name: _counts(run) for name, run in files.items()}
    common = set.intersection(*(set(counts) for counts in known.values()))
    return {name: {key: value for key, value in counts.items() if key in common} for name, counts in known.items()}


def _counts(run: RunFiles) -> dict[str, float]:
    """Steps, samples, evaluations and epochs of a finished run, by their names in `design.derived`; nothing of any other."""
    if run.trace is None or run.curves is None or run.outcome is None:
        return {}
    trace, curves = run.trace, list(run.curves.values())
    evaluations = max((len(set(curve.step.tolist())) for curve in curves), default=0)
    if origin := run.origin:  # rows of a log are not steps, and the number of examples is not in it
        counts: dict[str, float] = {"total_steps": run.outcome.step, "evaluations": evaluations}
        epochs = np.concatenate([trace["epoch"][-1:], *(curve.epoch[-1:] for curve in curves)])
        if batch := origin.samples_per_step:
            counts |= {"effective_batch": batch, "samples_seen": run.outcome.step * batch}
        return counts | ({"epochs": float(np.nanmax(epochs))} if np.isfinite(epochs).any() else {})
    if not len(trace):
        return {}
    samples, epoch = trace["samples"], float(trace["epoch"][-1])
    counts = {
        "total_steps": len(trace),
        "samples_seen": int(samples[-1]),
        "effective_batch": int(samples[0]),
        "evaluations": evaluations,
        "eval_examples": max((int(curve.count.max()) for curve in curves if len(curve)), default=0),
    }
    # nan where the loop did not record how many samples an epoch has
    return counts | ({"epochs": epoch, "train_examples": round(samples[-1] / epoch)} if epoch > 0 else {})


def _notes(stored: Mapping[str, _StoredArm], seeds: Sequence[int]) -> Iterable[str]:
    yield (
        "there is no plan.json: arms, axes and seeds are read from what the runs recorded, so it is not on record that the "
        "metric, the smallest effect and the number of seeds were chosen before the results were known"
    )
    left = [f"{name} seed {seed}" for name, arm in stored.items() for seed in sorted(arm) if seed not in seeds]
    if left:
        yield f"only seeds that every arm has are read; left out: {', '.join(left)}"
    # The controls of an imported arm name what is not on record.
    imported = {name for name, arm in stored.items() if any(run.imported for run in arm.values())}
    yield from _one_sided(stored, [name for name in stored if name in imported and name != BASELINE], seeds)
    bare = [
        name for name, arm in stored.items() if not any(run.config for run in arm.values()) and name not in imported
    ]
    if bare:
        yield f"no settings were recorded for {', '.join(bare)}: Recorder(..., config=...) makes arms comparable"


NOT_COMPARED = "and not compared"
"""Part of the notes on settings that only one arm has on record."""


def _one_sided(stored: Mapping[str, _StoredArm], names: Sequence[str], seeds: Sequence[int]) -> Iterable[str]:
    """Yield a line for each set of settings that some arms have on record and the baseline has not, or the other way round."""
    owners: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for name in names:
        pairs = {
            key: pair
            for seed in seeds
            for key, pair in changed(stored[BASELINE][seed].config, stored[name][seed].config).items()
        }
        for side in (0, 1):
            if keys := tuple(key for key, pair in pairs.items() if pair[side] == ABSENT):
                owners.setdefault((keys, bool(side)), []).append(name)
    for (keys, of_baseline), arms in owners.items():
        owner, other = (BASELINE, joined(arms)) if of_baseline else (joined(arms), BASELINE)
        yield f"{counted(len(keys), 'setting')} of {owner} not on record for {other}, {NOT_COMPARED}: {first_of(keys)}"

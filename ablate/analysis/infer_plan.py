"""A plan for a folder that has none: runs of somebody else's loop, their arms told apart by what they recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ablate.config.flatten import ABSENT, changed, leaf
from ablate.config.schema import StudyConfig
from ablate.controls.control import Control
from ablate.design.axis import Axis, show
from ablate.design.axis_files import FINGERPRINT, ad_hoc_axis
from ablate.design.derived import DERIVED
from ablate.design.plan import BASELINE, Arm, Plan, Run
from ablate.errors import ConfigError, RecordError, StudyError, nearest
from ablate.metrics.registry import check_metric
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Manifest, Outcome, origin_of, read_fingerprint, read_manifest, read_outcome
from ablate.records.reader import Evals, Trace, read_evals, read_trace
from ablate.serialization import read_yaml

# The runs that lie in a folder without a plan, arm by arm, as they recorded themselves.


@dataclass(slots=True)
class FoundArm:
    """One arm as it lies there: by seed, its folder, its manifest (None where unreadable) and its settings."""

    runs: dict[int, RunDir] = field(default_factory=dict)
    manifests: dict[int, Manifest | None] = field(default_factory=dict)
    configs: dict[int, dict[str, Any]] = field(default_factory=dict)


def found_arms(folder: Path) -> dict[str, FoundArm]:
    """Arms by name. A folder that was renamed counts by its new name, because that is where its runs are looked for."""
    found: dict[str, FoundArm] = {}
    for run in StudyDir(folder).runs():
        number = run.path.name.removeprefix("seed=")
        if not number.isdecimal() or str(int(number)) != number or run.leads_out():
            continue
        try:
            manifest = read_manifest(run)
        except (RecordError, TypeError):
            manifest = None
        own = run.path.parent.name
        name = manifest.arm if manifest is not None and safe_name(manifest.arm) == own else own
        arm, seed = found.setdefault(name, FoundArm()), int(number)
        arm.runs[seed], arm.manifests[seed], arm.configs[seed] = run, manifest, _settings(run)
    return found


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


def fingerprint_item(run: RunDir, name: str) -> Any:
    """One item of a run's fingerprint; None where there is none."""
    try:
        known = read_fingerprint(run)
    except (RecordError, TypeError):
        return None
    return known.items.get(name) if known else None


def counts(run: RunDir) -> dict[str, float]:
    """Steps, samples, looks and epochs of a finished run, by their names in `design.derive`; nothing of any other."""
    try:
        outcome, trace, evals = read_outcome(run), read_trace(run.trace), read_evals(run.evals)
        manifest = read_manifest(run)
    except (RecordError, TypeError):
        return {}
    if outcome is None or outcome.status != "finished":
        return {}
    if origin := origin_of(manifest.origin):
        return _imported_counts(outcome, trace, evals, origin.samples_per_step)
    if not len(trace):
        return {}
    samples, epochs = trace["samples"], float(trace["epoch"][-1])
    curves = [evals.curve(metric) for metric in evals.metrics()]
    found: dict[str, float] = {
        "total_steps": len(trace),
        "samples_seen": int(samples[-1]),
        "effective_batch": int(samples[0]),
        "evaluations": max((len(set(curve.step.tolist())) for curve in curves), default=0),
        "eval_examples": max((int(curve.count.max()) for curve in curves if len(curve)), default=0),
    }
    # nan where the loop did not say how many samples an epoch has
    return found | ({"epochs": epochs, "train_examples": round(samples[-1] / epochs)} if epochs > 0 else {})


def _imported_counts(outcome: Outcome, trace: Trace, evals: Evals, samples_per_step: int) -> dict[str, float]:
    """The same of an imported run, as far as its log says them: rows are not steps there, and nobody counted the examples."""
    curves = [evals.curve(metric) for metric in evals.metrics()]
    found: dict[str, float] = {
        "total_steps": outcome.step,
        "evaluations": max((len(set(curve.step.tolist())) for curve in curves), default=0),
    }
    epochs = np.concatenate([trace["epoch"][-1:], *(curve.epoch[-1:] for curve in curves)])
    if samples_per_step:
        found |= {"effective_batch": samples_per_step, "samples_seen": outcome.step * samples_per_step}
    if len(epochs) and np.isfinite(epochs).any():
        found["epochs"] = float(np.nanmax(epochs))
    return found


_HELD = ("init", "order", "splits", "eval_set", "environment")
"""What one setting has no business to change, unless it is about just that."""

PLACEBO = "placebo"
"""An arm of this name differs from the baseline in nothing but chance: all its changes are declared to be that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a plan would have fixed before the first run. None takes the default of a study.

    accepts: fingerprint items that may come with the arms' changes, beside those that a changed setting implies.
    """

    metric: str | None = None
    smallest_effect: float | None = None
    accepts: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        return self != Asked()


def adopt(folder: Path, asked: Asked) -> Plan:
    """The plan that the runs in `folder` could have had: the arm `baseline`, and an axis for each setting that others change.

    Settings are compared leaf by leaf, seed by seed, by type and value. An arm that changes several is kept, with an axis that
    moves nothing: the control `isolate` fails and it gets no verdict. Only seeds that every arm has are read.
    Raises StudyError without a baseline or a common seed, ConfigError for an unknown metric, effect or item.
    """
    check_asked(asked)
    found = found_arms(folder)
    if BASELINE not in found:
        raise StudyError(
            f"{str(folder)!r} has no plan.json and no arm called {BASELINE!r}; arms there: {', '.join(found)}",
            f"name the folder of the arm to compare with {BASELINE}: mv {folder / next(iter(found))} {folder / BASELINE}",
        )
    seeds = sorted(set.intersection(*(set(arm.runs) for arm in found.values())))
    if not seeds:
        have = "; ".join(f"{name} {', '.join(map(str, sorted(arm.runs)))}" for name, arm in found.items())
        raise StudyError(
            f"the arms in {str(folder)!r} have no seed in common: {have}", "run each arm with the same seeds"
        )
    names = [BASELINE, *(name for name in found if name != BASELINE)]
    moves = {name: _moves(found[BASELINE], found[name], seeds) for name in names}
    configs = _filled({name: _config(found[BASELINE], found[name], seeds, moves[name]) for name in names}, moves)
    derived = _derived({name: found[name].runs[seeds[0]] for name in names})
    arms = [_arm(name, moves[name], configs[name], derived[name]) for name in names]
    defaults = StudyConfig()
    return Plan(
        study=folder.resolve().name,
        question=" ".join(dict.fromkeys(_question(arm) for arm in arms[1:])),
        metric=asked.metric or defaults.metric,
        smallest_effect=asked.smallest_effect or defaults.smallest_effect,
        seeds=tuple(seeds),
        axes=_axes(arms, _reshaped(found, names, seeds[0]), asked.accepts),
        arms=tuple(arms),
        runs=tuple(Run(arm=name, seed=seed, digest=_digest(found[name], seed)) for seed in seeds for name in names),
        code_digest="",
        notes=tuple(_notes(found, seeds)),
    )


def isolate_adopted(baseline: Arm, arm: Arm) -> Control:
    """What can be said of an arm whose axis moves nothing: it changes several settings, or none."""
    if arm.kind == "placebo":
        return Control(
            arm=arm.name, name="one_variable", status="proven", sentence="the baseline's settings, leaf by leaf"
        )
    if arm.changes:
        pairs = [f"{key} ({show(leaf(baseline.config, key))} -> {show(value)})" for key, value in arm.changes.items()]
        said = f"changes {len(pairs)} settings at once, so it is no one-variable comparison: {', '.join(pairs)}"
    else:
        said = "has the baseline's settings, leaf by leaf: no variable is changed"
    return Control(arm=arm.name, name="one_variable", status="failed", sentence=f"{arm.name} {said}")


def check_asked(asked: Asked) -> None:
    """Raise ConfigError for an unknown metric, effect or item."""
    if asked.metric is not None:
        check_metric(asked.metric, key="--metric")
    if asked.smallest_effect is not None and not asked.smallest_effect > 0:
        raise ConfigError(f"--smallest-effect {asked.smallest_effect:g} is not above 0", "--smallest-effect 0.01")
    for item in asked.accepts:
        if item.partition(".")[0] not in FINGERPRINT:
            raise ConfigError(
                f"--allow-change {item} is no item of a fingerprint; {nearest(item, FINGERPRINT)}",
                "--allow-change order",
            )


def _moves(baseline: FoundArm, arm: FoundArm, seeds: Sequence[int]) -> dict[str, int]:
    """{setting: first seed in which it differs from the baseline's}; a group in the place of a value is one setting."""
    moved: dict[str, int] = {}
    for seed in seeds:
        for key in changed(baseline.configs[seed], arm.configs[seed]):
            moved.setdefault(key, seed)
    return {key: seed for key, seed in moved.items() if not any(key.startswith(f"{other}.") for other in moved)}


def _config(baseline: FoundArm, arm: FoundArm, seeds: Sequence[int], moves: Mapping[str, int]) -> dict[str, Any]:
    """The arm's settings: the baseline's of the first seed, so that what varies with the seed alone is equal; its changes."""
    config: dict[str, Any] = _copied(baseline.configs[seeds[0]])
    for key, seed in moves.items():
        try:
            value = leaf(arm.configs[seed], key)
        except KeyError:
            value = ABSENT
        # A setting that differs in a later seed only is a mistake in the runs, and must not look like the baseline's.
        _put(config, key, value if seed == seeds[0] else f"{show(value)} in seed {seed}")
    return config


def _filled(configs: dict[str, dict[str, Any]], moves: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """Every arm has every setting that any arm changes; one that it lacks is `absent`."""
    for key in {key for moved in moves.values() for key in moved}:
        for config in configs.values():
            try:
                leaf(config, key)
            except KeyError:
                _put(config, key, ABSENT)
    return configs


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        if not isinstance(config.get(group), dict):
            config[group] = {}
        config = config[group]
    config[last] = value


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


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
    """One per setting, with the levels of its arms; one per arm that is no change of one setting."""
    by_name: dict[str, list[Arm]] = {}
    for arm in arms[1:]:
        by_name.setdefault(arm.axis or "", []).append(arm)
    return tuple(
        _axis(name, mine, any(arm.name in reshaped for arm in mine), accepts) for name, mine in by_name.items()
    )


def _axis(name: str, arms: Sequence[Arm], reshaped: bool, accepts: Sequence[str]) -> Axis:
    first = arms[0]
    comes = {*accepts, *(item for key in first.changes for item in ad_hoc_axis(key, (), ()).may_change)}
    comes |= {"init"} if reshaped else set()
    comes |= {"order"} if first.kind == "placebo" else set()
    moves = tuple(first.changes) if len(first.changes) == 1 or first.kind == "placebo" else ()
    return Axis(
        name=name,
        question=_question(first),
        kind=first.kind or "training",
        keys=moves,
        values=tuple(arm.value for arm in arms),
        may_change=(*DERIVED, *(item for item in FINGERPRINT if item not in _HELD), *sorted(comes - set(DERIVED))),
        must_match=tuple(item for item in _HELD if item not in comes),
    )


def _question(arm: Arm) -> str:
    if arm.kind == "placebo":
        return "How far apart are two runs that differ in nothing but chance?"
    return f"What does {arm.axis} change?"


def _reshaped(found: Mapping[str, FoundArm], names: Sequence[str], seed: int) -> list[str]:
    """Arms whose model has other parameters than the baseline's, so that its initial weights must differ."""
    shapes = {name: fingerprint_item(found[name].runs[seed], "parameters") for name in names}
    return [name for name in names if None not in (shapes[name], shapes[BASELINE]) and shapes[name] != shapes[BASELINE]]


def _derived(runs: Mapping[str, RunDir]) -> dict[str, dict[str, float]]:
    """Steps, samples and looks as the first seed's runs had them; only those that are known of every arm."""
    known = {name: counts(run) for name, run in runs.items()}
    common = set.intersection(*(set(one) for one in known.values()))
    return {name: {key: value for key, value in one.items() if key in common} for name, one in known.items()}


def _digest(arm: FoundArm, seed: int) -> str:
    manifest = arm.manifests[seed]
    return manifest.digest if manifest is not None else ""


def _imported(arm: FoundArm) -> bool:
    """Of an imported arm its controls say what is not on record."""
    return any(manifest is not None and manifest.origin for manifest in arm.manifests.values())


def _notes(found: Mapping[str, FoundArm], seeds: Sequence[int]) -> Iterable[str]:
    yield (
        "there is no plan.json: arms, axes and seeds are read from what the runs recorded, so nothing says that the metric, "
        "the smallest effect and the number of seeds were chosen before the results were known"
    )
    left = [f"{name} seed {seed}" for name, arm in found.items() for seed in sorted(arm.runs) if seed not in seeds]
    if left:
        yield f"only seeds that every arm has are read; left out: {', '.join(left)}"
    bare = [name for name, arm in found.items() if not any(arm.configs.values()) and not _imported(arm)]
    if bare:
        yield f"no settings were recorded for {', '.join(bare)}: Recorder(..., config=...) makes arms comparable"

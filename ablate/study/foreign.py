"""A study on a Hydra app that is not ours: planned from its own config, one variable at a time. Knows no Hydra and no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.control.isolate import isolate
from ablate.design.axis import Axis, show
from ablate.design.compose import Request, override_text
from ablate.design.derive import DERIVED
from ablate.design.designs import FINGERPRINT, execution_order
from ablate.design.leaves import changed, leaf, leaves
from ablate.design.plan import BASELINE, Arm, Plan, Run, digest_by
from ablate.errors import AxisError, ConfigError, StudyError, nearest
from ablate.record.code import changed_files, code_digest, code_files
from ablate.record.digest import digest_of
from ablate.record.redact import redact
from ablate.record.returned import read_returned
from ablate.record.rundir import RunDir, StudyDir, read_json, safe_name, write_json
from ablate.record.values import read_manifest, read_outcome

Compose = Callable[[Sequence[str]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The keys of `hydra.sweeper` for an app that is not ours.

    seed_key: the app's key for its seed. seeds: how many, 0 .. seeds-1. metric: name of the returned value that is compared;
    None where there is one. lower_is_better: None for a value with no better side. smallest_effect: smallest difference that
    matters. name: the study's folder under root; None makes one from the axes. workers: runs at a time under
    `hydra/launcher=local`; None takes one per GPU, or one per CPU core.
    """

    seed_key: str = "seed"
    seeds: int = 5
    metric: str | None = None
    lower_is_better: bool | None = True
    smallest_effect: float = 0.01
    name: str | None = None
    root: str = "runs"
    workers: int | None = None

    def __post_init__(self) -> None:
        for key, typed in (("seeds", self.seeds), ("workers", self.workers)):
            if typed is not None and (not isinstance(typed, int) or isinstance(typed, bool) or typed < 1):
                raise ConfigError(f"hydra.sweeper.{key}={typed} is not a whole number from 1", f"hydra.sweeper.{key}=5")
        if not isinstance(self.smallest_effect, int | float) or not self.smallest_effect > 0:
            raise ConfigError(
                f"hydra.sweeper.smallest_effect={self.smallest_effect} is not above 0",
                "hydra.sweeper.smallest_effect=0.01",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AppStudy:
    """A plan, its folder, and per arm what one types to run it."""

    plan: Plan
    folder: Path
    overrides: dict[str, tuple[str, ...]]

    def job(self, run: Run) -> list[str]:
        """One run in Hydra's grammar, less where it goes."""
        assert self.plan.app is not None
        return [*self.overrides[run.arm], f"{self.plan.app['seed_key']}={run.seed}"]

    def place(self, run: Run) -> RunDir:
        return StudyDir(self.folder).run(run.arm, run.seed)


def make_app_study(
    compose: Compose, request: Request, options: Options, *, modules: Iterable[str], command: str
) -> AppStudy:
    """Compose the baseline and an arm per level, and prove on paper that each changes one key.

    modules: where the app's code begins. Raises ConfigError or AxisError; writes nothing.
    """
    if not request.swept:
        raise AxisError("nothing is swept, so there is nothing to compare", "-m <key>=<value>,<value>")
    base = compose(request.fixed)
    _check_seed_key(base, options.seed_key)
    baseline = Arm(name=BASELINE, config=_less(base, options.seed_key))
    arms, axes, notes = [baseline], list[Axis](), list[str]()
    overrides = {BASELINE: tuple(request.fixed)}
    for key, levels in request.swept.items():
        made = []
        for level in levels:
            text = override_text(key, level)
            config = _less(compose([*request.fixed, text]), options.seed_key)
            axis = _axis(key, levels)
            name = axis.label(level)
            if not changed(baseline.config, config):
                notes.append(f"{name} is the baseline's own value, and is not run twice")
                continue
            arm = Arm(
                name=name, axis=key, level=level, kind="training", changes=_changes(config, key, level), config=config
            )
            _check_one(baseline, arm, key)
            isolate(baseline, arm, axis)
            arms.append(arm)
            made.append(level)
            overrides[name] = (*request.fixed, text)
        if made:
            axes.append(_axis(key, made))
    if not axes:
        raise AxisError(
            f"{', '.join(request.swept)}: every level is the baseline's own value",
            "sweep a value that the config does not have",
        )
    return AppStudy(
        plan=_plan(arms, axes, options, _code(base, modules), command, notes),
        folder=Path(options.root).absolute() / safe_name(options.name or "+".join(axis.name for axis in axes)),
        overrides=overrides,
    )


def _check_seed_key(config: Mapping[str, Any], key: str) -> None:
    if key not in leaves(config):
        raise ConfigError(
            f"hydra.sweeper.seed_key={key}: the app's config has no key {key!r} to set its seed with; "
            f"{nearest(key, leaves(config))}",
            "hydra.sweeper.seed_key=<the app's key>, or give the app one and seed its generators with it",
        )


def _less(config: Mapping[str, Any], seed_key: str) -> dict[str, Any]:
    """The config without its seed, which belongs to the run and not to the arm."""
    head, _, rest = seed_key.partition(".")
    kept = {key: value for key, value in config.items() if key != head or rest}
    return {**kept, head: _less(config[head], rest)} if rest else kept


def _changes(config: Mapping[str, Any], key: str, level: Any) -> dict[str, Any]:
    try:
        return {key: leaf(config, key)}
    except KeyError:
        return {key: level}


def _axis(key: str, levels: Sequence[Any]) -> Axis:
    """What may come with it, the record decides: `analysis.returned`."""
    return Axis(
        name=key,
        question=f"What does {key} change?",
        kind="training",
        moves=(key,),
        levels=tuple(levels),
        accepts=(*DERIVED, *FINGERPRINT),
    )


def _check_one(baseline: Arm, arm: Arm, key: str) -> None:
    moved = changed(baseline.config, arm.config)
    others = [other for other in moved if other != key and not other.startswith(f"{key}.")]
    if others:
        pairs = ", ".join(f"{other} ({show(moved[other][0])} -> {show(moved[other][1])})" for other in others)
        raise AxisError(
            f"{arm.name} also changes {pairs}, which the app's config takes from {key}: two variables",
            f"hold it where the baseline has it: {override_text(others[0], moved[others[0]][0])}",
        )


def _code(config: Mapping[str, Any], modules: Iterable[str]) -> dict[str, str]:
    """The app's own files, as far as imports and `_target_`s lead to them; not those of installed packages."""
    named = {str(value) for key, value in leaves(config).items() if key.endswith("_target_")}
    found = code_files([*modules, *sorted(name.rpartition(".")[0] for name in named if "." in name)])
    return {name: sha for name, sha in found.items() if not name.startswith("ablate/")}


def _plan(
    arms: Sequence[Arm], axes: Sequence[Axis], options: Options, code: dict[str, str], command: str, notes: list[str]
) -> Plan:
    seeds, digest = tuple(range(options.seeds)), code_digest(code)
    configs = {arm.name: digest_of(arm.config) for arm in arms}
    runs = []
    for name, seed in execution_order(list(configs), seeds, 0):
        request = digest_of({"app": configs[name], "seed_key": options.seed_key, "seed": seed})
        runs.append(Run(arm=name, seed=seed, digest=digest_by(request, digest), request=request))
    if not code:
        notes = [*notes, "no source file of the app could be found, so a change of its code would not be noticed"]
    return Plan(
        study=options.name or "+".join(axis.name for axis in axes),
        question=" ".join(axis.question for axis in axes),
        metric=options.metric or "",
        smallest_effect=float(options.smallest_effect),
        seeds=seeds,
        axes=tuple(axes),
        arms=tuple(arms),
        runs=tuple(runs),
        code_digest=digest,
        code=code,
        command=command,
        notes=tuple(notes),
        app={"seed_key": options.seed_key, "lower_is_better": options.lower_is_better},
    )


def freeze_app(study: AppStudy) -> None:
    """Write plan.json before the first run. Raises StudyError where another study's runs lie, naming what differs first.

    A metric that no run has returned may be named anew, with its better side and its effect: nothing was read by it yet.
    """
    folder, plan = StudyDir(study.folder), study.plan
    before = read_app_plan(study.folder) if folder.plan.exists() else None
    if before is not None and before.digest == plan.digest:
        return
    returned = {name for run in folder.runs() for name in read_returned(run) or ()}
    if before is not None and returned:
        difference = _difference(before, plan, may_name=before.metric not in returned)
        if difference:
            raise StudyError(
                f"{study.folder} holds another study: {difference}",
                f"hydra.sweeper.name={_next_name(study.folder)} for a new one beside it, or remove {study.folder}",
            )
    write_json(folder.plan, plan.to_json() | {"command": redact(plan.command), "digest": plan.digest})


def _difference(before: Plan, now: Plan, *, may_name: bool) -> str:
    """The first difference that keeps the runs of `before` from being runs of `now`; empty where there is none."""
    assert now.app is not None
    if before.app is None:
        return "one of ablate's own"
    if before.code != now.code:
        return f"its runs were made by other code: {', '.join(changed_files(before.code, now.code)[:3])}"
    asked = {"seeds": (len(before.seeds), len(now.seeds)), "seed_key": (before.app["seed_key"], now.app["seed_key"])}
    if not may_name:
        asked |= {name: (getattr(before, name), getattr(now, name)) for name in ("metric", "smallest_effect")}
        asked["lower_is_better"] = before.app["lower_is_better"], now.app["lower_is_better"]
    for name, (left, right) in asked.items():
        if left != right:
            return f"hydra.sweeper.{name} is {show(left)} there and {show(right)} now"
    for key, (one, other) in changed(before.baseline.config, now.baseline.config).items():
        return f"the baseline's {key} is {show(one)} there and {show(other)} now"
    names = [", ".join(arm.name for arm in plan.arms) for plan in (before, now)]
    return f"its arms are {names[0]} there and {names[1]} now" if names[0] != names[1] else ""


def _next_name(folder: Path) -> str:
    number = 2
    while folder.with_name(f"{folder.name}_{number}").exists():
        number += 1
    return f"{folder.name}_{number}"


def read_app_plan(folder: Path) -> Plan:
    """Raises StudyError for a plan that cannot be read."""
    path = StudyDir(folder).plan
    try:
        return Plan.from_json(read_json(path))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StudyError(
            f"{path} cannot be read: {error}", f"remove {folder}, or hydra.sweeper.name=<another>"
        ) from None


def is_done(study: AppStudy, run: Run) -> bool:
    """Whether the run's value lies there, returned by the same config under the same code."""
    place = study.place(run)
    outcome = read_outcome(place)
    done = outcome is not None and outcome.status in ("finished", "diverged")
    return done and place.manifest.exists() and read_manifest(place).digest == run.digest

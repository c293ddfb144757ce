"""Studies of an external Hydra app, which has a config schema of its own or none: compose its config, and plan the study."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.config.flatten import ABSENT, changed, leaf_or_absent, leaves, targets_of
from ablate.config.schema import BASELINE
from ablate.controls.config_isolation import isolate
from ablate.design.axis import Axis, show
from ablate.design.axis_files import FINGERPRINT, execution_order
from ablate.design.derived import DERIVED
from ablate.design.designs import ExternalApp
from ablate.design.plan import Arm, Plan, Run, digest_by
from ablate.errors import AblateError, AxisError, ConfigError, nearest
from ablate.hashing import digest_of
from ablate.planning.compose import Request, config_loader, override_text, parsed
from ablate.planning.planner import Prepared
from ablate.records.layout import safe_name
from ablate.records.source_code import code_digest, code_files

Compose = Callable[[Sequence[str]], dict[str, Any]]

_OF_THE_RUN = re.compile(r"\$\{(hydra|now):")
"""Interpolations that differ between runs; they stay unresolved."""


class AppComposer:
    """Composes the app's config while Hydra is initialised. always: overrides that every composition gets."""

    def __init__(self, config_name: str | None, always: Sequence[str] = ()) -> None:
        self._config_name, self._always = config_name, tuple(always)

    def compose(self, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """Return the config as plain values, without Hydra's own part. Raises ConfigError."""
        from hydra import compose
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        try:
            values = _plain(compose(self._config_name, overrides=[*self._always, *overrides]))
        except (HydraException, OmegaConfBaseException) as error:
            raise self._refusal(error, overrides) from None
        assert isinstance(values, dict)
        return {key: value for key, value in values.items() if key != "hydra"}

    def parse(self, arguments: Sequence[str], *, seed_key: str) -> Request:
        """Take apart the arguments of a multirun. Raises ConfigError, or AxisError for a sweep that cannot be an axis."""
        swept: dict[str, tuple[Any, ...]] = {}
        fixed: list[str] = []
        for text, override, values in parsed(arguments, self._refusal):
            key = override.key_or_group
            if key == seed_key:
                once = "the seed is what every arm is repeated over, so it cannot be an axis"
                problem = f"the study sets {seed_key} itself, once per seed" if values is None else once
                raise (ConfigError if values is None else AxisError)(
                    f"{text}: {problem}", "hydra.sweeper.seeds=5 sets seeds"
                )
            if values is None:
                fixed.append(text)
                continue
            if config_loader().get_group_options(key):
                raise AxisError(
                    f"{text}: a choice of {key!r} sets many keys, so a sweep over it would not vary one variable",
                    f"sweep one key of it: {key}.<key>=...; {key}=<one of them> chooses it for every arm",
                )
            if override.is_add() or override.is_delete():
                raise AxisError(
                    f"{text}: the baseline has no {key!r} to compare with",
                    f"give it one in the app's config, then {key}=...",
                )
            swept[key] = values
        return Request(swept=swept, fixed=tuple(fixed))

    def _refusal(self, error: Exception, typed: Sequence[str]) -> AblateError:
        from ablate.planning.hydra_errors import error_text

        text = error_text(error).strip()
        unknown = re.search(r"Could not override '(.+?)'", text)
        if unknown is None or not typed:
            first = text.splitlines()[0].strip() if text else type(error).__name__
            return ConfigError(f"{' '.join(typed) or 'the config'}: {first}")
        key = unknown[1]
        quoted = next((argument for argument in typed if argument.lstrip("+~").startswith(key)), key)
        known = leaves(self.compose())
        return ConfigError(f"{quoted}: the app's config has no key {key!r}", nearest(key, known))


def _plain(node: Any) -> Any:
    """Return plain values; missing ones, and interpolations that cannot be resolved here, stay unchanged."""
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, DictConfig) and not node._is_none():
        return {str(key): _leaf(node, key) for key in node}
    if isinstance(node, ListConfig) and not node._is_none():
        return [_leaf(node, index) for index in range(len(node))]
    try:
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException:
        return str(node)


def _leaf(node: Any, key: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    raw = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index]
    if OmegaConf.is_missing(node, key) or (isinstance(raw, str) and _OF_THE_RUN.search(raw)):
        return raw
    try:
        value = node[key]
    except (OmegaConfBaseException, ValueError, KeyError):
        return raw
    if OmegaConf.is_config(value):
        return _plain(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The keys of `hydra.sweeper` for an external app."""

    seed_key: str = "seed"
    """The app's key for its seed."""
    seeds: int = 5
    """Number of seeds, 0 to seeds - 1."""
    metric: str | None = None
    """Name of the returned value that is compared; None where main returns a single one."""
    lower_is_better: bool | None = True
    """None for a metric without a better side."""
    smallest_effect: float = 0.01
    """Smallest effect of interest."""
    name: str | None = None
    """Name of the study directory; None makes one from the axes."""
    root: str = "runs"
    """Directory that holds the study directories."""
    workers: int | None = None
    """Runs at a time under `hydra/launcher=local`; None takes one per GPU, or one per CPU core."""

    def __post_init__(self) -> None:
        for key, number in (("seeds", self.seeds), ("workers", self.workers)):
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise ConfigError(
                    f"hydra.sweeper.{key}={number} is not a whole number from 1", f"hydra.sweeper.{key}=5"
                )
        if not isinstance(self.smallest_effect, int | float) or not self.smallest_effect > 0:
            raise ConfigError(
                f"hydra.sweeper.smallest_effect={self.smallest_effect} is not above 0",
                "hydra.sweeper.smallest_effect=0.01",
            )


def make_app_study(
    compose: Compose,
    request: Request,
    options: Options,
    *,
    modules: Iterable[str],
    command: str,
) -> Prepared:
    """Compose the baseline and an arm per value, and check that each changes one key.

    modules: the modules in which the app's code begins. Raises ConfigError or AxisError; writes nothing.
    """
    if not request.swept:
        raise AxisError("nothing is swept, so there is nothing to compare", "-m <key>=<value>,<value>")
    base = compose(request.fixed)
    _check_seed_key(base, options.seed_key)
    baseline = Arm(name=BASELINE, config=_without(base, options.seed_key))
    arms, axes, notes = [baseline], list[Axis](), list[str]()
    overrides = {BASELINE: tuple(request.fixed)}
    for key, levels in request.swept.items():
        axis, made = _axis(key, levels), []
        for level in levels:
            text = override_text(key, level)
            config = _without(compose([*request.fixed, text]), options.seed_key)
            name = axis.label(level)
            if not changed(baseline.config, config):
                notes.append(f"{name} is the baseline's own value, and is not run twice")
                continue
            value = leaf_or_absent(config, key)
            changes = {key: level if value == ABSENT else value}
            arm = Arm(name=name, axis=key, value=level, kind="training", changes=changes, config=config)
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
    return Prepared(
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


def _without(config: Mapping[str, Any], seed_key: str) -> dict[str, Any]:
    """Return the config without its seed, which belongs to the run and not to the arm."""
    head, _, rest = seed_key.partition(".")
    others = {key: value for key, value in config.items() if key != head or rest}
    return {**others, head: _without(config[head], rest)} if rest else others


def _axis(key: str, levels: Sequence[Any]) -> Axis:
    """Return the axis of a key. What may change with it is decided by the record: `ablate.analysis`."""
    return Axis(
        name=key,
        question=f"What does {key} change?",
        kind="training",
        keys=(key,),
        values=tuple(levels),
        may_change=(*DERIVED, *FINGERPRINT),
    )


def _check_one(baseline: Arm, arm: Arm, key: str) -> None:
    moved = changed(baseline.config, arm.config)
    others = [other for other in moved if other != key and not other.startswith(f"{key}.")]
    if others:
        pairs = ", ".join(f"{other} ({show(moved[other][0])} -> {show(moved[other][1])})" for other in others)
        raise AxisError(
            f"{arm.name} also changes {pairs}, which the app's config takes from {key}: two variables",
            f"keep the baseline's value: {override_text(others[0], moved[others[0]][0])}",
        )


def _code(config: Mapping[str, Any], modules: Iterable[str]) -> dict[str, str]:
    """Return the app's own files that imports and `_target_`s lead to, without those of installed packages."""
    named = sorted(name.rpartition(".")[0] for name in targets_of(config))
    found = code_files(modules) | code_files(named, installed=False)
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
        design=ExternalApp(seed_key=options.seed_key, lower_is_better=options.lower_is_better),
    )

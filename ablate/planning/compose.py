"""Compose configs with Hydra: from the command line to plain, checked values.

No other module sees a DictConfig or a Hydra exception: a request that cannot be composed is an AblateError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config import conf_dir
from ablate.config.schema import Config, make_config
from ablate.design.axis import Axis
from ablate.design.axis_files import axis_from
from ablate.errors import AblateError, AxisError, ConfigError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "config"
SCHEMA = "ablate_schema"


@dataclass(kw_only=True, slots=True)
class Schema(Config):
    """What `conf/config.yaml` may hold: a config, the axis file that `axis=<name>` chose, and room to read several."""

    axis: Any = None
    axis_files: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """The arguments of a command, parsed.

    axes: names from `axis=a,b`; None when no axis was named.
    swept: {key: values} of `key=a,b`.
    fixed: all other overrides; they hold for the baseline and for every arm.
    made: axes that were neither named nor swept, but follow from other arguments.
    """

    axes: tuple[str, ...] | None = None
    swept: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    made: tuple[Axis, ...] = ()


def version_base() -> dict[str, str]:
    """Hydra 1.3 warns without `version_base`, Hydra 1.4 warns with it."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


@cache
def register_schema() -> None:
    """Make the dataclasses of `ablate.config.schema` the types that Hydra checks against."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name=SCHEMA, node=Schema)


@contextmanager
def opened(*, config_dir: Path | None = None) -> Iterator[Composer]:
    """A Composer outside of a Hydra application. config_dir: a folder with the user's own config files."""
    from hydra import initialize_config_dir

    if config_dir is not None and not config_dir.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: there is no such folder")
    always = [] if config_dir is None else [f"hydra.searchpath=['file://{config_dir.resolve()}']"]
    with initialize_config_dir(str(conf_dir()), job_name="ablate", **version_base()):
        yield Composer(always=always)


class Composer:
    """Composes configs while Hydra is initialised: inside a Hydra application or inside `opened`.

    config_name: the primary config. always: overrides that every composition gets.
    """

    def __init__(self, *, config_name: str = CONFIG_NAME, always: Sequence[str] = ()) -> None:
        register_schema()
        self.config_name = config_name
        self.always = tuple(always)
        self._axes: dict[str, Axis] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """The resolved config as plain values, every type and range checked. Raises ConfigError."""
        return plain(self._composed_once(overrides), overrides)

    def vary(self, overrides: Sequence[str], changes: Mapping[str, Any]) -> dict[str, Any]:
        """The config of `overrides` with some keys set: what `compose` makes of both, without reading every file again.

        Twenty arms differ in a leaf each, and to compose a config takes a tenth of a second.
        """
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        texts = [*overrides, *(override_text(key, value) for key, value in changes.items())]
        if not all(_is_leaf(key, value) for key, value in changes.items()):
            return self.compose(texts)
        config = deepcopy(self._composed_once(overrides))
        try:
            for key, value in changes.items():
                OmegaConf.update(config, key, value, merge=True)
        except OmegaConfBaseException:
            return self.compose(texts)  # which refuses it, in our words
        return plain(config, texts)

    def _composed_once(self, overrides: Sequence[str]) -> DictConfig:
        key = tuple(overrides)
        if key not in self._composed:
            self._composed[key] = self._compose(overrides)
        return self._composed[key]

    def axis_names(self) -> list[str]:
        """Names of the axis files on the search path, the user's own included."""
        return list(
            config_loader().get_group_options("axis", config_name=self.config_name, overrides=list(self.always))
        )

    def axes(self, names: Sequence[str] | None = None) -> list[Axis]:
        """Several axes at the price of one composition; all of them without `names`.

        Raises AxisError for a name that does not exist, and for a file that is not valid.
        """
        known = self.axis_names()
        names = known if names is None else names
        for name in names:
            if name not in known:
                raise AxisError(f"axis={name}: there is no axis {name!r}", nearest(name, known))
        fresh = [name for name in names if name not in self._axes]
        if fresh:
            files = self._compose([f"+axis@axis_files.{name}={name}" for name in fresh])
            for name in fresh:
                values = _container(files.axis_files, name, [f"axis={name}"]) if files.axis_files else None
                if not values:
                    raise AxisError(f"axis/{name}.yaml is empty", "see conf/axis/batch_size.yaml")
                self._axes[name] = axis_from(values, file=f"axis/{name}.yaml")
        return [self._axes[name] for name in names]

    def parse(self, arguments: Sequence[str]) -> Request:
        """Take apart the arguments of a multirun. Raises ConfigError, or AxisError for a sweep that cannot be one axis."""
        from ablate.planning.hydra_errors import refusal

        axes: tuple[str, ...] | None = None
        swept: dict[str, tuple[Any, ...]] = {}
        fixed: list[str] = []
        for text, override, values in parsed(arguments, refusal):
            key = override.key_or_group
            if key == "axis":
                chosen = values if values is not None else (override.value(),)
                axes = tuple(dict.fromkeys(str(name) for name in chosen if name is not None))
            elif values is None:
                fixed.append(text)
            elif key.partition(".")[0] in ("study", "tracker", "seed", "arm"):
                raise AxisError(
                    f"{text}: {key!r} is not part of what a run computes, so it cannot be an axis",
                    "study.seeds=5 runs seeds 0 to 4; every other key takes one value",
                )
            elif key in config_loader().list_groups(""):
                raise AxisError(
                    f"{text}: a choice of {key!r} sets many keys, so a sweep over it would not vary one variable",
                    f"sweep one key, such as {key}.name=..., or write conf/axis/<name>.yaml that declares its `keys`",
                )
            else:
                swept[key] = values
        return Request(axes=axes, swept=swept, fixed=tuple(fixed))

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        from hydra import compose
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError

        from ablate.planning.hydra_errors import refusal

        try:
            return compose(self.config_name, overrides=[*self.always, *overrides])
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            raise refusal(error, overrides) from None


def parsed(
    arguments: Sequence[str], refusal: Callable[[Exception, Sequence[str]], AblateError]
) -> Iterator[tuple[str, Any, tuple[Any, ...] | None]]:
    """Yield each argument of a multirun with Hydra's reading of it, and the values of its sweep; None for a single value.

    refusal: makes an AblateError of Hydra's error and the argument.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=config_loader())
    for text in arguments:
        try:
            override = parser.parse_override(text)
            values = _levels(override)
        except HydraException as error:
            raise refusal(error, [text]) from None
        yield text, override, values


def _is_leaf(key: str, value: Any) -> bool:
    """Whether Hydra would only set that key: no choice of a group, no mapping, nothing to interpolate, no open group."""
    if "." not in key or key.startswith(OPEN):
        return False
    items = value if isinstance(value, list | tuple) else [value]
    return all(item is None or (isinstance(item, bool | int | float | str) and "$" not in str(item)) for item in items)


def _levels(override: Any) -> tuple[Any, ...] | None:
    """The values of a sweep as plain values; None for a single value."""
    if not override.is_sweep_override():
        return None
    if not override.is_discrete_sweep():
        raise AxisError(f"{override.input_line}: an interval has no levels", f"{override.key_or_group}=0.1,0.2,0.3")
    return tuple(_unquoted(value) for value in override.sweep_iterator())


def _unquoted(value: Any) -> Any:
    """A value of Hydra's grammar as a plain one; a list or a mapping may hold quoted text."""
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    if isinstance(value, dict):
        return {_unquoted(key): _unquoted(item) for key, item in value.items()}
    return getattr(value, "text", value)


def composer_of(hydra: Any) -> Composer:
    """The Composer of a Hydra application that runs. hydra: the `hydra` node of its config."""
    always = [text for text in hydra.overrides.hydra if text.startswith("hydra.searchpath")]
    return Composer(config_name=hydra.job.config_name, always=always)


def config_loader() -> Any:
    """The loader of the Hydra application that runs."""
    from hydra.core.global_hydra import GlobalHydra

    return GlobalHydra.instance().config_loader()


def plain(config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """A composed config as plain values, less Hydra's node and the axis file; cross-field checks made."""
    keys = [str(key) for key in config if key not in ("hydra", "axis", "axis_files")]
    values = {key: _container(config, key, overrides) for key in keys}
    make_config(values)
    return values


def _container(config: DictConfig, key: str, overrides: Sequence[str]) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        node = config[key]
        if not OmegaConf.is_config(node):
            return node
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{' '.join(overrides) or key}: {str(error).splitlines()[0]}") from None


OPEN = ("task.options.", "model.config_overrides.")
"""Groups that take keys which no schema knows."""


def override_text(key: str, value: Any) -> str:
    """`key=value` in Hydra's grammar; what parses as something else is quoted."""
    return with_open_key(f"{key}={_text(value)}")


def with_open_key(text: str) -> str:
    """The override, such that Hydra takes it whether an open group has the key already or not.

    Several trackers, `tracker=[wandb,mlflow]`, become one name: of several files of a group Hydra lets the last one win.
    """
    if text.startswith("tracker=[") and text.endswith("]"):
        return "tracker.name=" + "+".join(name.strip() for name in text[len("tracker=[") : -1].split(","))
    return f"++{text}" if text.startswith(OPEN) else text


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(item) for item in value) + "]"
    if isinstance(value, str):
        # A backslash stands for itself in Hydra's quotes, except in front of a quote.
        return "'" + value.replace("\\'", "\\\\'").replace("'", "\\'") + "'"
    return repr(value)

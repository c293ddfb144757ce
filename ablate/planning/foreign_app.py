"""The Hydra door for an app that is not ours: its own config, composed and resolved, with no schema but its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ablate.config.flatten import leaves
from ablate.errors import AblateError, AxisError, ConfigError, nearest
from ablate.planning.compose import Request

_OF_THE_RUN = re.compile(r"\$\{(hydra|now):")
"""Interpolations that no two runs resolve alike; they are kept as they are written."""


class AppComposer:
    """Composes the app's config while Hydra is initialised. always: overrides that every composition gets."""

    def __init__(self, config_name: str | None, always: Sequence[str] = ()) -> None:
        self._config_name, self._always = config_name, tuple(always)

    def compose(self, overrides: Sequence[str] = ()) -> dict[str, Any]:
        """The config as plain values, less Hydra's own part. Raises ConfigError."""
        from hydra import compose

        config = self._asked(lambda: compose(self._config_name, overrides=[*self._always, *overrides]), overrides)
        found = _plain(config)
        assert isinstance(found, dict)
        return {key: value for key, value in found.items() if key != "hydra"}

    def parse(self, arguments: Sequence[str], *, seed_key: str) -> Request:
        """Take apart the arguments of a multirun. Raises ConfigError, or AxisError for a sweep that cannot be an axis."""
        from hydra.core.global_hydra import GlobalHydra
        from hydra.core.override_parser.overrides_parser import OverridesParser

        loader = GlobalHydra.instance().config_loader()
        parser = OverridesParser.create(config_loader=loader)
        swept: dict[str, tuple[Any, ...]] = {}
        fixed: list[str] = []
        for text in arguments:
            override = self._asked(lambda text=text: parser.parse_override(text), [text])  # type: ignore[misc]
            if not override.is_sweep_override():
                if override.key_or_group == seed_key:
                    raise ConfigError(
                        f"{text}: the study sets {seed_key} itself, once per seed",
                        "leave it out; hydra.sweeper.seeds=5",
                    )
                fixed.append(text)
                continue
            key = override.key_or_group
            if key == seed_key:
                raise AxisError(
                    f"{text}: the seed is what every arm is repeated over, so it cannot be an axis",
                    "hydra.sweeper.seeds=5",
                )
            if loader.get_group_options(key):
                raise AxisError(
                    f"{text}: a choice of {key!r} sets many keys, so a sweep over it would not vary one variable",
                    f"sweep one key of it: {key}.<key>=...; {key}=<one of them> chooses it for every arm",
                )
            if override.is_add() or override.is_delete():
                raise AxisError(
                    f"{text}: the baseline has no {key!r} to compare with",
                    f"give it one in the app's config, then {key}=...",
                )
            if not override.is_discrete_sweep():
                raise AxisError(f"{text}: an interval has no levels", f"{key}=0.1,0.2,0.3")
            swept[key] = tuple(getattr(value, "text", value) for value in override.sweep_iterator())
        return Request(swept=swept, fixed=tuple(fixed))

    def known_keys(self) -> list[str]:
        """Return every key of the config without overrides."""
        return sorted(leaves(self.compose()))

    def _asked(self, ask: Callable[[], Any], typed: Sequence[str]) -> Any:
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        try:
            return ask()
        except (HydraException, OmegaConfBaseException) as error:
            raise self._refusal(error, typed) from None

    def _refusal(self, error: Exception, typed: Sequence[str]) -> AblateError:
        chain: list[str] = []
        link: BaseException | None = error
        while link is not None:
            chain += [line.strip() for line in str(link).splitlines() if line.strip()]
            link = link.__cause__
        said = " ".join(chain)
        unknown = re.search(r"Could not override '(.+?)'", said)
        if unknown is None or not typed:
            return ConfigError(f"{' '.join(typed) or 'the config'}: {chain[0] if chain else type(error).__name__}")
        key = unknown[1]
        quoted = next((text for text in typed if text.lstrip("+~").startswith(key)), key)
        return ConfigError(f"{quoted}: the app's config has no key {key!r}", nearest(key, self.known_keys()))


def _plain(node: Any) -> Any:
    """Plain values; an interpolation that cannot be resolved here is kept as it is written, and so is what is missing."""
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

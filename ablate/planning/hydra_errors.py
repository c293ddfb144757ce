"""Translate the errors of Hydra and OmegaConf: what was expected, what it got, and what to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.errors import MissingConfigException

from ablate.config import schema
from ablate.config.flatten import leaves
from ablate.errors import AblateError, AxisError, ConfigError, nearest

GROUPS = ("axis", "data", "debug", "eval", "model", "optim", "study", "task", "tracker", "train")

ENGINES = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""Launchers of others, and the extra that installs each."""


def refusal(error: Exception, overrides: Iterable[str]) -> AblateError:
    """Return the same refusal as an AblateError. overrides: those of the command."""
    chain = _chain(error)
    text = "\n".join(str(link) for link in chain)
    typed = list(overrides)
    if isinstance(error, MissingConfigException):
        return _missing_file(error, typed)
    for reading in (_sweep_without_m, _no_file_name, _unknown_key, _wrong_type, _bad_file, _bad_override):
        found = reading(text, typed)
        if found is not None:
            return found
    return ConfigError(f"{' '.join(typed)}: {_first_line(text)}" if typed else _first_line(text))


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "the config cannot be composed")


def _sweep_without_m(text: str, typed: list[str]) -> AblateError | None:
    found = re.search(r"Ambiguous value for argument '(.+)'", text) or re.search(
        r"Sweep parameters '(.+)' requires", text
    )
    if found is None:
        return None
    return ConfigError(f"{found[1]}: several values make a study, and a study needs -m", f"ablate -m {_quoted(typed)}")


def is_refusal(error: Exception) -> bool:
    """Return False for a ValueError that is a defect, not Hydra's way of refusing an argument."""
    return type(error) is not ValueError or str(error).startswith((_NO_NAME, "Only one of --run", "The --resolve"))


_NO_NAME = "Config group override must be a string or a list"


def _no_file_name(text: str, typed: list[str]) -> AblateError | None:
    if _NO_NAME not in text:
        return None
    return ConfigError(
        f"{_quoted(typed)}: a group takes the name of one of its files", "ablate --hydra-help lists them"
    )


def _missing_file(error: MissingConfigException, typed: list[str]) -> AblateError:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    known = [str(option) for option in error.options or ()]
    parent = re.search(r"In '(.+?)': Could not", str(error))
    where = f"{group}={name}" if f"{group}={name}" in typed or parent is None else f"{parent[1]}.yaml, {group}: {name}"
    if group == "axis":
        return AxisError(f"{where}: there is no axis {name!r}", nearest(name, known))
    if group == "hydra/launcher" and name in ENGINES:
        return ConfigError(
            f"{where}: Hydra's plugin for it is not installed", f"pip install 'torch-ablate[{ENGINES[name]}]'"
        )
    return ConfigError(f"{where}: there is no file {name!r} in the group {group!r}", nearest(name, known))


def _unknown_key(text: str, typed: list[str]) -> AblateError | None:
    found = re.search(r"Could not override '(.+?)'", text) or re.search(r"Could not delete from config. '(.+?)'", text)
    if found is None:
        return None
    key = found[1]
    if key.startswith("hydra."):
        return ConfigError(f"{key}: Hydra has no such key", "ablate --cfg hydra lists them")
    argument = next((item for item in typed if item.lstrip("+~").startswith(key)), key)
    if key.startswith("model.config_overrides."):
        return ConfigError(
            f"{argument}: model.config_overrides holds only what was added to it", f"+{argument.lstrip('+')}"
        )
    return ConfigError(f"{argument}: there is no key {key!r}", nearest(key, known_keys()))


def known_keys() -> list[str]:
    """Every key that can be typed: leaves and groups."""
    return sorted({*leaves(asdict(schema.Config())), *GROUPS})


def _wrong_type(text: str, _typed: list[str]) -> AblateError | None:
    override = re.search(r"Error merging override (.+)", text)
    if override is not None:
        key, _equals, value = override[1].lstrip("+~").partition("=")
        if override[1].startswith("~"):
            return ConfigError(
                f"{override[1]}: a key of the config cannot be removed", f"{key}=null, where null is allowed"
            )
        expected = expected_type(key)
        return ConfigError(f"{override[1]}: {value} is {_kind(value)}, expected {expected}", f"{key}=<{expected}>")
    file = re.search(r"In '(.+?)': \w+ raised while", text)
    key_in_file = re.search(r"full_key: (\S+)", text)
    found = re.search(r"Value '(.*?)' of type|(Incompatible value 'None'|is not Optional)|Cannot assign (\w+)", text)
    if file is None or key_in_file is None or found is None:
        return None
    value = "null" if found[2] else found[1] or found[3]
    expected = expected_type(key_in_file[1])
    return ConfigError(
        f"{file[1]}.yaml, {key_in_file[1]}: {value} is {_kind(value)}, expected {expected}",
        f"{key_in_file[1].rpartition('.')[2]}: <{expected}>",
    )


def _kind(text: str) -> str:
    if text == "null":
        return "no value"
    if re.fullmatch(r"true|false", text, re.IGNORECASE):
        return "true or false"
    if re.fullmatch(r"[+-]?\d+", text):
        return "a whole number"
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?", text):
        return "a fraction"
    return "a list" if text.startswith("[") else "a group" if text.startswith("{") else "text"


def expected_type(key: str) -> str:
    """The type of a key in words: `a whole number`, `a number or null`."""
    kind: Any = schema.Config
    for part in key.split("."):
        hints = get_type_hints(kind) if isinstance(kind, type) else {}
        if part not in hints:
            return "another type"
        kind = hints[part]
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    options = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    return " or ".join(
        names.get(option) or (_list_of(option) if get_origin(option) is list else "a group of keys")
        for option in options
    )


def _list_of(kind: Any) -> str:
    return {int: "a list of whole numbers", str: "a list of texts"}.get(get_args(kind)[0], "a list")


def _bad_file(text: str, _typed: list[str]) -> AblateError | None:
    found = re.search(r"In '(.+?)': \w+ raised while composing config:\n(.+)", text)
    if found is not None:
        key = re.search(r"Key '(.+?)' not in '(\w+)'", text)
        if key is not None:
            full = re.search(r"full_key: (\S+)", text)
            name = full[1] if full else key[1]
            return ConfigError(f"{found[1]}.yaml: there is no key {name!r}", nearest(name, known_keys()))
        return ConfigError(f"{found[1]}.yaml: {found[2]}")
    mark = re.search(r'in "(.+?\.ya?ml)", line (\d+)', text)
    if mark is not None:
        return ConfigError(f"{mark[1]}, line {mark[2]} is not YAML: {_first_line(text)}")
    return None


def _bad_override(text: str, typed: list[str]) -> AblateError | None:
    if not re.search(r"LexerNoViableAlt|mismatched input|no viable alternative|missing EQUAL|token recognition", text):
        return None
    first = _first_line(text).removesuffix(".")
    return ConfigError(
        f"{_quoted(typed)}: not in the grammar of overrides ({first})",
        "key=value, and quotes around a value with other signs: data.path=\"'my file.csv'\"",
    )


def _quoted(typed: Iterable[str]) -> str:
    return shlex.join(typed)

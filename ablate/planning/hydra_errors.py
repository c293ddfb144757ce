"""Translate the errors of Hydra and OmegaConf: what was expected, what it got, and what to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.errors import MissingConfigException

from ablate.config import schema
from ablate.config.flatten import leaves
from ablate.errors import AblateError, AxisError, ConfigError, nearest

GROUPS = ("axis", "data", "debug", "eval", "model", "optim", "study", "task", "tracker", "train")

_EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""Launchers of others, and the extra that installs each."""

_NO_NAME = "Config group override must be a string or a list"


def refusal(error: Exception, overrides: Iterable[str]) -> AblateError:
    """Return the same refusal as an AblateError. overrides: those of the command."""
    typed = list(overrides)
    if isinstance(error, MissingConfigException):
        return _missing_file(error, typed)
    text = error_text(error)
    for pattern, make in _READINGS:
        found = re.search(pattern, text)
        translated = make(found, text, typed) if found is not None else None
        if translated is not None:
            return translated
    return ConfigError(f"{' '.join(typed)}: {_first_line(text)}" if typed else _first_line(text))


def error_text(error: BaseException) -> str:
    """Return the message of an error and those of its causes."""
    return f"{error}\n{error_text(error.__cause__)}" if error.__cause__ is not None else str(error)


def is_refusal(error: Exception) -> bool:
    """Return False for a ValueError that is a defect, not Hydra's way of refusing an argument."""
    return type(error) is not ValueError or str(error).startswith((_NO_NAME, "Only one of --run", "The --resolve"))


def known_keys() -> list[str]:
    """Return every key that can be typed: leaves and groups."""
    return sorted({*leaves(asdict(schema.Config())), *GROUPS})


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "the config cannot be composed")


def _missing_file(error: MissingConfigException, typed: list[str]) -> AblateError:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    known = [str(option) for option in error.options or ()]
    parent = re.search(r"In '(.+?)': Could not", str(error))
    where = f"{group}={name}" if f"{group}={name}" in typed or parent is None else f"{parent[1]}.yaml, {group}: {name}"
    if group == "axis":
        return AxisError(f"{where}: there is no axis {name!r}", nearest(name, known))
    if group == "hydra/launcher" and name in _EXTRAS:
        return ConfigError(
            f"{where}: Hydra's plugin for it is not installed", f"pip install 'torch-ablate[{_EXTRAS[name]}]'"
        )
    return ConfigError(f"{where}: there is no file {name!r} in the group {group!r}", nearest(name, known))


def _sweep_without_m(found: re.Match[str], _text: str, typed: list[str]) -> AblateError:
    problem = f"{found[1] or found[2]}: several values make a study, and a study needs -m"
    return ConfigError(problem, f"ablate -m {shlex.join(typed)}")


def _no_file_name(_found: re.Match[str], _text: str, typed: list[str]) -> AblateError:
    return ConfigError(
        f"{shlex.join(typed)}: a group takes the name of one of its files", "ablate --hydra-help lists them"
    )


def _unknown_key(found: re.Match[str], _text: str, typed: list[str]) -> AblateError:
    key = found[1] or found[2]
    if key.startswith("hydra."):
        return ConfigError(f"{key}: Hydra has no such key", "ablate --cfg hydra lists them")
    argument = next((item for item in typed if item.lstrip("+~").startswith(key)), key)
    if key == "model.config_overrides" or key.startswith("model.config_overrides."):
        return ConfigError(
            f"{argument}: model.config_overrides holds only what was added to it", f"+{argument.lstrip('+')}"
        )
    return ConfigError(f"{argument}: there is no key {key!r}", nearest(key, known_keys()))


def _wrong_type(found: re.Match[str], _text: str, _typed: list[str]) -> AblateError:
    override = found[1]
    key, _equals, value = override.lstrip("+~").partition("=")
    if override.startswith("~"):
        return ConfigError(f"{override}: a key of the config cannot be removed", f"{key}=null, where null is allowed")
    expected = _expected_type(key)
    return ConfigError(f"{override}: {value} is {_kind(value)}, expected {expected}", f"{key}=<{expected}>")


def _wrong_type_in_file(found: re.Match[str], text: str, _typed: list[str]) -> AblateError | None:
    full_key = re.search(r"full_key: (\S+)", text)
    wrong = re.search(r"Value '(.*?)' of type|(Incompatible value 'None'|is not Optional)|Cannot assign (\w+)", text)
    if full_key is None or wrong is None:
        return None
    key, value = full_key[1], "null" if wrong[2] else wrong[1] or wrong[3]
    expected = _expected_type(key)
    problem = f"{found[1]}.yaml, {key}: {value} is {_kind(value)}, expected {expected}"
    return ConfigError(problem, f"{key.rpartition('.')[2]}: <{expected}>")


def _bad_file(found: re.Match[str], text: str, _typed: list[str]) -> AblateError:
    key = re.search(r"Key '(.+?)' not in '(\w+)'", text)
    if key is None:
        return ConfigError(f"{found[1]}.yaml: {found[2]}")
    full_key = re.search(r"full_key: (\S+)", text)
    name = full_key[1] if full_key else key[1]
    return ConfigError(f"{found[1]}.yaml: there is no key {name!r}", nearest(name, known_keys()))


def _not_yaml(found: re.Match[str], text: str, _typed: list[str]) -> AblateError:
    return ConfigError(f"{found[1]}, line {found[2]} is not YAML: {_first_line(text)}")


def _bad_override(_found: re.Match[str], text: str, typed: list[str]) -> AblateError:
    return ConfigError(
        f"{shlex.join(typed)}: not in the grammar of overrides ({_first_line(text).removesuffix('.')})",
        "key=value, and quotes around a value with other signs: data.path=\"'my file.csv'\"",
    )


_READINGS: tuple[tuple[str, Callable[[re.Match[str], str, list[str]], AblateError | None]], ...] = (
    (r"Ambiguous value for argument '(.+)'|Sweep parameters '(.+)' requires", _sweep_without_m),
    (_NO_NAME, _no_file_name),
    (r"Could not override '(.+?)'|Could not delete from config. '(.+?)'", _unknown_key),
    (r"Error merging override (.+)", _wrong_type),
    (r"In '(.+?)': \w+ raised while", _wrong_type_in_file),
    (r"In '(.+?)': \w+ raised while composing config:\n(.+)", _bad_file),
    (r'in "(.+?\.ya?ml)", line (\d+)', _not_yaml),
    (r"LexerNoViableAlt|mismatched input|no viable alternative|missing EQUAL|token recognition", _bad_override),
)
"""Pattern in the text of Hydra's or OmegaConf's error -> its translation; None where it does not fit after all."""


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


_TYPES: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null",
    list[int]: "a list of whole numbers", list[str]: "a list of texts",
}  # fmt: skip


def _expected_type(key: str) -> str:
    """Return the type of a key in words: `a whole number`, `a number or null`."""
    kind: Any = schema.Config
    for part in key.split("."):
        hints = get_type_hints(kind) if isinstance(kind, type) else {}
        if part not in hints:
            return "another type"
        kind = hints[part]
    options = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    return " or ".join(_TYPES.get(option, "a group of keys") for option in options)

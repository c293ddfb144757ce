"""The settings in which arms differ, side by side, from the config that each run resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ablate.config.flatten import ABSENT, leaves
from ablate.design.axis import show
from ablate.errors import AblateError
from ablate.records.layout import RunDir
from ablate.report.markup import Markup, el
from ablate.report.view import ArmView, View
from ablate.serialization import read_yaml

_NOT_SETTINGS = ("seed", "arm")


def config_section(view: View, folder: Path) -> Markup | None:
    """A row per setting that is not the same in every arm; None where no arm has a config to read."""
    found = [(arm, config) for arm in view.arms if (config := _config(arm, view, folder)) is not None]
    if not found:
        return None
    rows = differing([config for _, config in found])
    same = len(set().union(*(config for _, config in found))) - len(rows)
    head = [el("th", "setting", scope="col"), *(el("th", arm.name, scope="col") for arm, _ in found)]
    return el(
        "section",
        el("h2", "What was set differently?"),
        el(
            "div",
            el("table", el("thead", el("tr", *head)), el("tbody", *(_row(*row) for row in rows)), class_="configs"),
            class_="wide",
            tabindex="0",
            role="region",
            aria_label="Settings that differ between arms",
        )
        if rows
        else el("p", "Nothing: all arms have the same settings."),
        el(
            "p",
            f"The other {same} settings are the same in every arm; each run's folder has all of them in config.yaml.",
            class_="key",
        ),
        id="configs",
    )


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(key, its value in each) of the keys whose type or value is not the same in all. configs: by dotted key."""
    keys = dict.fromkeys(key for config in configs for key in config)
    found = [(key, [config.get(key, ABSENT) for config in configs]) for key in keys]
    return [(key, [show(value) for value in values]) for key, values in found if len({_exact(v) for v in values}) > 1]


def _exact(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"


def _row(key: str, values: Sequence[str]) -> Markup:
    cells = [el("td", value, class_="moved" if value != values[0] else "muted") for value in values]
    return el("tr", el("th", el("code", key), scope="row"), *cells)


def _config(arm: ArmView, view: View, folder: Path) -> dict[str, Any] | None:
    """Of the arm's first run that has left one."""
    for reading in view.analysis.runs:
        if reading.arm != arm.name:
            continue
        try:
            read = read_yaml(RunDir(folder / reading.folder).config)
        except (AblateError, OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(read, Mapping):
            plain = leaves({str(key): value for key, value in read.items()})
            return {key: value for key, value in plain.items() if key not in _NOT_SETTINGS}
    return None

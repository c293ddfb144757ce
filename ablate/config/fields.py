"""Fields that carry their own check: the allowed values of a config key, or its range."""

from __future__ import annotations

from dataclasses import field, fields
from difflib import get_close_matches
from typing import Any

from ablate.errors import ConfigError


def choice(default: str | None, *options: str) -> Any:
    """A field that takes one of these values; None as well where that is its default."""
    return field(default=default, metadata={"options": options})


def number(
    default: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A field that takes a number in a range, which has a lower end; None as well where its annotation allows it."""
    return field(default=default, metadata={"range": (at_least, above, at_most, below)})


def check_fields(group: Any, name: str) -> None:
    """Check every field of a config group that carries a check. name: of the group. Raises ConfigError."""
    for item in fields(group):
        value, key = getattr(group, item.name), f"{name}.{item.name}" if name else item.name
        if value is None:
            continue
        if "options" in item.metadata:
            check_choice(key, value, item.metadata["options"])
        elif "range" in item.metadata:
            _check_range(key, value, *item.metadata["range"])


def check_choice(key: str, value: str, options: tuple[str, ...]) -> None:
    """Raise ConfigError for a value that is not one of the options."""
    if value not in options:
        nearest = (get_close_matches(value, options, n=1) or options)[0]
        raise ConfigError(f"{key}={value!r} is not one of {', '.join(options)}", f"{key}={nearest}")


def _check_range(
    key: str, value: float, at_least: float | None, above: float | None, at_most: float | None, below: float | None
) -> None:
    low = at_least if above is None else above
    assert low is not None
    inside = (value >= low if above is None else value > low) and (at_most is None or value <= at_most)
    if inside and (below is None or value < below):  # nan is refused as well
        return
    start = f"at least {low:g}" if above is None else f"above {low:g}"
    end = f" and below {below:g}" if below is not None else "" if at_most is None else f" and at most {at_most:g}"
    example = f"{low:g}" if above is None else f"<a number above {low:g}>"
    raise ConfigError(f"{key}={value!r} is out of range: expected {start}{end}", f"{key}={example}")

"""Values that the main function of an external app returned: one number, or several by name, in `returned.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.errors import ConfigError, RecordError, StudyError, nearest
from ablate.records.layout import RunDir
from ablate.serialization import read_json, write_json

BARE = "returned"
"""Name of the value where main returned a number instead of a dict."""

FIX = "return a number, or a dict of numbers, from the function under @hydra.main"


def numbers_of(returned: Any) -> dict[str, float]:
    """Return {name: value} of a number or a dict, without its other values. Raises StudyError where no number is left."""
    if isinstance(returned, Mapping):
        values = {str(name): _number(value) for name, value in returned.items()}
        numbers = {name: value for name, value in values.items() if value is not None}
        if numbers:
            return numbers
        what = f"a dict without a number ({', '.join(values)})" if values else "an empty dict"
        raise StudyError(f"main returned {what}, and a study compares numbers", FIX)
    value = _number(returned)
    if value is None:
        what = "None" if returned is None else f"{type(returned).__name__} {_short(returned)}"
        raise StudyError(f"main returned {what}, and a study compares numbers", FIX)
    return {BARE: value}


def _number(value: Any) -> float | None:
    """Python's numbers, and scalars of NumPy and PyTorch; None for anything else, booleans included."""
    if not isinstance(value, int | float) and getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def all_finite(values: Mapping[str, float]) -> bool:
    """Return True where every value is a finite number."""
    return all(math.isfinite(value) for value in values.values())


def write_returned(run: RunDir, values: Mapping[str, float]) -> None:
    """Write `returned.json`, whole or not at all."""
    write_json(run.returned, dict(values), hide=True)


def read_returned(run: RunDir) -> dict[str, float] | None:
    """Read `returned.json`; None where the run has returned nothing. Raises RecordError for an unreadable file."""
    if not run.returned.exists():
        return None
    try:
        return {str(name): float(value) for name, value in read_json(run.returned).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecordError(f"{run.returned} cannot be read: {error}", "remove that run's folder") from None


def choose_metric(name: str, names: Sequence[str]) -> str:
    """Return the name of the value to compare, of those that main returned. Raises ConfigError where it must be chosen."""
    if name in names or (not name and len(names) == 1):
        return name or names[0]
    if not name:
        raise ConfigError(
            f"main returned {len(names)} values ({', '.join(names)}), and a study compares one",
            f"hydra.sweeper.metric={names[0]}; the runs that are done are kept",
        )
    raise ConfigError(
        f"hydra.sweeper.metric={name}: main returned no value of that name; {nearest(name, names)}",
        f"hydra.sweeper.metric={names[0]}; the runs that are done are kept",
    )

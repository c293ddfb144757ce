"""An outcome of the user's own: `study.metric=my_module:my_outcome`, a function in the working folder that reads a Record.

from ablate.metrics.metric import Record
from ablate.metrics.registry import register


@register(unit="nats", lower_is_better=True, definition="Lowest training loss of any step.")
def lowest_loss(record: Record) -> float:
    return float(record.trace["loss"].min())
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ablate.errors import AblateError, ConfigError, nearest
from ablate.metrics.metric import MetricInfo, Outcome, Record

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SIDES = {"True": True, "False": False, "None": None}

Function = TypeVar("Function", bound=Callable[[Record], float | None])


def register(
    *, unit: str = "", lower_is_better: bool | None = None, definition: str = ""
) -> Callable[[Function], Function]:
    """Say what a function's value is: its unit, its better side (None for none) and one sentence that defines it.

    The function is called with a `Record` and returns a number, or None where the run has none. Without this it has no unit, no
    better side, and its docstring's first line as definition.
    """

    def mark(function: Function) -> Function:
        vars(function).update(unit=unit, lower_is_better=lower_is_better, definition=definition)
        return function

    return mark


def own_outcome(name: str, *, key: str) -> Outcome:
    """The outcome `module:function`. key: what it was typed for. Raises ConfigError where there is none, or it fails."""
    typed = f"{key}={name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{key}={name!r} is no <module>:<function>", f"{key}=my_outcomes:my_outcome, in my_outcomes.py"
        )
    module_name, _, function_name = name.partition(":")
    module = _module(module_name, function_name, typed)
    function = getattr(module, function_name, None)
    if not callable(function):
        found = {
            key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module_name
        }
        fix = nearest(function_name, found) if found else f"def {function_name}(record): return ..."
        raise ConfigError(f"{typed}: {module.__file__} has no function {function_name!r}", fix)
    return Outcome(_info(name, function, typed), lambda record: _value(function, record, typed), "any")


def _module(name: str, function: str, typed: str) -> ModuleType:
    """The module, imported from the working folder and from nowhere else: a study's plan.json names it, whoever wrote that."""
    here = Path.cwd()
    path = here.joinpath(*name.split("."))
    file = next((one for one in (path.with_suffix(".py"), path / "__init__.py") if one.is_file()), None)
    if file is None:
        known = [f"{one.stem}:{function}" for one in here.glob("*.py")]
        fix = nearest(f"{name}:{function}", known) if known else f"write {path.name}.py, or start ablate where it is"
        raise ConfigError(f"{typed}: there is no {path.relative_to(here)}.py in {here}", fix)
    inside = [folder for folder in file.parents if folder.is_relative_to(here) and (folder / "plan.json").exists()]
    if inside:
        raise ConfigError(
            f"{typed}: {file} lies in the study folder {inside[0]}, and nothing in a study folder is run",
            "keep it outside of the study, and start ablate where it is",
        )
    if str(here) not in sys.path:
        sys.path.insert(
            0, str(here)
        )  # as for `python -m`; it stays, because an outcome may import more when it is read
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"{typed}: importing {name} raises {_said(error)}") from error
    if module.__file__ is None or Path(module.__file__).resolve() != file.resolve():
        raise ConfigError(
            f"{typed}: the name {name!r} is taken by {module.__file__ or 'another module'}", "rename the file"
        )
    return module


def _info(name: str, function: Callable[..., Any], typed: str) -> MetricInfo:
    unit, side = (getattr(function, what, default) for what, default in (("unit", ""), ("lower_is_better", None)))
    if side not in (True, False, None) or isinstance(side, float) or not isinstance(unit, str):
        raise ConfigError(
            f"{typed}: unit={unit!r}, lower_is_better={side!r}; expected a text, and one of {', '.join(_SIDES)}",
            "@register(unit='nats', lower_is_better=True, definition='...')",
        )
    told = (inspect.getdoc(function) or "").partition("\n")[0]
    definition = str(getattr(function, "definition", "") or told or f"As {name} reads it.").rstrip(".") + "."
    return MetricInfo(
        name=name, unit=unit, definition=definition, lower_is_better=side, cadence="whatever the function reads"
    )


def _value(function: Callable[[Record], Any], record: Record, typed: str) -> float | None:
    try:
        value = function(record)
    except AblateError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{typed}: raises {_said(error)}", "mend it; the runs are kept: ablate report <study>"
        ) from error
    if value is not None and (not isinstance(value, Real) or isinstance(value, complex)):
        raise ConfigError(f"{typed} returned {value!r}, expected a number or None", "return float(...)")
    return None if value is None else float(value)


def _said(error: Exception) -> str:
    """`KeyError: 'x' at my_outcomes.py:12`: the line of the user's that raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    outside = [frame for frame in frames if not frame.filename.startswith("<")]
    text = str(error).strip().splitlines()
    where = f" at {Path(outside[-1].filename).name}:{outside[-1].lineno}" if outside else ""
    return (
        f"{type(error).__name__}{': ' + text[0] if text else ''}{where if not isinstance(error, SyntaxError) else ''}"
    )

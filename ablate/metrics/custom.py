"""A custom metric: `study.metric=my_module:my_metric`, a function in the working directory that reads a Record.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ablate.errors import AblateError, ConfigError, nearest
from ablate.metrics.metric import Metric, MetricInfo, Record

EVERY = "*"
"""Stands for every custom metric in `custom_metrics`."""

NOT_RUN = "Not computed: it is a function of the user, and a reader runs it with --run-custom-metric only."
"""Definition of a custom metric that was not allowed to run."""

_allowed: ContextVar[frozenset[str]] = ContextVar("names of the custom metrics that may run", default=frozenset())

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

Function = TypeVar("Function", bound=Callable[[Record], float | None])


def register(
    *, unit: str = "", lower_is_better: bool | None = None, definition: str = ""
) -> Callable[[Function], Function]:
    """Declare the unit of a metric function, its better side (None for none) and one sentence that defines it.

    The function is called with a `Record` and returns a number, or None where the run has none. Without this decorator it has
    no unit, no better side, and the first line of its docstring as definition.
    """

    def mark(function: Function) -> Function:
        vars(function).update(unit=unit, lower_is_better=lower_is_better, definition=definition)
        return function

    return mark


@contextmanager
def custom_metrics(*names: str) -> Iterator[None]:
    """Let these custom metrics run inside the block, which their user has typed; `EVERY` stands for all.

    Without it none runs: the name may come from the plan.json of a folder that was received.
    """
    before = _allowed.set(_allowed.get() | frozenset(names))
    try:
        yield
    finally:
        _allowed.reset(before)


def custom_metric(name: str, *, key: str) -> Metric:
    """Return the metric `module:function`; one without a value unless `custom_metrics` lets it run.

    key: config key of the name. Raises ConfigError where it is missing or fails.
    """
    setting = f"{key}={name}"
    if _allowed.get().isdisjoint((name, EVERY)):
        info = MetricInfo(name=name, unit="", definition=NOT_RUN, lower_is_better=None)
        return Metric(info, lambda _: None, "any")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{key}={name!r}: expected <module>:<function>", f"{key}=my_metrics:my_metric, in my_metrics.py"
        )
    module_name, _, function_name = name.partition(":")
    module = _module(module_name, function_name, setting)
    function = getattr(module, function_name, None)
    if not callable(function):
        functions = {
            key for key, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module_name
        }
        fix = nearest(function_name, functions) if functions else f"def {function_name}(record): return ..."
        raise ConfigError(f"{setting}: {module.__file__} has no function {function_name!r}", fix)
    return Metric(_info(name, function, setting), lambda record: _value(function, record, setting), "any")


def _module(name: str, function: str, setting: str) -> ModuleType:
    """The module, imported from the working directory and from nowhere else: a plan.json of unknown origin may name it."""
    here = Path.cwd()
    path = here.joinpath(*name.split("."))
    file = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    if file is None:
        known = [f"{file.stem}:{function}" for file in here.glob("*.py")]
        fix = (
            nearest(f"{name}:{function}", known) if known else f"write {path.name}.py, or start ablate in its directory"
        )
        raise ConfigError(f"{setting}: there is no {path.relative_to(here)}.py in {here}", fix)
    inside = [folder for folder in file.parents if folder.is_relative_to(here) and (folder / "plan.json").exists()]
    if inside:
        raise ConfigError(
            f"{setting}: {file} is inside the study folder {inside[0]}, and nothing in a study folder is executed",
            "move it out of the study, and start ablate in its directory",
        )
    if str(here) not in sys.path:
        # Last, so that no file there replaces a library; it stays, because a metric may import more when it is read.
        sys.path.append(str(here))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise ConfigError(f"{setting}: importing {name} raises {_where(error)}") from error
    if module.__file__ is None or Path(module.__file__).resolve() != file.resolve():
        raise ConfigError(
            f"{setting}: the name {name!r} is taken by {module.__file__ or 'another module'}", "rename the file"
        )
    return module


def _info(name: str, function: Callable[..., Any], setting: str) -> MetricInfo:
    unit, side = (getattr(function, what, default) for what, default in (("unit", ""), ("lower_is_better", None)))
    if side not in (True, False, None) or isinstance(side, float) or not isinstance(unit, str):
        raise ConfigError(
            f"{setting}: unit={unit!r}, lower_is_better={side!r}; expected a text, and one of True, False, None",
            "@register(unit='nats', lower_is_better=True, definition='...')",
        )
    docstring = (inspect.getdoc(function) or "").partition("\n")[0]
    definition = str(getattr(function, "definition", "") or docstring or f"As {name} reads it.").rstrip(".") + "."
    return MetricInfo(
        name=name, unit=unit, definition=definition, lower_is_better=side, cadence="whatever the function reads"
    )


def _value(function: Callable[[Record], Any], record: Record, setting: str) -> float | None:
    try:
        value = function(record)
    except AblateError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{setting}: raises {_where(error)}", "fix the function; the runs are kept: ablate report <study>"
        ) from error
    if value is not None and (not isinstance(value, Real) or isinstance(value, complex)):
        raise ConfigError(f"{setting} returned {value!r}, expected a number or None", "return float(...)")
    return None if value is None else float(value)


def _where(error: Exception) -> str:
    """`KeyError: 'x' at my_metrics.py:12`: the user's line that raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    outside = [frame for frame in frames if not frame.filename.startswith("<")]
    text = str(error).strip().splitlines()
    location = f" at {Path(outside[-1].filename).name}:{outside[-1].lineno}" if outside else ""
    return f"{type(error).__name__}{': ' + text[0] if text else ''}{location if not isinstance(error, SyntaxError) else ''}"

"""A task of the user's: `task.name=custom task.entry_point=<module>:<function>`, found in the working folder or installed.

The function is called with the run's Config and RandomStreams and returns an `ablate.Task`. Beside it may stand
`facts(config) -> {"num_train": ..., "num_eval": ..., "data": ...}`, which tells a plan the sizes without building anything, and
by any text, such as a file's hash, which data they are.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ablate.config.schema import Config
from ablate.data.datasets import DataFacts
from ablate.errors import AblateError, ConfigError, nearest
from ablate.records.source_code import find_module

if TYPE_CHECKING:
    from ablate.tasks.task import Task
    from ablate.training.random_streams import RandomStreams


def own_task(config: Config, streams: RandomStreams) -> Task:
    """Call the user's function, its draws inside the `init` stream. Raises ConfigError where it cannot be had or fails."""
    from ablate.tasks.task import Task

    module, function = _found(config)
    with streams.scope("init"):
        task = _called(config, module, lambda: function(config, streams))
    if not isinstance(task, Task):
        kind = type(task).__name__
        raise ConfigError(
            f"{_typed(config)} returned {_a(kind)}, expected an ablate.Task", "return ablate.Task(model=...)"
        )
    if "data" in task.facts:
        return task
    told = _told(config, module)
    parts = [task.dataset, *([task.evaluation.dataset] if task.evaluation else [])]
    digest = told.data if told and told.data else content_digest(parts)
    return replace(task, facts={**task.facts, "data": {"source": digest}}) if digest else task


def own_facts(config: Config) -> DataFacts:
    """Sizes for a plan: from `facts(config)` of the task's module, or else from the task, which is built for them."""
    module, _ = _found(config)
    if (told := _told(config, module)) is not None:
        return told
    print(
        f"{_typed(config)} is built once for its sizes; facts(config) in {module.__name__} would save the time",
        file=sys.stderr,
        flush=True,
    )
    from ablate.training.random_streams import RandomStreams

    task = own_task(config, RandomStreams(seed=config.seed))
    num_eval = len(task.evaluation.dataset) if task.evaluation else 0
    return DataFacts(
        num_train=len(task.dataset),
        num_held_out=num_eval,
        num_eval=num_eval,
        num_classes=0,
        data=task.facts.get("data", {}).get("source", ""),
    )


def _found(config: Config) -> tuple[ModuleType, Callable[..., Any]]:
    """The module and the function that `task.entry_point` names."""
    assert config.task.entry_point is not None
    name, _, function = config.task.entry_point.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # Last, so that no file there replaces a library; it stays, because a task may import more while it runs.
        sys.path.append(here)
    if find_module(name) is None:
        known = {file.stem for file in Path.cwd().glob("*.py")} | {
            file.parent.name for file in Path.cwd().glob("*/__init__.py")
        }
        raise ConfigError(
            f"{_typed(config)}: there is no module {name!r} in {here}, and none is installed",
            _nearest_target(name, known, function)
            or f"write {name.replace('.', '/')}.py there, or start ablate where it is",
        )
    module = _called(config, None, lambda: importlib.import_module(name))
    found = getattr(module, function, None)
    if not callable(found):
        own = {
            key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == name
        }
        what = "has no function" if found is None else f"has {_a(type(found).__name__)} and no function called"
        fix = nearest(function, own - {"facts"}) if own else f"def {function}(config, streams): ..."
        raise ConfigError(f"{_typed(config)}: {module.__file__} {what} {function!r}", fix)
    return module, found


def _called(config: Config, module: ModuleType | None, call: Callable[[], Any], *, name: str = "") -> Any:
    """What the user's code gives; what it raises, as a ConfigError that says where. The traceback is in a run's log."""
    try:
        return call()
    except AblateError:
        raise
    except Exception as error:
        what = f"importing {_module(config)}" if module is None else name or "it"
        text = str(error).strip().splitlines()
        raise ConfigError(
            f"{_typed(config)}: {what} raises {type(error).__name__}{': ' + text[0] if text else ''}{_where(error)}",
            "called as function(config, streams), and returns an ablate.Task" if isinstance(error, TypeError) else None,
        ) from error


def _where(error: Exception) -> str:
    """The line of the user's that raised; a SyntaxError names its own, and a call that does not fit has none."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    if isinstance(error, SyntaxError) or not frames:
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"


def _told(config: Config, module: ModuleType) -> DataFacts | None:
    """What `facts` of the module says; None where there is none."""
    facts = getattr(module, "facts", None)
    if not callable(facts):
        return None
    return _checked(config, _called(config, module, lambda: facts(config), name="facts"))


def _checked(config: Config, told: Any) -> DataFacts:
    known = {field.name for field in fields(DataFacts)}
    fix = 'return {"num_train": len(train), "num_eval": len(held_out)}'
    if isinstance(told, DataFacts):
        return told
    if not isinstance(told, Mapping):
        raise ConfigError(f"{_typed(config)}: facts returned {_a(type(told).__name__)}, expected a mapping", fix)
    for key in told:
        if key not in known:
            raise ConfigError(f"{_typed(config)}: facts has no {key!r}", nearest(str(key), known))
    for key in ("num_train", "num_eval"):
        if type(told.get(key)) is not int or told[key] < (key == "num_train"):
            raise ConfigError(
                f"{_typed(config)}: facts gives {key}={told.get(key)!r}, expected a number of samples", fix
            )
    return DataFacts(**{"num_held_out": told["num_eval"], "num_classes": 0, **told, "data": str(told.get("data", ""))})


def _typed(config: Config) -> str:
    return f"task.entry_point={config.task.entry_point}"


def _module(config: Config) -> str:
    return str(config.task.entry_point).partition(":")[0]


def _nearest_target(name: str, known: set[str], function: str) -> str | None:
    said = nearest(name, known) if known else ""
    return f"{said} as in task.entry_point=<module>:{function}" if said.startswith("did you mean") else None


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0].lower() in "aeiou" else f"a {kind}"


class _UnknownError(Exception):
    """A value whose bytes say nothing of what it holds."""


def content_digest(data_sets: Iterable[Any]) -> str:
    """Return the digest of data sets in memory; '' where one is not made of tensors, arrays, numbers and texts.

    A data set that reads or draws its examples on demand is not hashed: its task states what it reads.
    """
    total = sha256()
    try:
        for data_set in data_sets:
            _hash_into(total, data_set)
    except _UnknownError:
        return ""
    return total.hexdigest()


def _hash_into(total: Any, value: Any) -> None:
    import torch
    from torch.utils.data import ConcatDataset, Subset, TensorDataset

    from ablate.training.fingerprint import weights_hash

    total.update(f"{type(value).__name__}(".encode())
    if isinstance(value, torch.Tensor):
        total.update(weights_hash([("", value)]).encode())
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        total.update(f"{value.dtype.str}{value.shape}".encode())
        total.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, TensorDataset):
        _hash_into(total, value.tensors)
    elif isinstance(value, Subset):
        _hash_into(total, [value.dataset, list(value.indices)])
    elif isinstance(value, ConcatDataset):
        _hash_into(total, value.datasets)
    elif isinstance(value, list | tuple):
        for item in value:
            _hash_into(total, item)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _hash_into(total, (str(key), value[key]))
    elif isinstance(value, str | int | float | bool | bytes | np.generic) or value is None:
        total.update(repr(value).encode())
    else:
        raise _UnknownError
    total.update(b")")

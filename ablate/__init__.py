"""Which single variable of a training run caused a difference, how large the effect is, and how sure to be.

Names are loaded when they are first used: `import ablate` costs the standard library, `from ablate import train` costs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.config import Config as Config
    from ablate.loop.evaluate import Evaluation as Evaluation
    from ablate.loop.grad_norm import GradNorms as GradNorms
    from ablate.loop.recorder import Recorder as Recorder
    from ablate.loop.saver import Checkpoints as Checkpoints
    from ablate.loop.signals import stop_on_signals as stop_on_signals
    from ablate.loop.streams import Streams as Streams
    from ablate.loop.train import Result as Result
    from ablate.loop.train import train as train
    from ablate.notebook.study import Study as Study
    from ablate.notebook.study import load as load
    from ablate.record.reader import read_evals as read_evals
    from ablate.record.reader import read_predictions as read_predictions
    from ablate.record.reader import read_trace as read_trace
    from ablate.tasks.task import Task as Task
    from ablate.tasks.task import make_evaluation as make_evaluation

_HOMES = {
    "Checkpoints": "ablate.loop.saver",
    "Config": "ablate.config",
    "Evaluation": "ablate.loop.evaluate",
    "GradNorms": "ablate.loop.grad_norm",
    "Recorder": "ablate.loop.recorder",
    "Result": "ablate.loop.train",
    "Streams": "ablate.loop.streams",
    "Study": "ablate.notebook.study",
    "Task": "ablate.tasks.task",
    "load": "ablate.notebook.study",
    "make_evaluation": "ablate.tasks.task",
    "read_evals": "ablate.record.reader",
    "read_predictions": "ablate.record.reader",
    "read_trace": "ablate.record.reader",
    "stop_on_signals": "ablate.loop.signals",
    "train": "ablate.loop.train",
}

__all__ = [
    "Checkpoints",
    "Config",
    "Evaluation",
    "GradNorms",
    "Recorder",
    "Result",
    "Streams",
    "Study",
    "Task",
    "load",
    "make_evaluation",
    "read_evals",
    "read_predictions",
    "read_trace",
    "stop_on_signals",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ablate' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__

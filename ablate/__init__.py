"""Which single variable of a training run caused a difference, how large the effect is, and how sure to be.

Names are loaded when they are first used: `import ablate` costs the standard library, `from ablate import train` costs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.config.schema import Config as Config
    from ablate.integrations.recorder import Recorder as Recorder
    from ablate.notebook.study import Study as Study
    from ablate.notebook.study import load as load
    from ablate.records.reader import read_evals as read_evals
    from ablate.records.reader import read_predictions as read_predictions
    from ablate.records.reader import read_trace as read_trace
    from ablate.tasks.task import Task as Task
    from ablate.tasks.task import make_evaluation as make_evaluation
    from ablate.training.checkpoint_manager import Checkpoints as Checkpoints
    from ablate.training.evaluation import Evaluation as Evaluation
    from ablate.training.grad_norms import GradNorms as GradNorms
    from ablate.training.random_streams import Streams as Streams
    from ablate.training.signals import stop_on_signals as stop_on_signals
    from ablate.training.train import Result as Result
    from ablate.training.train import train as train

_HOMES = {
    "Checkpoints": "ablate.training.checkpoint_manager",
    "Config": "ablate.config.schema",
    "Evaluation": "ablate.training.evaluation",
    "GradNorms": "ablate.training.grad_norms",
    "Recorder": "ablate.integrations.recorder",
    "Result": "ablate.training.train",
    "Streams": "ablate.training.random_streams",
    "Study": "ablate.notebook.study",
    "Task": "ablate.tasks.task",
    "load": "ablate.notebook.study",
    "make_evaluation": "ablate.tasks.task",
    "read_evals": "ablate.records.reader",
    "read_predictions": "ablate.records.reader",
    "read_trace": "ablate.records.reader",
    "stop_on_signals": "ablate.training.signals",
    "train": "ablate.training.train",
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

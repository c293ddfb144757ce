"""One-variable ablation studies of PyTorch training runs: which variable caused a difference, how large it is, how sure.

Names are loaded when they are first used: `import ablate` costs the standard library, `from ablate import train` costs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.config.schema import Config as Config
    from ablate.integrations.recorder import Recorder as Recorder
    from ablate.models.unpadding import unpad as unpad
    from ablate.notebook.study import Study as Study
    from ablate.notebook.study import load as load
    from ablate.records.reader import read_evals as read_evals
    from ablate.records.reader import read_predictions as read_predictions
    from ablate.records.reader import read_trace as read_trace
    from ablate.tasks.task import Task as Task
    from ablate.tasks.task import make_evaluation as make_evaluation
    from ablate.training.checkpoint import Checkpoints as Checkpoints
    from ablate.training.data_loading import Loader as Loader
    from ablate.training.evaluation import Evaluation as Evaluation
    from ablate.training.grad_norms import GradNorms as GradNorms
    from ablate.training.gradient_noise import SubsampledLoss as SubsampledLoss
    from ablate.training.lr_schedule import LRSchedule as LRSchedule
    from ablate.training.random_streams import RandomStreams as RandomStreams
    from ablate.training.run_recorder import Recording as Recording
    from ablate.training.stop import stop_on_signals as stop_on_signals
    from ablate.training.train import TrainResult as TrainResult
    from ablate.training.train import train as train

    __version__: str

_MODULES = {
    "Checkpoints": "ablate.training.checkpoint",
    "Config": "ablate.config.schema",
    "Evaluation": "ablate.training.evaluation",
    "GradNorms": "ablate.training.grad_norms",
    "LRSchedule": "ablate.training.lr_schedule",
    "Loader": "ablate.training.data_loading",
    "RandomStreams": "ablate.training.random_streams",
    "Recorder": "ablate.integrations.recorder",
    "Recording": "ablate.training.run_recorder",
    "Study": "ablate.notebook.study",
    "SubsampledLoss": "ablate.training.gradient_noise",
    "Task": "ablate.tasks.task",
    "TrainResult": "ablate.training.train",
    "load": "ablate.notebook.study",
    "make_evaluation": "ablate.tasks.task",
    "read_evals": "ablate.records.reader",
    "read_predictions": "ablate.records.reader",
    "read_trace": "ablate.records.reader",
    "stop_on_signals": "ablate.training.stop",
    "train": "ablate.training.train",
    "unpad": "ablate.models.unpadding",
}

__all__ = [
    "Checkpoints",
    "Config",
    "Evaluation",
    "GradNorms",
    "LRSchedule",
    "Loader",
    "RandomStreams",
    "Recorder",
    "Recording",
    "Study",
    "SubsampledLoss",
    "Task",
    "TrainResult",
    "__version__",
    "load",
    "make_evaluation",
    "read_evals",
    "read_predictions",
    "read_trace",
    "stop_on_signals",
    "train",
    "unpad",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("torch-ablate")
    if name not in _MODULES:
        raise AttributeError(f"module 'ablate' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__

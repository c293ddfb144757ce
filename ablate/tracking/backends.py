"""Supported trackers and their interface. A new tracker is a module with two functions, and an entry in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from ablate.tracking.describe import RunEnd, RunInfo, StudyInfo
from ablate.tracking.rows import Row


class TrackedRun(Protocol):
    """One run at a tracker. Exceptions of the tracker's library pass through."""

    def send(self, rows: Sequence[Row]) -> None:
        """Send rows in the order of their steps. After a resume, rows may be sent again and must not appear twice."""
        ...

    def end(self, end: RunEnd) -> None:
        """End the run and wait until everything is sent."""
        ...


class BackendModule(Protocol):
    """Interface of a tracker's module."""

    def begin(self, info: RunInfo) -> TrackedRun: ...

    def send_study(self, info: StudyInfo) -> None: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Tracker that can be chosen by name."""

    title: str
    module: str
    package: str
    """Package that must be installed."""
    extra: str
    """Extra of ours that installs it; '' if it is always installed."""

    @property
    def install_command(self) -> str:
        """Command that installs the package; '' if it is installed."""
        if find_spec(self.package) is not None:
            return ""
        return f"pip install 'torch-ablate[{self.extra}]'" if self.extra else f"pip install {self.package}"

    def load(self) -> BackendModule:
        return cast(BackendModule, import_module(self.module))


BACKENDS = {
    "wandb": Backend("W&B", "ablate.tracking.wandb", "wandb", ""),
    "tensorboard": Backend("TensorBoard", "ablate.tracking.tensorboard", "tensorboard", "tensorboard"),
    "mlflow": Backend("MLflow", "ablate.tracking.mlflow", "mlflow", "mlflow"),
}

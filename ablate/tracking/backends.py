"""The trackers that there are, and what each of them has to do. A new one is a module with these two functions, and a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from ablate.tracking.describe import End, StudyTold, Told
from ablate.tracking.rows import Row


class Tracker(Protocol):
    """One run at a tracker."""

    def send(self, rows: Sequence[Row]) -> None:
        """Rows in the order of their steps; of a run that goes on in another process, also those it was sent before."""
        ...

    def end(self, end: End) -> None:
        """The last call: everything is there when it returns. Raises where it is not."""
        ...


class Module(Protocol):
    """What a `to_*.py` has. Whatever the tracker's library raises may come out of it."""

    def begin(self, told: Told) -> Tracker: ...

    def send_study(self, told: StudyTold) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    """title: its name for people. package: that must be importable. extra: of ours that brings it; '' where it always comes."""

    title: str
    module: str
    package: str
    extra: str

    @property
    def missing(self) -> str:
        """What to type where the package is not installed; '' where it is."""
        if find_spec(self.package) is not None:
            return ""
        return f"pip install 'torch-ablate[{self.extra}]'" if self.extra else f"pip install {self.package}"

    def load(self) -> Module:
        return cast(Module, import_module(self.module))


KINDS = {
    "wandb": Kind("W&B", "ablate.tracking.wandb", "wandb", ""),
    "tensorboard": Kind("TensorBoard", "ablate.tracking.tensorboard", "tensorboard", "tensorboard"),
    "mlflow": Kind("MLflow", "ablate.tracking.mlflow", "mlflow", "mlflow"),
}

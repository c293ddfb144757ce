"""An app that is not ours inside Hydra: told from ours, its main wrapped, its command line taken apart."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ablate.design.plan import Run
from ablate.errors import ConfigError
from ablate.planning.compose import Schema, override_text
from ablate.records.layout import RunDir
from ablate.runner.foreign_app import AppStudy, Kept, keep, run_processes

_NOT_FOR_A_RUN = ("hydra/sweeper", "hydra/launcher", "hydra.sweep", "hydra.launcher", "hydra.mode", "hydra.run.")


def is_ours(config: DictConfig) -> bool:
    """Whether a config is ablate's own: it has every key of its schema."""
    return {field.name for field in fields(Schema)} <= set(config)


class Recorded:
    """An app's main whose result stays in the run's folder, wherever a launcher runs it."""

    def __init__(self, main: Callable[[Any], Any]) -> None:
        self.main = main

    def __call__(self, config: Any) -> Any:
        return keep(Path(HydraConfig.get().runtime.output_dir), lambda: self.main(config))


class KeepReturned(Callback):
    """The same from inside a run that was started as a command of its own."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        self._kept = Kept.begin(Path(config.hydra.runtime.output_dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002
        returned = job_return._return_value
        failed = job_return.status == JobStatus.FAILED
        self._kept.end(None if failed else returned, returned if failed else None)


def modules_of(main: Callable[[Any], Any]) -> list[str]:
    """Where the app's code begins: the module that was started, and the one that its main stands in."""
    started = sys.modules["__main__"]
    spec = getattr(started, "__spec__", None)
    first = spec.name if spec is not None else Path(getattr(started, "__file__", None) or "").stem
    return [name for name in dict.fromkeys((first, main.__module__)) if name and name != "__main__"]


def places_of(job: Sequence[str], run: RunDir) -> list[str]:
    """A job with the folder that its record goes to, for a launcher of a sweep."""
    sweep = {"hydra.sweep.dir": str(run.path.parent), "hydra.sweep.subdir": run.path.name}
    return [*job, *(override_text(key, value) for key, value in sweep.items())]


def in_processes(
    study: AppStudy, config: DictConfig, arguments: Sequence[str], workers: int | None
) -> Callable[..., Any]:
    """`hydra/launcher=local`: each run is the user's own command line, with one value for every key."""
    hydra = list(config.hydra.overrides.hydra)
    start = _start_of_command([*arguments, *hydra])
    own = [text for text in hydra if not text.lstrip("+~").startswith(_NOT_FOR_A_RUN)]

    def command(run: Run) -> list[str]:
        place = study.place(run)
        return [
            *start, *study.job(run), *own, "hydra.mode=RUN", override_text("hydra.run.dir", str(place.path)),
            f"+hydra.callbacks.ablate._target_={__name__}.{KeepReturned.__name__}",
        ]  # fmt: skip

    def launch(runs: Sequence[Run]) -> Iterator[tuple[Run, str | None]]:
        return run_processes([(run, command(run), study.place(run).log) for run in runs], workers)

    return launch


def _start_of_command(overrides: Sequence[str]) -> list[str]:
    """Interpreter, script or module, and Hydra's flags, as they were typed. Raises ConfigError where they cannot be told."""
    typed = sys.argv[1:]
    if sys.orig_argv[len(sys.orig_argv) - len(typed) :] != typed:
        raise ConfigError(
            "how this app was started cannot be told from its command line, so no run can be started like it",
            "hydra/launcher=basic runs one after the other in this process",
        )
    kept = [text for text in typed if text not in overrides and text not in ("-m", "--multirun")]
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(typed)], *kept]

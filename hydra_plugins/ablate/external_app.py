"""External apps inside Hydra: distinguish them from ours, record what their main returns, rebuild their command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ablate.config.schema import StudyConfig
from ablate.design.plan import Plan
from ablate.errors import ConfigError
from ablate.planning.compose import Schema, override_text
from ablate.runner.external_app import RunRecord, check_returned, outcome_or_lost, record_run
from ablate.runner.jobs import Job
from ablate.runner.run_study import Launch
from ablate.runner.scheduler import run_all

_NOT_FOR_A_RUN = ("hydra/sweeper", "hydra/launcher", "hydra.sweep", "hydra.launcher", "hydra.mode", "hydra.run.")


def is_ours(config: DictConfig) -> bool:
    """Return whether a config is ablate's own: it has every key of its schema."""
    return {field.name for field in fields(Schema)} <= set(config)


class Recorded:
    """An app's main whose result is stored in the run directory, wherever a launcher runs it."""

    def __init__(self, main: Callable[[Any], Any]) -> None:
        self.main = main

    def __call__(self, config: Any) -> Any:
        return record_run(Path(HydraConfig.get().runtime.output_dir), lambda: self.main(config))


class RecordReturned(Callback):
    """Store the result from inside a run that was started as a command of its own."""

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        self._record = RunRecord.begin(Path(config.hydra.runtime.output_dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:  # noqa: ARG002
        returned = job_return._return_value
        failed = job_return.status == JobStatus.FAILED
        self._record.end(None if failed else returned, returned if failed else None)


def modules_of(main: Callable[[Any], Any]) -> list[str]:
    """Return the modules in which the app's code begins: the one that was started, and the one that defines its main."""
    started = sys.modules["__main__"]
    spec = getattr(started, "__spec__", None)
    first = spec.name if spec is not None else Path(getattr(started, "__file__", None) or "").stem
    return [name for name in dict.fromkeys((first, main.__module__)) if name and name != "__main__"]


def launch_commands(plan: Plan, config: DictConfig, arguments: Sequence[str], workers: int | None) -> Launch:
    """Return the launch of `hydra/launcher=local`: each run is the user's own command line, with one value for every key."""
    hydra = list(config.hydra.overrides.hydra)
    start = _start_of_command([*arguments, *hydra])
    passed_on = [text for text in hydra if not text.lstrip("+~").startswith(_NOT_FOR_A_RUN)]
    settings = StudyConfig(workers=workers, retries=0, hang_timeout_minutes=None)

    def with_command(job: Job) -> Job:
        command = (
            *start, *job.overrides, *passed_on, "hydra.mode=RUN", override_text("hydra.run.dir", str(job.folder)),
            f"+hydra.callbacks.ablate._target_={__name__}.{RecordReturned.__name__}",
        )  # fmt: skip
        return replace(job, command=command)

    def launch(jobs: Sequence[Job], title: str, already_done: int) -> None:
        run_all(
            [with_command(job) for job in jobs],
            settings,
            title=title,
            already_done=already_done,
            on_end=lambda job, _: check_returned(plan, job.run),
        )

    return launch


def launch_with(
    plan: Plan, run_jobs: Callable[[Sequence[Sequence[str]], int], Sequence[str | None]], num_parallel: int | None
) -> Launch:
    """Return a launch that hands the runs to a launcher of Hydra and prints how each of them ended.

    run_jobs: runs jobs in Hydra's grammar and returns for each why it was lost. num_parallel: jobs per call; None: all.
    """

    def launch(jobs: Sequence[Job], title: str, already_done: int) -> None:  # noqa: ARG001
        done, total = already_done, already_done + len(jobs)
        size = num_parallel or len(jobs)
        for first in range(0, total - already_done, size):
            part = jobs[first : first + size]
            for job, lost in zip(part, run_jobs([_with_output_dir(job) for job in part], first), strict=False):
                outcome = outcome_or_lost(job.run, lost)
                done += outcome.status in ("finished", "diverged")
                print(f"{outcome.status:<11} {job.name}  {outcome.message}  ({done}/{total})", flush=True)
                check_returned(plan, job.run)

    return launch


def _with_output_dir(job: Job) -> list[str]:
    sweep = {"hydra.sweep.dir": str(job.folder.parent), "hydra.sweep.subdir": job.folder.name}
    return [*job.overrides, *(override_text(key, value) for key, value in sweep.items())]


def _start_of_command(overrides: Sequence[str]) -> list[str]:
    """Return interpreter, script or module, and Hydra's flags of this command. Raises ConfigError where they are unknown."""
    argv = sys.argv[1:]
    if sys.orig_argv[len(sys.orig_argv) - len(argv) :] != argv:
        raise ConfigError(
            "how this app was started is unknown from its command line, so no run can be started like it",
            "hydra/launcher=basic runs one after the other in this process",
        )
    flags = [text for text in argv if text not in overrides and text not in ("-m", "--multirun")]
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(argv)], *flags]

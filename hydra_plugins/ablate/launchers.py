"""Launchers: our own, `hydra/launcher=local`, and those of Slurm and Ray, which are made to wait for every job.

submitit's launcher and Ray's read the results of their jobs one after the other and stop at the first that was lost (killed,
its node gone, its time over), while the others go on unread. The record of a run is on disk, so a result is only read for the
reason why it is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from ablate.errors import AblateError, ConfigError, StudyError

# `study.workers` sets how many runs go simultaneously.
_LOCAL = {"_target_": "hydra_plugins.ablate.launchers.LocalLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="local", node=_LOCAL, provider="ablate")

_ASK_QUEUE_SECONDS = 30
"""Interval between questions to the queue; submitit's own is ten minutes for jobs that left no result."""


class LocalLauncher(Launcher):
    """The name that `hydra/sweeper=ablation` starts the runs by itself under, with `ablate.runner.launch`. Launches nothing."""

    def setup(self, **_: Any) -> None:
        raise ConfigError(
            "hydra/launcher=local starts the runs of hydra/sweeper=ablation only",
            "hydra/sweeper=ablation, or hydra/launcher=basic",
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise NotImplementedError


def launch_all(launcher: Launcher, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Call `launcher.launch` and wait until every job has ended. A job that the cluster lost is a failed JobReturn."""
    jobs = [list(one) for one in job_overrides]
    name = _name_of(launcher)
    try:
        with _CLUSTERS.get(name, nullcontext)(launcher):
            return list(launcher.launch(jobs, first))
    except KeyboardInterrupt:
        if name in _JOBS_CONTINUE:
            print(f"ablate: {_JOBS_CONTINUE[name]}", file=sys.stderr)
        raise
    except Exception as error:
        if not name or isinstance(error, AblateError):
            raise
        raise StudyError(f"{name} could not start the runs: {_line(error)}", f"pip show {name}; docs/how-to") from error


def is_cluster(launcher: Launcher) -> bool:
    """Return whether the launcher takes many jobs at a time."""
    return bool(_name_of(launcher))


def _name_of(launcher: Launcher) -> str:
    return next((name for name in _CLUSTERS if name in type(launcher).__module__), "")


def reason_lost(returned: Any) -> str | None:
    """Return why a job has no result, in one line; None for a job that has one."""
    if not isinstance(returned, JobReturn) or returned.status != JobStatus.FAILED:
        return None
    return _line(returned._return_value)


def _line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextmanager
def _submitit(launcher: Any) -> Iterator[None]:  # noqa: ARG001
    """Written for hydra-submitit-launcher 1.2.0, submitit 1.5.4."""
    from submitit.core.core import Job
    from submitit.slurm.slurm import SlurmJob

    results, delay = Job.results, SlurmJob.watcher._delay_s
    Job.results, SlurmJob.watcher._delay_s = _instead_of_raising(results, as_list=True), _ASK_QUEUE_SECONDS
    try:
        yield
    finally:
        Job.results, SlurmJob.watcher._delay_s = results, delay


@contextmanager
def _ray(launcher: Any) -> Iterator[None]:
    """Written for hydra-ray-launcher 1.2.2, ray 2.60.0."""
    import ray
    from omegaconf import OmegaConf, open_dict

    with open_dict(launcher.ray_cfg):
        launcher.ray_cfg.remote.setdefault("max_calls", 1)  # a process per run, as everywhere
    if launcher.ray_cfg.init.get("address") and not ray.is_initialized():
        # The plugin would give the size of an object store too, which Ray refuses of those who join a cluster.
        options: Any = OmegaConf.to_container(launcher.ray_cfg.init, resolve=True)
        ray.init(**options)
    get = ray.get
    ray.get = _instead_of_raising(get, as_list=False)
    try:
        yield
    finally:
        ray.get = get
        ray.shutdown()


def _instead_of_raising(read: Callable[..., Any], *, as_list: bool) -> Callable[..., Any]:
    def patient(*arguments: Any, **options: Any) -> Any:
        try:
            return read(*arguments, **options)
        except Exception as error:  # whatever the engine calls it
            lost = JobReturn(status=JobStatus.FAILED, _return_value=error)
            return [lost] if as_list else lost

    return patient


_CLUSTERS: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "hydra_submitit_launcher": _submitit,
    "hydra_ray_launcher": _ray,
}
_JOBS_CONTINUE = {
    "hydra_submitit_launcher": "the jobs stay in Slurm's queue and go on; `squeue --me` lists them, scancel ends them"
}

"""`hydra/launcher=local`: a fresh process per run on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# `study.workers` sets how many runs go simultaneously.
_NODE = {"_target_": "hydra_plugins.ablate.launcher.LocalLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="local", node=_NODE, provider="ablate")


class LocalLauncher(Launcher):
    """Launcher for other sweepers, such as Hydra's own. `hydra/sweeper=ablation` calls `ablate.runner.local` directly."""

    def setup(  # the arguments are Hydra's
        self,
        *,
        hydra_context: HydraContext,  # noqa: ARG002
        task_function: TaskFunction,  # noqa: ARG002
        config: DictConfig,
    ) -> None:
        from ablate.errors import ConfigError
        from hydra_plugins.ablate.external_app import is_ours

        if not is_ours(config):
            raise ConfigError(
                "hydra/launcher=local starts the runs of an external app under hydra/sweeper=ablation only",
                "hydra/sweeper=ablation, or hydra/launcher=basic",
            )
        self._hydra = config.hydra

    def launch(
        self,
        job_overrides: Sequence[Sequence[str]],
        initial_job_idx: int,  # noqa: ARG002
    ) -> Sequence[JobReturn]:
        from ablate.planning.compose import composer_of
        from ablate.runner.jobs import composed_job
        from ablate.runner.local import launch_local

        composer = composer_of(self._hydra)
        jobs = [composed_job(composer, overrides) for overrides in job_overrides]
        outcomes = launch_local(jobs, jobs[0].folder.parents[1].name, 0)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=outcome)
            for overrides, outcome in zip(job_overrides, outcomes, strict=False)
        ]

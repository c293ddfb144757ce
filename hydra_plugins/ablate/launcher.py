"""`hydra/launcher=local`: a fresh process per run on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# How many runs go at a time stands in `study.workers`.
_NODE = {"_target_": "hydra_plugins.ablate.launcher.LocalLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="local", node=_NODE, provider="ablate")


class LocalLauncher(Launcher):
    """Composes the jobs and hands them to `ablate.runner.scheduler`; their processes know nothing of Hydra."""

    def setup(  # the arguments are Hydra's
        self,
        *,
        hydra_context: HydraContext,  # noqa: ARG002
        task_function: TaskFunction,  # noqa: ARG002
        config: DictConfig,
    ) -> None:
        from ablate.errors import ConfigError
        from hydra_plugins.ablate.foreign_app import is_ours

        if not is_ours(config):
            raise ConfigError(
                "hydra/launcher=local starts the runs of an app that is not ablate's own under hydra/sweeper=ablation only",
                "hydra/sweeper=ablation, or hydra/launcher=basic",
            )
        self._hydra = config.hydra

    def launch(
        self,
        job_overrides: Sequence[Sequence[str]],
        initial_job_idx: int,  # noqa: ARG002
    ) -> Sequence[JobReturn]:
        from ablate.planning.compose import composer_of
        from ablate.runner.launch import launch_local

        outcomes = launch_local(composer_of(self._hydra), job_overrides)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=outcome)
            for overrides, outcome in zip(job_overrides, outcomes, strict=False)
        ]

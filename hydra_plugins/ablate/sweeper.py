"""`hydra/sweeper=ablation`: one variable at a time, instead of the product of everything."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from ablate.planning.planner import Prepared
    from ablate.runner.jobs import Job
    from ablate.runner.run_study import Launch

# plan_only: print what would run, and run nothing. launched_from: the directory in which the command was started; the sweeper
# sets it.
# attribute, mediate: the requests of these verbs, `ablate.planning.attribution.AttributionRequest` and
# `ablate.planning.mediation.MediationRequest`.
# as_json: print the answer as JSON. A plain dict, because Hydra runs this module before it is in sys.modules, where a dataclass
# would search for it. The others are for an external app, with their defaults: `ablate.planning.external_app.Options`.
_APP = {
    "seed_key": "seed", "seeds": 5, "metric": None, "lower_is_better": True, "smallest_effect": 0.01, "name": None,
    "root": "runs", "workers": None,
}  # fmt: skip
_NODE = {
    "_target_": "hydra_plugins.ablate.sweeper.AblationSweeper", "plan_only": False, "launched_from": None, "attribute": None,
    "mediate": None, "as_json": False, **_APP,
}  # fmt: skip
ConfigStore.instance().store(group="hydra/sweeper", name="ablation", node=_NODE, provider="ablate")


class AblationSweeper(Sweeper):
    """Baseline and variants, seed by seed, launched by whatever launcher is configured."""

    def __init__(
        self,
        plan_only: bool = False,
        launched_from: str | None = None,  # noqa: ARG002
        attribute: DictConfig | None = None,
        mediate: DictConfig | None = None,
        as_json: bool = False,
        **app: Any,
    ) -> None:
        self.plan_only, self.attribute, self.as_json, self._app = plan_only, attribute, as_json, app
        self.mediate = mediate

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context, self._task, self._config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from hydra_plugins.ablate.external_app import is_ours

        code = self._sweep_ours(arguments) if is_ours(self._config) else self._sweep_app(arguments)
        if code:
            raise SystemExit(code)  # Hydra drops what a sweep returns

    @property
    def _is_local(self) -> bool:
        return str(self._config.hydra.launcher._target_).startswith("hydra_plugins.ablate.launchers.")

    def _sweep_ours(self, arguments: list[str]) -> int:
        from ablate.errors import ConfigError
        from ablate.planning.compose import composer_of
        from ablate.runner.launch import launch_local
        from ablate.study_command import Options, plan_study

        for key, value in self._app.items():
            if value != _APP[key]:
                fix = f"study.{key}" if key not in ("lower_is_better", "seed_key") else "study.metric"
                raise ConfigError(f"hydra.sweeper.{key} is for external apps", f"{fix}=...")
        launch = launch_local if self._is_local else self._launch
        options = Options(launch=launch, plan_only=self.plan_only, local=self._is_local, as_json=self.as_json)
        attribute, mediate = (
            None if node is None else cast("dict[str, Any]", OmegaConf.to_container(node))
            for node in (self.attribute, self.mediate)
        )
        return plan_study(composer_of(self._config.hydra), arguments, attribute, mediate, options)

    def _sweep_app(self, arguments: list[str]) -> int:
        from ablate.planning.external_app import AppComposer, Options, make_app_study
        from ablate.study_command import refusals_printed, run_external_study
        from hydra_plugins.ablate.external_app import modules_of

        def command() -> int:
            hydra, options = self._config.hydra, Options(**self._app)
            always = [text for text in hydra.overrides.hydra if text.startswith("hydra.searchpath")]
            composer = AppComposer(hydra.job.config_name, always)
            prepared = make_app_study(
                composer.compose, composer.parse(arguments, seed_key=options.seed_key), options,
                modules=modules_of(self._task), command=shlex.join(sys.orig_argv),
            )  # fmt: skip
            launch = None if self.plan_only else self._app_launch(prepared, arguments, options.workers)
            return run_external_study(prepared, launch)

        return refusals_printed(command)

    def _app_launch(self, prepared: Prepared, arguments: list[str], workers: int | None) -> Launch:
        from hydra_plugins.ablate.external_app import Recorded, launch_commands, launch_with
        from hydra_plugins.ablate.launchers import is_cluster, launch_all, reason_lost

        if self._is_local:
            return launch_commands(prepared.plan, self._config, arguments, workers)
        self._task = Recorded(self._task)
        with open_dict(self._config):
            self._config.hydra.sweep.dir = str(prepared.folder)
            if self._config.hydra.hydra_logging.get("root"):
                self._config.hydra.hydra_logging.root.level = "WARNING"  # we print a line per run
        launcher = self._launcher()

        def run_jobs(jobs: Sequence[Sequence[str]], first: int) -> list[str | None]:
            return [reason_lost(returned) for returned in launch_all(launcher, jobs, first)]

        # In this process one at a time, so that each can be checked.
        return launch_with(prepared.plan, run_jobs, num_parallel=None if is_cluster(launcher) else 1)

    def _launch(self, jobs: Sequence[Job], title: str, already_done: int) -> None:  # noqa: ARG002
        """Hand the runs to a launcher of Hydra, as text: its processes may run on other machines, where they read the plan."""
        from hydra_plugins.ablate.launchers import launch_all, reason_lost

        with open_dict(self._config):
            self._config.hydra.overrides.hydra.append(f"hydra.sweeper.launched_from='{Path.cwd()}'")
            if self._config.hydra.sweep.dir == ".":  # a cluster's own files go there, in hidden directories
                self._config.hydra.sweep.dir = str(jobs[0].folder.parents[1].absolute())
        launcher = self._launcher()
        for job, returned in zip(jobs, launch_all(launcher, [job.overrides for job in jobs], 0), strict=False):
            if reason := reason_lost(returned):
                print(f"lost  {job.name}  {reason}", flush=True)

    def _launcher(self) -> Launcher:
        return Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=self._task, config=self._config
        )

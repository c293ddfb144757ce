"""`hydra/sweeper=ablation`: one variable at a time, instead of the product of everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from ablate.design.plan import Run
    from ablate.runner.foreign_app import AppStudy, Launched

# plan_only: say what would run, and run nothing. typed_in: the folder in which that was typed; the sweeper sets it.
# attribute, mediate: what these verbs ask, `ablate.planning.attribution.Bisect` and `ablate.planning.mediation.Mediate`. as_json: the answer
# for a program to read.
# A plain dict, because Hydra runs this module before it is in sys.modules, where a dataclass would look for it.
# The others are for an app that is not ours, with their defaults: `ablate.runner.foreign_app.Options`.
_APP = {
    "seed_key": "seed", "seeds": 5, "metric": None, "lower_is_better": True, "smallest_effect": 0.01, "name": None,
    "root": "runs", "workers": None,
}  # fmt: skip
_NODE = {
    "_target_": "hydra_plugins.ablate.sweeper.AblationSweeper", "plan_only": False, "typed_in": None, "attribute": None,
    "mediate": None, "as_json": False, **_APP,
}  # fmt: skip
ConfigStore.instance().store(group="hydra/sweeper", name="ablation", node=_NODE, provider="ablate")


class AblationSweeper(Sweeper):
    """Baseline and variants, seed by seed, launched by whatever launcher is configured."""

    def __init__(
        self,
        plan_only: bool = False,
        typed_in: str | None = None,  # noqa: ARG002
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
        from hydra_plugins.ablate.foreign_app import is_ours

        code = self._sweep_ours(arguments) if is_ours(self._config) else self._sweep_app(arguments)
        if code:
            raise SystemExit(code)  # Hydra drops what a sweep returns

    @property
    def _is_local(self) -> bool:
        return str(self._config.hydra.launcher._target_).startswith("hydra_plugins.ablate.launcher.")

    def _sweep_ours(self, arguments: list[str]) -> int:
        from ablate.cli.run_sweep import How, run_attribute, run_mediate, run_sweep
        from ablate.errors import ConfigError
        from ablate.planning.compose import composer_of

        for key, value in self._app.items():
            if value != _APP[key]:
                what = f"study.{key}" if key != "lower_is_better" and key != "seed_key" else "study.metric"
                raise ConfigError(f"hydra.sweeper.{key} is for an app that is not ablate's own", f"{what}=...")
        composer = composer_of(self._config.hydra)
        how = How(launch=self._launch, plan_only=self.plan_only, local=self._is_local, as_json=self.as_json)
        if self.attribute is not None:
            asked: Any = OmegaConf.to_container(self.attribute)
            return run_attribute(composer, arguments, asked, how)
        if self.mediate is not None:
            wanted: Any = OmegaConf.to_container(self.mediate)
            return run_mediate(composer, arguments, wanted, how)
        return run_sweep(composer, arguments, how)

    def _sweep_app(self, arguments: list[str]) -> int:
        """Hydra would print our refusals as if the app had failed."""
        from ablate.cli.run_sweep import run_app_sweep
        from ablate.planning.foreign_app import AppComposer
        from hydra_plugins.ablate.foreign_app import modules_of

        hydra = self._config.hydra
        always = [text for text in hydra.overrides.hydra if text.startswith("hydra.searchpath")]
        return run_app_sweep(
            AppComposer(hydra.job.config_name, always), arguments, self._app, launch=self._launch_app,
            modules=modules_of(self._task), plan_only=self.plan_only,
        )  # fmt: skip

    def _launch_app(self, study: AppStudy, arguments: list[str], workers: int | None) -> Launched:
        from hydra_plugins.ablate.cluster_launchers import is_engine, launch_all, sentence_of
        from hydra_plugins.ablate.foreign_app import Recorded, in_processes, places_of

        if self._is_local:
            return in_processes(study, self._config, arguments, workers)
        self._task = Recorded(self._task)
        with open_dict(self._config):
            self._config.hydra.sweep.dir = str(study.folder)
            if self._config.hydra.hydra_logging.get("root"):
                self._config.hydra.hydra_logging.root.level = "WARNING"  # a line per run is ours
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=self._task, config=self._config
        )

        def launch(runs: Sequence[Run]) -> Iterator[tuple[Run, str | None]]:
            size = (
                len(runs) if is_engine(launcher) else 1
            )  # in this process: one at a time, so that each can be checked
            for first in range(0, len(runs), size):
                some = runs[first : first + size]
                jobs = [places_of(study.job(run), study.place(run)) for run in some]
                for run, returned in zip(some, launch_all(launcher, jobs, first), strict=False):
                    yield run, sentence_of(returned)

        return launch

    def _launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> None:
        from hydra_plugins.ablate.cluster_launchers import launch_all, sentence_of

        launcher = self._launcher(job_overrides[0])
        for overrides, returned in zip(job_overrides, launch_all(launcher, job_overrides, first), strict=False):
            if said := sentence_of(returned):
                print(f"lost  {' '.join(overrides[-2:])}  {said}", flush=True)

    def _launcher(self, job: Sequence[str]) -> Launcher:
        """Made once it is known where the study lies: an engine's own files go there, under a name that begins with a dot."""
        from ablate.planning.compose import composer_of
        from ablate.runner.launch import study_folder

        here = Path.cwd()
        folder = here / study_folder(composer_of(self._config.hydra).compose(job))
        with open_dict(self._config):
            # A job composes its config where it runs, from these.
            self._config.hydra.overrides.hydra.append(f"hydra.sweeper.typed_in='{here}'")
            if self._config.hydra.sweep.dir == ".":
                self._config.hydra.sweep.dir = str(folder)
        return Plugins.instance().instantiate_launcher(
            hydra_context=self._context, task_function=self._task, config=self._config
        )

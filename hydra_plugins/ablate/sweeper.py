"""`hydra/sweeper=ablation`: one variable at a time, instead of the product of everything."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

# plan_only: say what would run, and run nothing.
# A plain dict, because Hydra runs this module before it is in sys.modules, where a dataclass would look for it.
_NODE = {"_target_": "hydra_plugins.ablate.sweeper.AblationSweeper", "plan_only": False}
ConfigStore.instance().store(group="hydra/sweeper", name="ablation", node=_NODE, provider="ablate")


class AblationSweeper(Sweeper):
    """Baseline and variants, seed by seed, launched by whatever launcher is configured."""

    def __init__(self, plan_only: bool = False) -> None:
        self.plan_only = plan_only

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._hydra = config.hydra
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from ablate.cli import run_sweep
        from ablate.design.compose import composer_of

        composer = composer_of(self._hydra)
        code = run_sweep(composer, arguments, launch=self.launcher.launch, plan_only=self.plan_only)
        if code:
            raise SystemExit(code)  # Hydra drops what a sweep returns

"""Where the command line hands over to Hydra, and what Hydra calls back."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli._parser import refuse
from ablate.errors import AblateError, ConfigError

if TYPE_CHECKING:
    from ablate.planning.compose import Composer


def through_hydra(typed: list[str]) -> int:
    """Hand the arguments to Hydra; its refusals come back as ours."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from ablate.planning.compose import CONFIG_NAME, conf_dir, register_schema, version_base, with_open_key
    from ablate.planning.hydra_errors import is_refusal, refusal

    register_schema()
    typed = [with_open_key(text) for text in typed]
    application = hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, **version_base())(_task)
    with _for_hydra(typed):
        try:
            application()
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            if not is_refusal(error):
                raise
            raise refusal(error, [text for text in typed if "=" in text and not text.startswith("hydra.")]) from None
    return 0


@contextmanager
def _for_hydra(typed: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and passes errors on only with HYDRA_FULL_ERROR: otherwise it prints them its own way."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0], *typed]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        del os.environ["HYDRA_FULL_ERROR"]
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


def _task(config: Any) -> Any:
    """What Hydra calls: for a single run, and for each run of a study under a launcher that is not ours."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ablate.planning.compose import composer_of

    hydra = HydraConfig.get()
    typed = list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        from ablate.runner.launch import run_here

        typed_in = hydra.sweeper.get("typed_in")
        return run_here(composer_of(hydra), typed, typed_in=Path(typed_in) if typed_in else None)
    try:
        if config.axis is not None or config.study.axes:
            what = f"axis={config.axis.name}" if config.axis else f"study.axes={list(config.study.axes)}"
            raise ConfigError(f"{what}: an axis makes a study, and a study needs -m", f"ablate -m {shlex.join(typed)}")
        code = _single(composer_of(hydra), typed)
    except AblateError as error:
        code = refuse(error)
    if code:
        raise SystemExit(code)  # Hydra drops what a task returns
    return None


def _single(composer: Composer, typed: list[str]) -> int:
    from ablate.records.layout import RunDir
    from ablate.runner.launch import eval_curves, look_line, pace_line, run_single

    job, outcome, fresh = run_single(composer, typed)
    print(f"{outcome.status}: {outcome.message}" if outcome.status == "failed" else outcome.message or outcome.status)
    for name, curve in eval_curves(RunDir(job.folder)).items():
        print(look_line(name, curve))
    if pace := pace_line(outcome):
        print(pace)
    print(f"run  {job.folder}" + ("" if fresh else "  (was there already; nothing was run)"))
    return int(outcome.status in ("failed", "interrupted"))

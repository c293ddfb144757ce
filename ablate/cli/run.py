"""Hand the command line over to Hydra, and run what Hydra calls back: a single run, or a run of a study on a cluster."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError, ConfigError
from ablate.redact import shown
from ablate.study_command import print_refusal

if TYPE_CHECKING:
    from ablate.planning.compose import Composer


def through_hydra(argv: list[str]) -> int:
    """Hand the arguments to Hydra. Its errors are raised as ours."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from ablate.config import conf_dir
    from ablate.planning.compose import CONFIG_NAME, register_schema, version_base, with_open_key
    from ablate.planning.hydra_errors import is_refusal, refusal

    register_schema()
    argv = [with_open_key(text) for text in argv]
    application = hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, **version_base())(_task)
    with _for_hydra(argv):
        try:
            application()
        except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            if not is_refusal(error):
                raise
            raise refusal(error, [text for text in argv if "=" in text and not text.startswith("hydra.")]) from None
    return 0


@contextmanager
def _for_hydra(argv: list[str]) -> Iterator[None]:
    """Set sys.argv, which Hydra reads, and HYDRA_FULL_ERROR, without which it prints errors itself."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [before[0], *argv]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        del os.environ["HYDRA_FULL_ERROR"]
        if full is not None:
            os.environ["HYDRA_FULL_ERROR"] = full


def _task(config: Any) -> Any:
    """Task function of Hydra: a single run, or a run of a study under a launcher that is not ours."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ablate.planning.compose import composer_of

    hydra = HydraConfig.get()
    argv = list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        from ablate.records.layout import safe_name
        from ablate.runner.jobs import composed_job
        from ablate.runner.launch import run_here, run_planned

        if launched_from := hydra.sweeper.get("launched_from"):
            study = Path(config.study.output_dir) / safe_name(config.study.name)
            tracker = dict(config.tracker)  # its address is not in the plan where it holds a password
            return run_planned(study, config.arm, config.seed, launched_from=Path(launched_from), tracker=tracker)
        return run_here(composed_job(composer_of(hydra), argv))
    try:
        if config.axis is not None or config.study.axes:
            what = f"axis={config.axis.name}" if config.axis else f"study.axes={list(config.study.axes)}"
            raise ConfigError(f"{what}: an axis makes a study, and a study needs -m", f"ablate -m {shlex.join(argv)}")
        code = _single(composer_of(hydra), argv)
    except AblateError as error:
        code = print_refusal(error)
    if code:
        raise SystemExit(code)  # Hydra drops what a task returns
    return None


def _single(composer: Composer, argv: list[str]) -> int:
    from ablate.report.run import eval_curves, eval_line, pace_line
    from ablate.runner.launch import run_single

    job, outcome, is_new = run_single(composer, argv)
    message = f"{outcome.status}: {outcome.message}" if outcome.status == "failed" else outcome.message
    print(shown(message or outcome.status))
    for note in job.notes:
        print(shown(f"data  {note}"))
    for name, curve in eval_curves(job.run).items():
        print(eval_line(name, curve))
    if pace := pace_line(outcome):
        print(pace)
    print(shown(f"run  {job.folder}" + ("" if is_new else "  (was there already; nothing was run)")))
    return int(outcome.status in ("failed", "interrupted"))

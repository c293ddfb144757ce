"""The command line: verbs, and everything else handed to Hydra. No logic.

Exit codes: 0 all fine; 1 a run or a control failed; 2 the request cannot be met as typed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError, ConfigError, nearest

if TYPE_CHECKING:
    from ablate.analysis.adopt import Asked
    from ablate.design.compose import Composer
    from ablate.study.planner import Prepared
    from ablate.study.sweep import Launch

_HELP = """\
ablate: which single variable caused the difference?

  ablate [key=value ...]                      one run of the base config
  ablate -m axis=batch_size,dropout           a study: the baseline and every level of each axis, x seeds
  ablate -m data.batch_size=8,64              the same for any key
  ablate -m study=reference                   the reference study

  ablate plan axis=batch_size study.seeds=5   what would run, what is done, what is free, how long; runs nothing
  ablate report runs/reference                make tables and page anew
  ablate replay runs/reference observe.eval_every='256 samples'
                                              what would I have seen at this cadence?
  ablate axes                                 the standard ablations, one line each
  ablate doctor                               what works on this machine

`ablate <verb> --help` has more on a verb; `ablate --hydra-help` lists the config groups and Hydra's own flags,
`--config-dir DIR` adds your own config files, and `--cfg job` prints a composed config.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(typed)
    except AblateError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print(
            "ablate: interrupted; finished runs are kept, and the same command goes on with the rest", file=sys.stderr
        )
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _dispatch(typed: list[str]) -> int:
    first = typed[0] if typed else ""
    if first in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if first == "--version":
        from importlib.metadata import version

        print(f"ablate {version('torch-ablate')}")
        return 0
    if first in _VERBS:
        return _VERBS[first](typed[1:])
    if first and not first.startswith(("-", "+", "~")) and "=" not in first:
        raise ConfigError(f"{first!r} is neither a verb nor key=value", nearest(first, _VERBS))
    return _through_hydra(typed)


def _refuse(error: AblateError) -> int:
    print(f"ablate: {error}", file=sys.stderr)
    return error.exit_code


def _parser(verb: str, says: str, *examples: str) -> argparse.ArgumentParser:
    shown = "examples:\n" + "\n".join(f"  {example}" for example in examples)
    kind = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"ablate {verb}", description=says, epilog=shown, formatter_class=kind)


def _plan(typed: list[str]) -> int:
    parser = _parser(
        "plan",
        "Print what `ablate -m` with the same arguments would run, what is already done, what is free, and how long the\n"
        "rest takes. Runs nothing and leaves nothing. Without earlier runs in study.root, a few steps are timed.",
        "ablate plan axis=batch_size study.seeds=5",
        "ablate plan data.batch_size=8,64 optim.lr=5e-5,1e-4 study.seeds=2",
        "ablate plan study=reference_imdb",
    )
    parser.add_argument("overrides", nargs="*", help="as for ablate -m")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    asked = parser.parse_args([text for text in typed if text not in ("-m", "--multirun")])
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    return _through_hydra(["-m", *more, *asked.overrides, "hydra.sweeper.plan_only=true"])


def _report(typed: list[str]) -> int:
    parser = _parser(
        "report",
        "Make the tables and the page of a study anew, and print them. A folder without a plan, of runs that other loops have\n"
        "recorded, is read as a study: its arms are compared with the arm called baseline by the settings they recorded.",
        "ablate report runs/reference",
        "ablate report runs/mine --metric eval_accuracy --smallest-effect 0.005",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--metric", help="without a plan: primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="without a plan: smallest difference that matters; 0.01")
    parser.add_argument("--accepts", default="", help="without a plan: what may come with a change, as init,order")
    asked = parser.parse_args(typed)
    from ablate.analysis.adopt import Asked

    accepts = tuple(item for item in asked.accepts.split(",") if item)
    return conclude(asked.folder, Asked(metric=asked.metric, smallest_effect=asked.smallest_effect, accepts=accepts))


def _replay(typed: list[str]) -> int:
    parser = _parser(
        "replay",
        "Show what a run that looked more rarely would have shown, read from the record; nothing is trained.",
        "ablate replay runs/reference observe.eval_every=200",
        "ablate replay runs/reference observe.eval_every='128 samples,256 samples' observe.log_every='10 steps'",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument(
        "levels", nargs="+", help="observe.eval_every=... or observe.log_every=..., several with commas"
    )
    asked = parser.parse_args(typed)
    from ablate.analysis.replay import replay
    from ablate.design.designs import REPLAYABLE
    from ablate.report import print_replay

    for text in asked.levels:
        key, equals, levels = text.partition("=")
        if not equals or key not in REPLAYABLE:
            raise ConfigError(f"{text!r}: {key!r} cannot be read from a record", nearest(key, REPLAYABLE))
        print_replay(replay(asked.folder, key, [level.strip(" '\"") for level in levels.split(",")]), _console())
    return 0


def _axes(typed: list[str]) -> int:
    parser = _parser(
        "axes",
        "List the axes, a line each: name, levels, the question it answers.",
        "ablate axes",
        "ablate axes --config-dir my",
    )
    parser.add_argument("--config-dir", type=Path, help="a folder with your own config files")
    asked = parser.parse_args(typed)
    from ablate.design.compose import opened
    from ablate.report import print_axes

    with opened(config_dir=asked.config_dir) as composer:
        print_axes(composer.axes(), _console())
    return 0


def _doctor(typed: list[str]) -> int:
    _parser(
        "doctor", "Say what works on this machine: devices, precision, packages, W&B, models, data.", "ablate doctor"
    ).parse_args(typed)
    from ablate.design.compose import opened
    from ablate.study.doctor import examine

    with opened() as composer:
        checks = examine(composer)
    for check in checks:
        print(f"{'ok  ' if check.works else '--  '}{check.name:<14}{check.sentence}")
    return 0


_VERBS: dict[str, Callable[[list[str]], int]] = {
    "plan": _plan,
    "report": _report,
    "replay": _replay,
    "axes": _axes,
    "doctor": _doctor,
}


def _through_hydra(typed: list[str]) -> int:
    """Hand the arguments to Hydra; its refusals come back as ours."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from ablate.design.compose import CONFIG_NAME, conf_dir, register_schema, version_base
    from ablate.design.refusals import is_refusal, refusal

    register_schema()
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

    from ablate.design.compose import composer_of

    hydra = HydraConfig.get()
    typed = list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        from ablate.study.launch import run_here

        return run_here(composer_of(hydra), typed)
    try:
        if config.axis is not None or config.study.axes:
            what = f"axis={config.axis.name}" if config.axis else f"study.axes={list(config.study.axes)}"
            raise ConfigError(f"{what}: an axis makes a study, and a study needs -m", f"ablate -m {shlex.join(typed)}")
        code = _single(composer_of(hydra), typed)
    except AblateError as error:
        code = _refuse(error)
    if code:
        raise SystemExit(code)  # Hydra drops what a task returns
    return None


def _single(composer: Composer, typed: list[str]) -> int:
    from ablate.record.rundir import RunDir
    from ablate.study.launch import eval_curves, look_line, pace_line, run_single

    job, outcome, fresh = run_single(composer, typed)
    print(f"{outcome.status}: {outcome.sentence}" if outcome.status == "failed" else outcome.sentence or outcome.status)
    for name, curve in eval_curves(RunDir(job.folder)).items():
        print(look_line(name, curve))
    if pace := pace_line(outcome):
        print(pace)
    print(f"run  {job.folder}" + ("" if fresh else "  (was there already; nothing was run)"))
    return int(outcome.status in ("failed", "interrupted"))


def run_sweep(composer: Composer, arguments: Sequence[str], *, launch: Launch, plan_only: bool) -> int:
    """What `hydra/sweeper=ablation` does: plan, run what is still to do, report. Returns the exit code."""
    from ablate.analysis.outcomes import check_metric
    from ablate.study.planner import make_plan
    from ablate.study.sweep import run_study

    request = composer.parse(arguments)
    prepared = make_plan(composer, request, command=f"ablate -m {shlex.join(arguments)}")
    check_metric(prepared.plan.metric)
    if plan_only:
        _print_plan(prepared)
        return 0
    return conclude(run_study(prepared, launch))


def _print_plan(prepared: Prepared) -> None:
    from ablate.report import print_plan
    from ablate.report.listing import Forecast
    from ablate.study.estimate import estimate
    from ablate.study.sweep import check_same_study, is_done
    from ablate.study.workers import num_slots

    plan, folder = prepared.plan, prepared.folder
    check_same_study(plan, folder)
    done = frozenset((run.arm, run.seed) for run in plan.runs if is_done(folder, run))
    expected = estimate(plan, folder.parent) if len(done) < len(plan.runs) else None
    slots = num_slots(plan.baseline.config["study"]["workers"])
    forecast = Forecast(done=done, slots=slots)
    if expected is not None:
        forecast = replace(forecast, seconds=expected.seconds, basis=expected.basis)
    print_plan(plan, forecast, _console())


def conclude(folder: Path, asked: Asked | None = None) -> int:
    """Make the report of a study and print it. 1 when a run or a control failed, or runs are missing."""
    from ablate.report import build_report, print_report

    analysis = build_report(folder, asked)
    print_report(analysis, folder, _console())
    failed = any(run.status in ("failed", "interrupted") for run in analysis.runs)
    return int(failed or not analysis.complete or any(control.status == "failed" for control in analysis.controls))


def _console() -> Any:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    sys.exit(main())

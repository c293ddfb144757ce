"""The command line: verbs, and everything else handed to Hydra. No logic.

Exit codes: 0 all fine; 1 a run or a control failed; 2 the request cannot be met as typed; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError, ConfigError, nearest

if TYPE_CHECKING:
    from ablate.analysis.adopt import Asked
    from ablate.design.app import AppComposer
    from ablate.design.compose import Composer
    from ablate.study.app_sweep import Launched
    from ablate.study.foreign import AppStudy
    from ablate.study.planner import Prepared
    from ablate.study.sweep import Launch

_HELP = """\
ablate: which single variable caused the difference?

  ablate [key=value ...]                      one run of the base config
  ablate -m axis=batch_size,dropout           a study: the baseline and every level of each axis, x seeds
  ablate -m data.batch_size=8,64              the same for any key
  ablate -m axis=a,b study.design=factorial   every combination: do they interact? also fractional, pairs
  ablate -m study=reference                   the reference study

  ablate plan axis=batch_size study.seeds=5   what would run, what is done, what is free, how long; runs nothing
  ablate power runs/pilot                     how many seeds? also from an assumed --sd, --rho and --effect
  ablate report runs/reference                make tables and page anew
  ablate import baseline=out/a large=out/b    read runs made elsewhere (Trainer, W&B, TensorBoard, CSV)
  ablate replay runs/reference                what would I have seen at another cadence?
  ablate bisect a.yaml b.yaml study.seeds=5   how much of the difference does each key that differs make?
  ablate mediate KEY=a,b --through grad_noise does it act through the gradient's noise? holds that, and looks
  ablate status runs/reference                how far it is; `ablate stop` ends it on every machine, to go on later
  ablate retry runs/reference                 do its failed runs again, and go on
  ablate axes                                 the standard ablations, one line each
  ablate doctor                               what works on this machine

  --accept-code-change                        keep a study's runs that other code has made, and say so

`ablate <verb> --help` has more on a verb; `ablate --hydra-help` lists the config groups and Hydra's own flags,
`--config-dir DIR` adds your own config files, and `--cfg job` prints a composed config.
"""


_ACCEPT = "study.accept_code_change=true"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(typed)
    except AblateError as error:
        return _refuse(error)
    except KeyboardInterrupt as interrupt:
        how = str(interrupt) or "interrupted"
        print(f"ablate: {how}; finished runs are kept, and the same command goes on with the rest", file=sys.stderr)
        return 130
    except OSError as error:
        from ablate.study.ends import disk_full, is_disk_full

        if not is_disk_full(error):
            raise
        return _refuse(disk_full(Path(error.filename or ".")))
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
    return _through_hydra([_ACCEPT if text == "--accept-code-change" else text for text in typed])


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
        "ablate plan axis=batch_size,dropout,warmup optim.lr=5e-5,1e-4 study.design=fractional",
        "ablate plan study=reference_imdb",
    )
    parser.add_argument("overrides", nargs="*", help="as for ablate -m")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="plan to keep runs that other code has made")
    asked = parser.parse_args([text for text in typed if text not in ("-m", "--multirun")])
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [_ACCEPT] if asked.accept_code_change else []
    return _through_hydra(["-m", *more, *asked.overrides, "hydra.sweeper.plan_only=true"])


def _power(typed: list[str]) -> int:
    parser = _parser(
        "power",
        "Say what a number of seeds can show, and how many decide: they find an effect that matters, and say `no effect`\n"
        "where there is none. The spread comes from a pilot, a study that was run with a few seeds, or is assumed.",
        "ablate power runs/pilot",
        "ablate power runs/pilot --metric eval_accuracy --effect 0.005 --seeds 3,5,8",
        "ablate power --sd 0.02 --rho 0.5 --variants 4 --effect 0.01",
    )
    parser.add_argument("folder", type=Path, nargs="?", help="of the pilot, such as runs/pilot")
    parser.add_argument("--metric", help="outcome of the pilot; its primary one")
    parser.add_argument("--sd", type=float, help="instead of a pilot: standard deviation of single runs of one arm")
    parser.add_argument("--rho", type=float, help="their correlation between arms over seeds; 0")
    parser.add_argument("--variants", type=int, help="in the new study, the baseline not counted; the pilot's, or 1")
    parser.add_argument("--effect", type=float, help="smallest effect that matters; the pilot's study.smallest_effect")
    parser.add_argument("--seeds", type=_counts, help="numbers of seeds to tell about; 3,5,8,10,15,20")
    parser.add_argument("--chance", type=float, default=0.8, help="with which an effect is to be found; 0.8")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals; 0.95")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = vars(parser.parse_args(typed))
    from ablate.analysis.power import Wanted, power
    from ablate.report import print_power, print_power_json

    folder, as_json = asked.pop("folder"), asked.pop("json")
    found = power(folder, Wanted(**{key: value for key, value in asked.items() if value is not None}))
    if as_json:
        print_power_json(found)
    else:
        print_power(found, _console())
    return 0


def _counts(typed: str) -> tuple[int, ...]:
    return tuple(_count(text.strip()) for text in typed.split(","))


def _report(typed: list[str]) -> int:
    parser = _parser(
        "report",
        "Make the tables and the page of a study anew, and print them. A folder without a plan, of runs that other loops have\n"
        "recorded, is read as a study: its arms are compared with the arm called baseline by the settings they recorded.",
        "ablate report runs/reference",
        "ablate report runs/mine --metric eval_accuracy --smallest-effect 0.005",
        "ablate report runs/reference --at steps",
        "ablate report runs/reference --at '512 samples' --json",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--metric", help="without a plan: primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="without a plan: smallest difference that matters; 0.01")
    parser.add_argument("--accepts", default="", help="without a plan: what may come with a change, as init,order")
    parser.add_argument(
        "--at",
        metavar="UNIT|'N UNIT'",
        help="compare the arms at equal steps, samples, tokens, epochs or seconds, as many as every run had, or at an amount; "
        "`end`: as they ended. What is not the study's own choice is written beside its report, not in its place",
    )
    parser.add_argument("--json", action="store_true", help="print the analysis for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.adopt import Asked

    accepts = tuple(item for item in asked.accepts.split(",") if item)
    wanted = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect, accepts=accepts)
    return conclude(asked.folder, wanted, at=asked.at, show="print_json" if asked.json else "")


def _import(typed: list[str]) -> int:
    parser = _parser(
        "import",
        "Read runs that were made elsewhere, write them as a folder of runs, and report on it. A source is a Trainer's output\n"
        "folder (trainer_state.json), TensorBoard's event files, an offline run of W&B, Lightning's metrics.csv, or a table\n"
        "(CSV, JSON). What a source does not say stays absent, and no control is proven by it.",
        "ablate import baseline=out/a,out/b batch_size=64=out/c,out/d --into runs/mine",
        "ablate import baseline='wandb/offline-run-*-a?' --into runs/mine --config-file baseline=args.json",
        "ablate import --table loss.csv --table norm.csv baseline=run-1,run-2 large=run-3,run-4 --into runs/mine",
        "ablate import baseline=log.csv --rename val_nll=eval_loss --step-column update --samples-per-step 8 --into runs/mine",
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "arms", nargs="+", metavar="ARM=SOURCE,SOURCE", help="one source is one seed; one arm is `baseline`"
    )
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="of the study, such as runs/mine")
    parser.add_argument("--as", dest="kind", metavar="FORMAT", help="where a source holds several kinds of log")
    parser.add_argument(
        "--table", type=Path, **many, metavar="CSV", help="W&B's export of a chart, whose runs are sources"
    )
    parser.add_argument("--rename", **many, metavar="NAME=OURS", help="a logged name: val_nll=eval_loss, l=loss")
    parser.add_argument("--step-column", metavar="NAME", help="the column that holds optimizer steps")
    parser.add_argument("--samples-per-step", **many, metavar="[ARM=]N", help="of all processes and passes together")
    parser.add_argument(
        "--config-file", **many, metavar="[ARM=]FILE", help="settings (JSON, YAML) in place of the source's"
    )
    parser.add_argument(
        "--number-seeds", action="store_true", help="number the runs of an arm 0, 1, ... whatever they say"
    )
    parser.add_argument("--metric", help="primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="smallest difference that matters; 0.01")
    asked = parser.parse_intermixed_args(typed)
    from ablate.analysis.adopt import Asked, check_asked
    from ablate.analysis.study import analyse
    from ablate.imports.bring import Import, bring

    then = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect)
    check_asked(then)
    brought = bring(
        Import(
            arms=asked.arms, into=asked.into, kind=asked.kind, tables=asked.table, renames=asked.rename,
            step_column=asked.step_column, samples_per_step=asked.samples_per_step, config_files=asked.config_file,
            number_seeds=asked.number_seeds,
        ),
        check=lambda folder: analyse(folder, then),
    )  # fmt: skip
    for line in brought.lines:
        print(line)
    print(f"into {asked.into}" + ("" if brought.fresh else " (the same import was there already)"), flush=True)
    return conclude(asked.into, then)


def _replay(typed: list[str]) -> int:
    parser = _parser(
        "replay",
        "Show what a run that looked more rarely would have shown, read from the record; nothing is trained. Without a level:\n"
        "how coarse a cadence each curve bears before a verdict flips, or its fall is over before the first look.",
        "ablate replay runs/reference",
        "ablate replay runs/reference observe.eval_every=200",
        "ablate replay runs/reference observe.eval_every='128 samples,256 samples' observe.log_every='10 steps'",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument(
        "levels", nargs="*", help="observe.eval_every=... or observe.log_every=..., several with commas; none: a table"
    )
    asked = parser.parse_args(typed)
    from ablate.analysis.replay import replay
    from ablate.design.designs import REPLAYABLE
    from ablate.report import print_adequacy, print_replay

    if not asked.levels:
        from ablate.analysis.study import analyse

        print_adequacy(analyse(asked.folder).adequacy, _console())
    for text in asked.levels:
        key, equals, levels = text.partition("=")
        if not equals or key not in REPLAYABLE:
            raise ConfigError(f"{text!r}: {key!r} cannot be read from a record", nearest(key, REPLAYABLE))
        print_replay(replay(asked.folder, key, [level.strip(" '\"") for level in levels.split(",")]), _console())
    return 0


def _bisect(typed: list[str]) -> int:
    parser = _parser(
        "bisect",
        "Two configs differ in several keys: how much of the difference in study.metric does each make? Runs the corners\n"
        "between the two, seed by seed, and divides the difference into shares that add up. Each config is a .yaml file, a\n"
        "run folder, or a list of overrides in quotes ('' is the base config); what follows holds for both.",
        "ablate bisect a.yaml b.yaml study.seeds=5",
        "ablate bisect 'data.batch_size=8' 'data.batch_size=64 data.train_ratio=4' study.metric=eval_loss_roughness",
        "ablate bisect runs/one/baseline/seed=0 runs/other/baseline/seed=0 axis=placebo",
        "ablate bisect a.yaml b.yaml --plan",
    )
    parser.add_argument("first", help="the config from which the difference is told")
    parser.add_argument("second", help="the config to which it leads")
    parser.add_argument("overrides", nargs="*", help="of both, and of the study; axis=placebo measures the noise floor")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="say what would run and what it costs; run nothing")
    how.add_argument("--json", action="store_true", help="the answer for a program to read")
    parser.add_argument(
        "--together", action="append", default=[], metavar="KEY,KEY", help="keys that only make sense as one change"
    )
    parser.add_argument("--all-up-to", type=_count, metavar="KEYS", help="run every corner up to so many keys; 4")
    parser.add_argument("--pairs", type=_count, metavar="N", help="above that: orders, each with its reverse; 3")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="keep the runs that other code has made")
    asked = parser.parse_intermixed_args(typed)
    from dataclasses import asdict

    from ablate.design.compose import opened, override_text
    from ablate.study.bisect import ask

    with opened(config_dir=Path(asked.config_dir) if asked.config_dir else None) as composer:
        first, bisect = ask(
            composer, asked.first, asked.second, asked.overrides, together=asked.together, all_up_to=asked.all_up_to,
            pairs=asked.pairs, command=shlex.join(["ablate", "bisect", *_less(typed, "--plan", "--json", _ACCEPT)]),
        )  # fmt: skip
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [_ACCEPT] * asked.accept_code_change + ["hydra.sweeper.plan_only=true"] * asked.plan
    more += ["hydra.sweeper.as_json=true"] * asked.json
    return _through_hydra(["-m", *first, *more, override_text("hydra.sweeper.bisect", asdict(bisect))])


def _mediate(typed: list[str]) -> int:
    parser = _parser(
        "mediate",
        "A key moves from one level to another, and study.metric with it: how much of that goes through a mediator? Runs both\n"
        "levels, and both with the mediator held at the same level, seed by seed. Mediators:\n"
        "  grad_noise           the noise of the larger batch made that of the smaller; grad_noise=N: both as of N samples\n"
        "  clip_norm=LEVEL,...  the size of the applied gradient, by clipping both levels at the same norm",
        "ablate mediate data.batch_size=8,64 --through grad_noise study.seeds=5",
        "ablate mediate data.batch_size=8,64 --through clip_norm=0.5,0.25 --through grad_noise",
        "ablate mediate data.batch_size=8,64 --through grad_noise loop.budget='128 steps'    at equal updates",
        "ablate mediate data.batch_size=8,64 --through grad_noise --plan",
    )
    parser.add_argument("overrides", nargs="+", help="one key with two levels, and what holds for every arm")
    parser.add_argument(
        "--through", action="append", default=[], metavar="MEDIATOR[=LEVEL,...]", help="what is held; may be repeated"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="say what would run and what it costs; run nothing")
    how.add_argument("--json", action="store_true", help="the answer for a program to read")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="keep the runs that other code has made")
    asked = parser.parse_intermixed_args(typed)
    from dataclasses import asdict

    from ablate.design.compose import override_text
    from ablate.study.mediate import Mediate, read_through

    read_through(asked.through)
    command = shlex.join(["ablate", "mediate", *_less(typed, "--plan", "--json", _ACCEPT)])
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [_ACCEPT] * asked.accept_code_change + ["hydra.sweeper.plan_only=true"] * asked.plan
    more += ["hydra.sweeper.as_json=true"] * asked.json
    wanted = asdict(Mediate(through=tuple(asked.through), command=command))
    return _through_hydra(["-m", *asked.overrides, *more, override_text("hydra.sweeper.mediate", wanted)])


def _count(typed: str) -> int:
    if not typed.isdecimal() or int(typed) < 1:
        raise argparse.ArgumentTypeError(f"{typed!r} is not a whole number of at least 1")
    return int(typed)


def _less(typed: Sequence[str], *options: str) -> list[str]:
    return [text for text in typed if text not in (*options, "--accept-code-change")]


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


def _status(typed: list[str]) -> int:
    parser = _parser(
        "status",
        "Say how far a study is: runs that are done, running (where, and how far), failed (why) and waiting, and how long the\n"
        "rest takes. Only reads, and may be asked on any machine that sees the folder.",
        "ablate status runs/reference",
        "ablate status runs/reference --json",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.report import print_state
    from ablate.study.state import study_state

    state = study_state(asked.folder)
    if asked.json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(state), indent=2))
    else:
        print_state(state, _console())
    return 0


def _stop(typed: list[str]) -> int:
    parser = _parser(
        "stop",
        "Ask whoever runs a study, on every machine, to stop: its runs save and end at their next step, no other run starts,\n"
        "and the same command goes on later.",
        "ablate stop runs/reference",
        "ablate stop runs/reference --after-current",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--after-current", action="store_true", help="let the running runs finish first")
    asked = parser.parse_args(typed)
    from ablate.study.stopping import stop

    print(stop(asked.folder, after_current=asked.after_current))
    return 0


def _retry(typed: list[str]) -> int:
    parser = _parser(
        "retry",
        "Do the failed runs of a study again, or the runs that are named, whatever they had come to; then go on with the\n"
        "study's own command. A failed run goes on from its checkpoint if it has one, a named run begins anew.",
        "ablate retry runs/reference",
        "ablate retry runs/reference batch_size=64/seed=3 dropout=0.2",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("runs", nargs="*", metavar="ARM[/seed=N]", help="which; none takes the failed ones")
    parser.add_argument("--accept-code-change", action="store_true", help="keep the runs that other code has made")
    asked = parser.parse_args(typed)
    from ablate.study.again import again

    names, arguments = again(asked.folder, asked.runs)
    print(f"again: {', '.join(names)}" if names else "no run has failed; the study goes on")
    print(f"with: ablate {shlex.join(arguments)}", flush=True)
    arguments += [_ACCEPT] * asked.accept_code_change
    verb = {"bisect": _bisect, "mediate": _mediate}.get(arguments[0])
    return verb(arguments[1:]) if verb else _through_hydra(arguments)


_VERBS: dict[str, Callable[[list[str]], int]] = {
    "plan": _plan,
    "power": _power,
    "report": _report,
    "import": _import,
    "replay": _replay,
    "bisect": _bisect,
    "mediate": _mediate,
    "status": _status,
    "stop": _stop,
    "retry": _retry,
    "axes": _axes,
    "doctor": _doctor,
}


def _through_hydra(typed: list[str]) -> int:
    """Hand the arguments to Hydra; its refusals come back as ours."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from ablate.design.compose import CONFIG_NAME, conf_dir, register_schema, version_base, with_open_key
    from ablate.design.refusals import is_refusal, refusal

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

    from ablate.design.compose import composer_of

    hydra = HydraConfig.get()
    typed = list(hydra.overrides.task)
    if hydra.mode == RunMode.MULTIRUN:
        from ablate.study.launch import run_here

        typed_in = hydra.sweeper.get("typed_in")
        return run_here(composer_of(hydra), typed, typed_in=Path(typed_in) if typed_in else None)
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


def run_sweep(
    composer: Composer, arguments: Sequence[str], *, launch: Launch, plan_only: bool, local: bool = True
) -> int:
    """What `hydra/sweeper=ablation` does: plan, run what is still to do, report. Returns the exit code.

    local: the runs go on this machine, whose pace can be timed.
    """
    from ablate.study.planner import make_plan

    request = composer.parse(arguments)
    prepared = make_plan(composer, request, command=_as_typed(arguments))
    return _carry_out(prepared, launch=launch, plan_only=plan_only, local=local)


def run_bisect(
    composer: Composer,
    arguments: Sequence[str],
    asked: Mapping[str, Any],
    *,
    launch: Launch,
    plan_only: bool,
    local: bool,
    as_json: bool,
) -> int:
    """The same for the corners between two configs, `ablate.study.bisect.Bisect`. Returns the exit code."""
    from ablate.study.bisect import Bisect, OneKey, prepare

    prepared = prepare(composer, arguments, Bisect.from_values(asked))
    if isinstance(prepared, OneKey):
        print(prepared.to_json() if as_json else prepared.sentence)
        return 0
    return _carry_out(prepared, launch=launch, plan_only=plan_only, local=local, as_json=as_json)


def run_mediate(
    composer: Composer,
    arguments: Sequence[str],
    asked: Mapping[str, Any],
    *,
    launch: Launch,
    plan_only: bool,
    local: bool,
    as_json: bool,
) -> int:
    """The same for a treatment whose mediator is held, `ablate.study.mediate.Mediate`. Returns the exit code."""
    from ablate.study.mediate import Mediate, prepare

    prepared = prepare(composer, arguments, Mediate.from_values(asked))
    return _carry_out(prepared, launch=launch, plan_only=plan_only, local=local, as_json=as_json)


def _carry_out(prepared: Prepared, *, launch: Launch, plan_only: bool, local: bool, as_json: bool = False) -> int:
    from ablate.analysis.outcomes import check_metric
    from ablate.analysis.study import look_at
    from ablate.study.sweep import run_study

    check_metric(prepared.plan.metric)
    if plan_only:
        _print_plan(prepared, local=local)
        return 0
    if not _confirmed(prepared, local=local):
        print("not started; nothing was run", file=sys.stderr)
        return 130
    if not as_json:
        return conclude(run_study(prepared, launch, look_at))
    with redirect_stdout(sys.stderr):  # how far it is
        folder = run_study(prepared, launch)
    return conclude(folder, show="print_shares_json")


def _as_typed(arguments: Sequence[str]) -> str:
    """The command of a study, with the options and launcher that Hydra keeps to itself. To accept code is said each time."""
    typed = [text for text in sys.argv[1:] if text != _ACCEPT]
    whole = any(text in ("-m", "--multirun") for text in typed) and all(text in typed for text in arguments)
    return shlex.join(["ablate", *typed] if whole else ["ablate", "-m", *arguments])


def run_app_sweep(
    composer: AppComposer,
    arguments: Sequence[str],
    options: Mapping[str, Any],
    *,
    launch: Callable[[AppStudy, list[str], int | None], Launched],
    modules: Sequence[str],
    plan_only: bool,
) -> int:
    """The same on a Hydra app that is not ours. Its refusals end here: to Hydra they would be failures of the app."""
    from ablate.study.app_sweep import sweep_app
    from ablate.study.foreign import Options, is_done, make_app_study

    try:
        asked = Options(**options)
        request = composer.parse(arguments, seed_key=asked.seed_key)
        study = make_app_study(composer.compose, request, asked, modules=modules, command=shlex.join(sys.orig_argv))
        if plan_only:
            for run in study.plan.runs:
                print(f"{'done' if is_done(study, run) else 'to do':<6} {run.arm}/seed={run.seed}")
            return 0
        return conclude(sweep_app(study, launch(study, list(arguments), asked.workers)))
    except AblateError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("ablate: interrupted; the same command goes on with the rest", file=sys.stderr)
        return 130


def _print_plan(prepared: Prepared, *, local: bool) -> None:
    from ablate.analysis.precedent import earlier_spread
    from ablate.report import print_plan
    from ablate.study.forecast import forecast

    plan = prepared.plan
    print_plan(plan, forecast(prepared, measure=local), earlier_spread(prepared.folder.parent, plan), _console())


def _confirmed(prepared: Prepared, *, local: bool) -> bool:
    """Ask before a study that is expected to take long. Raises StudyError where there is nobody to ask."""
    from ablate.study.confirm import longer_than_allowed

    long = longer_than_allowed(prepared, local=local)
    if long is None:
        return True
    if not sys.stdin.isatty():
        raise long.refusal()
    try:
        return input(f"{long.sentence}. Start it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def conclude(folder: Path, asked: Asked | None = None, *, at: str | None = None, show: str = "") -> int:
    """Make the report of a study and print it. 1 when a run or a control failed, or runs are missing.

    at: compare the arms there. show: print for a program to read instead: `print_json` all of it, `print_shares_json` the
    shares of a study between two configs.
    """
    from ablate import report
    from ablate.report import build_report, print_report

    analysis = build_report(folder, asked, at)
    if show:
        getattr(report, show)(analysis)
    else:
        print_report(analysis, folder, _console())
    failed = any(run.status in ("failed", "interrupted") for run in analysis.runs)
    return int(failed or not analysis.complete or any(control.status == "failed" for control in analysis.controls))


def _console() -> Any:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    sys.exit(main())

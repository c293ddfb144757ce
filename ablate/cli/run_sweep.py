"""What the sweeper `hydra/sweeper=ablation` calls: plan a study, run what is still to do, report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli._parser import ACCEPT, console, refuse
from ablate.cli.report import conclude
from ablate.errors import AblateError

if TYPE_CHECKING:
    from ablate.planning.compose import Composer
    from ablate.planning.foreign_app import AppComposer
    from ablate.planning.planner import Prepared
    from ablate.runner.foreign_app import AppStudy, Launched
    from ablate.runner.run_study import Launch


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """How a study is carried out. local: its runs go on this machine, whose pace can be timed."""

    launch: Launch
    plan_only: bool
    local: bool
    as_json: bool


def run_sweep(composer: Composer, arguments: Sequence[str], how: How) -> int:
    """What `hydra/sweeper=ablation` does: plan, run what is still to do, report. Returns the exit code."""
    from ablate.planning.planner import make_plan

    request = composer.parse(arguments)
    with redirect_stdout(sys.stderr if how.as_json else sys.stdout):
        prepared = make_plan(composer, request, command=as_typed(arguments))
    return carry_out(prepared, how)


def run_attribute(composer: Composer, arguments: Sequence[str], asked: Mapping[str, Any], how: How) -> int:
    """The same for the corners between two configs, `ablate.planning.attribution.Bisect`. Returns the exit code."""
    from ablate.planning.attribution import Bisect, OneKey, prepare

    prepared = prepare(composer, arguments, Bisect.from_values(asked))
    if isinstance(prepared, OneKey):
        print(prepared.to_json() if how.as_json else prepared.sentence)
        return 0
    return carry_out(prepared, how)


def run_mediate(composer: Composer, arguments: Sequence[str], asked: Mapping[str, Any], how: How) -> int:
    """The same for a treatment whose mediator is held, `ablate.planning.mediation.Mediate`. Returns the exit code."""
    from ablate.planning.mediation import Mediate, prepare

    prepared = prepare(composer, arguments, Mediate.from_values(asked))
    return carry_out(prepared, how)


def carry_out(prepared: Prepared, how: How) -> int:
    from ablate.analysis.analyse import look_at
    from ablate.metrics.registry import check_metric
    from ablate.runner.run_study import run_study

    check_metric(prepared.plan.metric)
    if how.plan_only:
        _print_plan(prepared, local=how.local, as_json=how.as_json)
        return 0
    if not _confirmed(prepared, local=how.local):
        print("not started; nothing was run", file=sys.stderr)
        return 130
    if not how.as_json:
        folder = run_study(prepared, how.launch, look_at)
        code = conclude(folder)
    else:
        with redirect_stdout(sys.stderr):  # how far it is
            folder = run_study(prepared, how.launch)
        code = conclude(folder, show="print_shares_json")
    _tell_of(folder, prepared)
    return code


def _tell_of(folder: Path, prepared: Prepared) -> None:
    """Hand the report to the trackers that the runs were sent to."""
    from ablate.tracking import start_study
    from ablate.tracking.describe import tracker_of

    if (follower := start_study(folder, tracker_of(prepared.plan.baseline.config))) is not None:
        follower.wait()


def as_typed(arguments: Sequence[str]) -> str:
    """The command of a study, with the options and launcher that Hydra keeps to itself. To accept code is said each time."""
    typed = [text for text in sys.argv[1:] if text != ACCEPT]
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
    from ablate.runner.foreign_app import Options, is_done, make_app_study, sweep_app

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
        return refuse(error)
    except KeyboardInterrupt:
        print("ablate: interrupted; the same command goes on with the rest", file=sys.stderr)
        return 130


def _print_plan(prepared: Prepared, *, local: bool, as_json: bool) -> None:
    from ablate.analysis.power import earlier_spread
    from ablate.report import print_plan
    from ablate.report.json import print_plan_json
    from ablate.runner.cost import forecast

    plan = prepared.plan
    with redirect_stdout(sys.stderr if as_json else sys.stdout):  # a few steps may be timed
        known, spread = forecast(prepared, measure=local), earlier_spread(prepared.folder.parent, plan)
    if as_json:
        print_plan_json(plan, known, spread)
    else:
        print_plan(plan, known, spread, console())


def _confirmed(prepared: Prepared, *, local: bool) -> bool:
    """Ask before a study that is expected to take long. Raises StudyError where there is nobody to ask."""
    from ablate.runner.cost import longer_than_allowed

    long = longer_than_allowed(prepared, local=local)
    if long is None:
        return True
    if not sys.stdin.isatty():
        raise long.refusal()
    try:
        return input(f"{long.sentence}. Start it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False

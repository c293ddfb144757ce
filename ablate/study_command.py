"""Carry out a study for `hydra/sweeper=ablation`: print its plan, or run what is still to do and report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import AblateError, StudyError
from ablate.redact import shown
from ablate.serialization import built

if TYPE_CHECKING:
    from ablate.analysis.infer_plan import PlanOptions
    from ablate.planning.compose import Composer
    from ablate.planning.planner import Prepared
    from ablate.runner.run_study import Launch

ACCEPT = "study.accept_code_change=true"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a study is carried out."""

    launch: Launch
    plan_only: bool
    """Print the plan and run nothing."""
    local: bool
    """Whether the runs go on this machine, so that a few steps can be timed."""
    as_json: bool


def plan_study(
    composer: Composer,
    arguments: Sequence[str],
    attribute: Mapping[str, Any] | None,
    mediate: Mapping[str, Any] | None,
    options: Options,
) -> int:
    """Plan the study that the arguments describe and carry it out. Returns the exit code.

    attribute, mediate: values of the `AttributionRequest` and the `MediationRequest` of these verbs.
    """
    if attribute is not None:
        from ablate.planning import attribution

        prepared = attribution.prepare(composer, arguments, built(attribution.AttributionRequest, attribute))
        if isinstance(prepared, attribution.OneKey):
            print(prepared.to_json() if options.as_json else prepared.sentence)
            return 0
    elif mediate is not None:
        from ablate.planning import mediation

        prepared = mediation.prepare(composer, arguments, built(mediation.MediationRequest, mediate))
    else:
        from ablate.planning.planner import make_plan

        with redirect_stdout(sys.stderr if options.as_json else sys.stdout):
            prepared = make_plan(composer, composer.parse(arguments), command=_command(arguments))
    return _carry_out(prepared, options)


def _carry_out(prepared: Prepared, options: Options) -> int:
    from ablate.metrics.custom import custom_metrics

    with custom_metrics(prepared.plan.metric):  # it was typed
        return _carry_out_typed(prepared, options)


def _carry_out_typed(prepared: Prepared, options: Options) -> int:
    from ablate.analysis.analyse import analyse_interim
    from ablate.metrics.registry import check_metric
    from ablate.runner.run_study import run_study

    check_metric(prepared.plan.metric)
    if options.plan_only:
        _print_plan(prepared, options)
        return 0
    if not _confirmed(prepared, local=options.local):
        print("not started; nothing was run", file=sys.stderr)
        return 130
    with redirect_stdout(sys.stderr if options.as_json else sys.stdout):  # progress
        folder = run_study(prepared, options.launch, analyse_interim)
    code = conclude(folder, show="print_shares_json") if options.as_json else conclude(folder)
    _track_study(folder, prepared)
    return code


def run_external_study(prepared: Prepared, launch: Launch | None) -> int:
    """Carry out a study of an external app; launch=None only prints its plan. Returns the exit code."""
    from ablate.records.layout import StudyDir
    from ablate.runner.external_app import check_returned
    from ablate.runner.freeze import is_done
    from ablate.runner.run_study import run_study

    plan, folder = prepared.plan, prepared.folder
    done = [run for run in plan.runs if is_done(plan, folder, run)]
    if launch is None:
        for run in plan.runs:
            print(shown(f"{'done' if run in done else 'to do':<6} {run.name}"))
        return 0
    compared = f"compared: {plan.metric or 'what main returns'}; smallest effect that matters {plan.smallest_effect:g}"
    print(shown(f"{plan.study}  {len(plan.runs)} runs, {len(done)} done; {compared}"), flush=True)
    for run in done:
        check_returned(plan, StudyDir(folder).run(run.arm, run.seed))
    return conclude(run_study(prepared, launch))


def refusals_printed(command: Callable[[], int]) -> int:
    """Run a command inside an external app; print its refusals, which Hydra would print as failures of the app."""
    try:
        return command()
    except AblateError as error:
        return print_refusal(error)
    except KeyboardInterrupt:
        print("ablate: interrupted; the same command goes on with the rest", file=sys.stderr)
        return 130


def print_refusal(error: AblateError) -> int:
    """Print why a request cannot be met and how to fix it. Returns the exit code."""
    print(shown(f"ablate: {error}"), file=sys.stderr)
    return error.exit_code


def conclude(folder: Path, plan_options: PlanOptions | None = None, *, at: str | None = None, show: str = "") -> int:
    """Make the report of a study and print it. Returns 1 when a run or a control failed, or runs are missing.

    at: compare the arms there. show: function of `ablate.report` that prints JSON instead: `print_json` all of it,
    `print_shares_json` the shares of a study between two configs.
    """
    from ablate import report
    from ablate.analysis.analyse import analyse
    from ablate.runner.failures import is_disk_full

    problem = ""
    try:
        analysis = report.build_report(folder, plan_options, at)
    except OSError as error:
        if is_disk_full(error):
            raise
        problem = f"the report was not written into {folder}: {error.strerror or error}"  # another's study is read all the same
        analysis = analyse(folder, plan_options, at)
    if show:
        getattr(report, show)(analysis)
    else:
        from rich.console import Console

        report.print_report(analysis, folder, Console())
    if problem:
        print(shown(problem), file=sys.stderr)
    failed = any(run.status in ("failed", "interrupted") for run in analysis.runs)
    return int(failed or not analysis.complete or any(control.status == "failed" for control in analysis.controls))


def _track_study(folder: Path, prepared: Prepared) -> None:
    """Send the report to the trackers that the runs were sent to."""
    from ablate.tracking import LOG, start_study
    from ablate.tracking.describe import tracker_of

    if (follower := start_study(folder, tracker_of(prepared.plan.baseline.config))) is not None and not follower.wait():
        print(f"the tracker has not answered yet; its process goes on for a minute: {folder / LOG}", file=sys.stderr)


def _command(arguments: Sequence[str]) -> str:
    """Return the command of a study, with the options and launcher that Hydra removes. Accepting code is not part of it."""
    argv = [text for text in sys.argv[1:] if text != ACCEPT]
    whole = any(text in ("-m", "--multirun") for text in argv) and all(text in argv for text in arguments)
    return shlex.join(["ablate", *argv] if whole else ["ablate", "-m", *arguments])


def _print_plan(prepared: Prepared, options: Options) -> None:
    from rich.console import Console

    from ablate.analysis.power import earlier_spread
    from ablate.report import print_plan
    from ablate.report.json import print_plan_json
    from ablate.runner.forecast import forecast

    plan = prepared.plan
    with redirect_stdout(sys.stderr if options.as_json else sys.stdout):  # a few steps may be timed
        known, spread = forecast(prepared, measure=options.local), earlier_spread(prepared.folder.parent, plan)
    if options.as_json:
        print_plan_json(plan, known, spread)
    else:
        print_plan(plan, known, spread, Console())


def _confirmed(prepared: Prepared, *, local: bool) -> bool:
    """Ask before a study that is expected to take long. Raises StudyError where there is no terminal to ask on."""
    from ablate.runner.forecast import too_long

    refusal = too_long(prepared, local=local)
    if refusal is None:
        return True
    if not sys.stdin.isatty():
        raise StudyError(f"{refusal.problem}; there is no terminal to ask on, and nothing was started", refusal.fix)
    try:
        return input(f"{refusal.problem}. Start it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False

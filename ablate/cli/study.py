"""Verbs for a study that is running or was interrupted: `ablate status`, `ablate stop` and `ablate retry`."""

from __future__ import annotations

import shlex

from ablate.cli._parser import ACCEPT, console, parser_of
from ablate.cli.attribute import run_attribute, run_mediate
from ablate.cli.run import through_hydra


def run_retry(argv: list[str]) -> int:
    parser = parser_of(
        "retry",
        "Repeat the failed runs of a study, or the named runs whatever their status; then continue the study with its "
        "own command. A failed run continues from its checkpoint if it has one, a named run begins again.",
        "ablate retry runs/reference",
        "ablate retry runs/reference batch_size=64/seed=3 dropout=0.2",
        study=True,
    )
    parser.add_argument("runs", nargs="*", metavar="ARM[/seed=N]", help="runs to repeat (default: the failed ones)")
    parser.add_argument("--accept-code-change", action="store_true", help="keep runs that other code has made")
    args = parser.parse_args(argv)
    from ablate.runner.retry import again

    names, arguments = again(args.folder, args.runs)
    print(f"again: {', '.join(names)}" if names else "no run has failed; the study continues")
    print(f"with: ablate {shlex.join(arguments)}", flush=True)
    arguments += [ACCEPT] * args.accept_code_change
    verb = {"attribute": run_attribute, "mediate": run_mediate}.get(arguments[0])
    return verb(arguments[1:]) if verb else through_hydra(arguments)


def run_status(argv: list[str]) -> int:
    parser = parser_of(
        "status",
        "Print how far a study is: runs that are done, running (where, and how far), failed (why) and waiting, and "
        "the time left. Only reads, and works on any machine that shares the directory.",
        "ablate status runs/reference",
        "ablate status runs/reference --json",
        study=True,
        json=True,
    )
    args = parser.parse_args(argv)
    from ablate.report import print_state
    from ablate.runner.status import study_state

    state = study_state(args.folder)
    if args.json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(state), indent=2))
    else:
        print_state(state, console())
    return 0


def run_stop(argv: list[str]) -> int:
    parser = parser_of(
        "stop",
        "Stop a study on every machine that runs it: its runs save and end at their next step, no other run starts, "
        "and the same command continues it later.",
        "ablate stop runs/reference",
        "ablate stop runs/reference --after-current",
        study=True,
    )
    parser.add_argument("--after-current", action="store_true", help="let the running runs finish first")
    args = parser.parse_args(argv)
    from ablate.runner.stop import stop

    print(stop(args.folder, after_current=args.after_current))
    return 0

"""`ablate retry`."""

from __future__ import annotations

import shlex
from pathlib import Path

from ablate.cli._parser import ACCEPT, console, parser_of
from ablate.cli.attribute import run_attribute, run_mediate
from ablate.cli.run import through_hydra


def run_retry(typed: list[str]) -> int:
    parser = parser_of(
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
    from ablate.runner.retry import again

    names, arguments = again(asked.folder, asked.runs)
    print(f"again: {', '.join(names)}" if names else "no run has failed; the study goes on")
    print(f"with: ablate {shlex.join(arguments)}", flush=True)
    arguments += [ACCEPT] * asked.accept_code_change
    verb = {"attribute": run_attribute, "mediate": run_mediate}.get(arguments[0])
    return verb(arguments[1:]) if verb else through_hydra(arguments)


# `ablate status`.


def run_status(typed: list[str]) -> int:
    parser = parser_of(
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
    from ablate.runner.status import study_state

    state = study_state(asked.folder)
    if asked.json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(state), indent=2))
    else:
        print_state(state, console())
    return 0


# `ablate stop`.


def run_stop(typed: list[str]) -> int:
    parser = parser_of(
        "stop",
        "Ask whoever runs a study, on every machine, to stop: its runs save and end at their next step, no other run starts,\n"
        "and the same command goes on later.",
        "ablate stop runs/reference",
        "ablate stop runs/reference --after-current",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--after-current", action="store_true", help="let the running runs finish first")
    asked = parser.parse_args(typed)
    from ablate.runner.stop import stop

    print(stop(asked.folder, after_current=asked.after_current))
    return 0

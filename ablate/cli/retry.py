"""`ablate retry`."""

from __future__ import annotations

import shlex
from pathlib import Path

from ablate.cli import bisect, mediate
from ablate.cli.hydra_door import through_hydra
from ablate.cli.parse import ACCEPT, parser_of


def run(typed: list[str]) -> int:
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
    from ablate.study.again import again

    names, arguments = again(asked.folder, asked.runs)
    print(f"again: {', '.join(names)}" if names else "no run has failed; the study goes on")
    print(f"with: ablate {shlex.join(arguments)}", flush=True)
    arguments += [ACCEPT] * asked.accept_code_change
    verb = {"bisect": bisect.run, "mediate": mediate.run}.get(arguments[0])
    return verb(arguments[1:]) if verb else through_hydra(arguments)

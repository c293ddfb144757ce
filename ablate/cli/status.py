"""`ablate status`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
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
    from ablate.study.state import study_state

    state = study_state(asked.folder)
    if asked.json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(state), indent=2))
    else:
        print_state(state, console())
    return 0

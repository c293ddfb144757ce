"""`ablate stop`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
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
    from ablate.study.stopping import stop

    print(stop(asked.folder, after_current=asked.after_current))
    return 0

"""`ablate replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablate.cli.parse import console, parser_of
from ablate.errors import ConfigError, nearest


def run(typed: list[str]) -> int:
    parser = parser_of(
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
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.replay import replay
    from ablate.design.designs import REPLAYABLE
    from ablate.report import print_adequacy, print_replay
    from ablate.report.as_json import print_replays_json

    found: list[Any] = []
    for text in asked.levels:
        key, equals, levels = text.partition("=")
        if not equals or key not in REPLAYABLE:
            raise ConfigError(f"{text!r}: {key!r} cannot be read from a record", nearest(key, REPLAYABLE))
        found += replay(asked.folder, key, [level.strip(" '\"") for level in levels.split(",")])
    from ablate.analysis.study import analyse

    cadences = () if asked.levels else analyse(asked.folder).adequacy
    if asked.json:
        print_replays_json(asked.folder.name, found, cadences)
    elif asked.levels:
        print_replay(found, console())
    else:
        print_adequacy(cadences, console())
    return 0

"""`ablate replay`."""

from __future__ import annotations

from pathlib import Path

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
    asked = parser.parse_args(typed)
    from ablate.analysis.replay import replay
    from ablate.design.designs import REPLAYABLE
    from ablate.report import print_adequacy, print_replay

    if not asked.levels:
        from ablate.analysis.study import analyse

        print_adequacy(analyse(asked.folder).adequacy, console())
    for text in asked.levels:
        key, equals, levels = text.partition("=")
        if not equals or key not in REPLAYABLE:
            raise ConfigError(f"{text!r}: {key!r} cannot be read from a record", nearest(key, REPLAYABLE))
        print_replay(replay(asked.folder, key, [level.strip(" '\"") for level in levels.split(",")]), console())
    return 0

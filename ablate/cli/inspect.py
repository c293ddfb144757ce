"""`ablate compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablate.cli._parser import console, parser_of
from ablate.errors import ConfigError, nearest


def run_compare(typed: list[str]) -> int:
    parser = parser_of(
        "compare",
        "Two runs side by side: outcomes and their difference, curves, what differs and what is equal, and what that proves,\n"
        "which is little: two single runs cannot tell a change from chance. A run is its folder, or an archive of it.",
        "ablate compare runs/x/baseline/seed=0 runs/x/batch_size=64/seed=0",
        "ablate compare runs/x/baseline/seed=0 bundle.tar/baseline/seed=0 --all",
        "ablate compare runs/x/baseline/seed=0 runs/x/batch_size=64/seed=0 --json",
    )
    parser.add_argument("first", metavar="RUN", help="from which the difference is told")
    parser.add_argument("second", metavar="RUN", help="to which it leads")
    parser.add_argument("--all", action="store_true", help="every outcome that both have")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.run_comparison import compare_runs
    from ablate.records.open_run import open_run
    from ablate.report.run_comparison import print_comparison, print_comparison_json

    with open_run(asked.first) as first, open_run(asked.second) as second:
        found = compare_runs(first, second, (asked.first, asked.second))
    if asked.json:
        print_comparison_json(found)
    else:
        print_comparison(found, console(), every=asked.all)
    return 0


# `ablate diff`.


def run_diff(typed: list[str]) -> int:
    parser = parser_of(
        "diff",
        "What two runs differ in: config leaves by type and value, data, environment, code, and the fingerprint of what was\n"
        "really trained. Ends with 0 where they are equal in all that can change a result, with 1 where they are not.",
        "ablate diff runs/x/baseline/seed=0 runs/x/batch_size=64/seed=0",
        "ablate diff runs/mine/baseline/seed=0 theirs.tar.gz/baseline/seed=0 --json",
    )
    parser.add_argument("first", metavar="RUN", help="a run's folder, or an archive of it")
    parser.add_argument("second", metavar="RUN", help="the other one")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.run_comparison import diff_runs
    from ablate.records.open_run import open_run
    from ablate.report.run_comparison import print_diff, print_diff_json

    with open_run(asked.first) as first, open_run(asked.second) as second:
        found = diff_runs(first, second, (asked.first, asked.second))
    if asked.json:
        print_diff_json(found)
    else:
        print_diff(found, console())
    return int(not found.same)


# `ablate resample`.


def run_resample(typed: list[str]) -> int:
    parser = parser_of(
        "resample",
        "Show what a run that looked more rarely would have shown, read from the record; nothing is trained. Without a level:\n"
        "how coarse a cadence each curve bears before a verdict flips, or its fall is over before the first look.",
        "ablate resample runs/reference",
        "ablate resample runs/reference eval.every=200",
        "ablate resample runs/reference eval.every='128 samples,256 samples' tracker.log_every='10 steps'",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument(
        "levels", nargs="*", help="eval.every=... or tracker.log_every=..., several with commas; none: a table"
    )
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.resample import resample
    from ablate.design.axis_files import REPLAYABLE
    from ablate.report import print_adequacy, print_replay
    from ablate.report.json import print_replays_json

    found: list[Any] = []
    for text in asked.levels:
        key, equals, levels = text.partition("=")
        if not equals or key not in REPLAYABLE:
            raise ConfigError(f"{text!r}: {key!r} cannot be read from a record", nearest(key, REPLAYABLE))
        found += resample(asked.folder, key, [level.strip(" '\"") for level in levels.split(",")])
    from ablate.analysis.analyse import analyse

    cadences = () if asked.levels else analyse(asked.folder).adequacy
    if asked.json:
        print_replays_json(asked.folder.name, found, cadences)
    elif asked.levels:
        print_replay(found, console())
    else:
        print_adequacy(cadences, console())
    return 0

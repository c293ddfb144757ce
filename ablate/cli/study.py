"""Verbs for a study that exists: `ablate status`, `stop`, `retry` and `resample`; and for its runs: `compare` and `diff`."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from ablate.cli._parser import ACCEPT, consent, console, parser_of
from ablate.cli.plan import run_attribute, run_mediate
from ablate.cli.run import through_hydra
from ablate.errors import ConfigError, nearest
from ablate.redact import redact, shown


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
    from ablate.runner.status import retry

    names, arguments = retry(args.folder, args.runs)
    print(shown(f"again: {', '.join(names)}" if names else "no run has failed; the study continues"))
    print(shown(f"with: ablate {shlex.join(arguments)}"), flush=True)
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

        print(redact(json.dumps(asdict(state), indent=2)))
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
    from ablate.runner.status import stop

    print(shown(stop(args.folder, after_current=args.after_current)))
    return 0


def run_compare(argv: list[str]) -> int:
    parser = _two_runs(
        "compare",
        "Compare two runs: metrics and their difference, curves, what differs and what is equal, and what that "
        "shows. Two single runs cannot distinguish an effect from chance. A run is its directory, or an archive of "
        "it.",
        "ablate compare runs/x/baseline/seed=0 runs/x/batch_size=64/seed=0",
        "ablate compare runs/x/baseline/seed=0 bundle.tar/baseline/seed=0 --all",
        "ablate compare runs/x/baseline/seed=0 runs/x/batch_size=64/seed=0 --json",
    )
    parser.add_argument("--all", action="store_true", help="print every metric that both runs have")
    args = parser.parse_args(argv)
    from ablate.analysis.run_comparison import compare_runs
    from ablate.records.run_files import open_run
    from ablate.report.json import print_object
    from ablate.report.run_comparison import print_comparison

    with open_run(args.first) as first, open_run(args.second) as second:
        comparison = compare_runs(first, second, (args.first, args.second))
    if args.json:
        print_object(comparison.to_json())
    else:
        print_comparison(comparison, console(), every=args.all)
    return 0


def run_diff(argv: list[str]) -> int:
    parser = _two_runs(
        "diff",
        "List what two runs differ in: config keys, data, environment, code, and the fingerprint of the objects that "
        "were trained. Exit code 0 where they are equal in everything that can change a result, 1 where they are not.",
        "ablate diff runs/x/baseline/seed=0 runs/x/batch_size=64/seed=0",
        "ablate diff runs/mine/baseline/seed=0 theirs.tar.gz/baseline/seed=0 --json",
    )
    args = parser.parse_args(argv)
    from ablate.analysis.run_comparison import diff_runs
    from ablate.records.run_files import open_run
    from ablate.report.json import print_object
    from ablate.report.run_comparison import print_diff

    with open_run(args.first) as first, open_run(args.second) as second:
        diff = diff_runs(first, second, (args.first, args.second))
    if args.json:
        print_object(diff.to_json())
    else:
        print_diff(diff, console())
    return int(not diff.same)


def _two_runs(verb: str, description: str, *examples: str) -> argparse.ArgumentParser:
    parser = parser_of(verb, description, *examples, json=True)
    parser.add_argument("first", metavar="RUN", help="run directory, or an archive of a run")
    parser.add_argument("second", metavar="RUN", help="run to compare it with; differences are second minus first")
    return parser


def run_resample(argv: list[str]) -> int:
    parser = parser_of(
        "resample",
        "Show what the same training runs would have shown if evaluated or logged less often, read from their "
        "records; nothing is trained. Without a value: the coarsest adequate cadence of each curve, and how much of "
        "its decrease comes before the first evaluation.",
        "ablate resample runs/reference",
        "ablate resample runs/reference eval.every=200",
        "ablate resample runs/reference eval.every='128 samples,256 samples' tracker.log_every='10 steps'",
        study=True,
        json=True,
        custom_metric=True,
    )
    parser.add_argument(
        "cadences",
        nargs="*",
        metavar="KEY=VALUE,...",
        help="eval.every=... or tracker.log_every=... with one or more values (default: a table of cadences)",
    )
    args = parser.parse_args(argv)
    from ablate.analysis.analyse import analyse
    from ablate.analysis.resample import resample
    from ablate.design.axis_files import REPLAYABLE
    from ablate.report import print_adequacy, print_replay
    from ablate.report.json import print_object

    replays: list[Any] = []
    for text in args.cadences:
        key, equals, values = text.partition("=")
        if not equals or key not in REPLAYABLE:
            raise ConfigError(f"{text!r}: {key!r} cannot be read from a record", nearest(key, REPLAYABLE))
        replays += resample(args.folder, key, [value.strip(" '\"") for value in values.split(",")])
    with consent(args):
        adequacy = () if args.cadences else analyse(args.folder).adequacy
    if args.json:
        print_object({"study": args.folder.name, "levels": replays, "adequacy": adequacy})
    elif args.cadences:
        print_replay(replays, console())
    else:
        print_adequacy(adequacy, console())
    return 0

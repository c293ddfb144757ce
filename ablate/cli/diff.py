"""`ablate diff`."""

from __future__ import annotations

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
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
    from ablate.analysis.two_runs import diff_runs
    from ablate.record.laid_open import laid_open
    from ablate.report.two_runs import print_diff, print_diff_json

    with laid_open(asked.first) as first, laid_open(asked.second) as second:
        found = diff_runs(first, second, (asked.first, asked.second))
    if asked.json:
        print_diff_json(found)
    else:
        print_diff(found, console())
    return int(not found.same)

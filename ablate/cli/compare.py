"""`ablate compare`."""

from __future__ import annotations

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
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
    from ablate.analysis.two_runs import compare_runs
    from ablate.record.laid_open import laid_open
    from ablate.report.two_runs import print_comparison, print_comparison_json

    with laid_open(asked.first) as first, laid_open(asked.second) as second:
        found = compare_runs(first, second, (asked.first, asked.second))
    if asked.json:
        print_comparison_json(found)
    else:
        print_comparison(found, console(), every=asked.all)
    return 0

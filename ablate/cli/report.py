"""`ablate report`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.conclude import conclude
from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "report",
        "Make the tables and the page of a study anew, and print them. A folder without a plan, of runs that other loops have\n"
        "recorded, is read as a study: its arms are compared with the arm called baseline by the settings they recorded.",
        "ablate report runs/reference",
        "ablate report runs/mine --metric eval_accuracy --smallest-effect 0.005",
        "ablate report runs/reference --at steps",
        "ablate report runs/reference --at '512 samples' --json",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--metric", help="without a plan: primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="without a plan: smallest difference that matters; 0.01")
    parser.add_argument("--accepts", default="", help="without a plan: what may come with a change, as init,order")
    parser.add_argument(
        "--at",
        metavar="UNIT|'N UNIT'",
        help="compare the arms at equal steps, samples, tokens, epochs or seconds, as many as every run had, or at an amount; "
        "`end`: as they ended. What is not the study's own choice is written beside its report, not in its place",
    )
    parser.add_argument("--json", action="store_true", help="print the analysis for a program to read")
    asked = parser.parse_args(typed)
    from ablate.analysis.adopt import Asked

    accepts = tuple(item for item in asked.accepts.split(",") if item)
    wanted = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect, accepts=accepts)
    return conclude(asked.folder, wanted, at=asked.at, show="print_json" if asked.json else "")

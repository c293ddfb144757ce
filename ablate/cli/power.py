"""`ablate power`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import console, count, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "power",
        "Say what a number of seeds can show, and how many decide: they find an effect that matters, and say `no effect`\n"
        "where there is none. The spread comes from a pilot, a study that was run with a few seeds, or is assumed.",
        "ablate power runs/pilot",
        "ablate power runs/pilot --metric eval_accuracy --effect 0.005 --seeds 3,5,8",
        "ablate power --sd 0.02 --rho 0.5 --variants 4 --effect 0.01",
    )
    parser.add_argument("folder", type=Path, nargs="?", help="of the pilot, such as runs/pilot")
    parser.add_argument("--metric", help="outcome of the pilot; its primary one")
    parser.add_argument("--sd", type=float, help="instead of a pilot: standard deviation of single runs of one arm")
    parser.add_argument("--rho", type=float, help="their correlation between arms over seeds; 0")
    parser.add_argument("--variants", type=int, help="in the new study, the baseline not counted; the pilot's, or 1")
    parser.add_argument("--effect", type=float, help="smallest effect that matters; the pilot's study.smallest_effect")
    parser.add_argument("--seeds", type=_counts, help="numbers of seeds to tell about; 3,5,8,10,15,20")
    parser.add_argument("--chance", type=float, default=0.8, help="with which an effect is to be found; 0.8")
    parser.add_argument("--level", type=float, default=0.95, help="of the intervals; 0.95")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = vars(parser.parse_args(typed))
    from ablate.analysis.power import Wanted, power
    from ablate.report import print_power, print_power_json

    folder, as_json = asked.pop("folder"), asked.pop("json")
    found = power(folder, Wanted(**{key: value for key, value in asked.items() if value is not None}))
    if as_json:
        print_power_json(found)
    else:
        print_power(found, console())
    return 0


def _counts(typed: str) -> tuple[int, ...]:
    return tuple(count(text.strip()) for text in typed.split(","))

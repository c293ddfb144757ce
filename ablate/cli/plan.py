"""`ablate axes`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli._parser import ACCEPT, console, count, parser_of
from ablate.cli.run import through_hydra


def run_axes(typed: list[str]) -> int:
    parser = parser_of(
        "axes",
        "List the standard ablations by kind, a line each; with a name, show one whole: what it moves and holds, what comes "
        "along, what to expect, and the command.",
        "ablate axes",
        "ablate axes accumulation",
        "ablate axes --config-dir my",
    )
    parser.add_argument("name", nargs="?", help="of one axis, as it is listed")
    parser.add_argument("--config-dir", type=Path, help="a folder with your own config files")
    parser.add_argument(
        "--with-overrides",
        action="store_true",
        help="of one axis, only the overrides that belong beside it, a line each",
    )
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    if asked.with_overrides and asked.name is None:
        parser.error("--with-overrides is of one axis: ablate axes NAME --with-overrides")
    from ablate.planning.compose import opened
    from ablate.report import print_axes, print_axis
    from ablate.report.json import print_axes_json

    with opened(config_dir=asked.config_dir) as composer:
        axes = composer.axes() if asked.name is None else (composer.axis(asked.name),)
    if asked.json:
        print_axes_json(axes)
    elif asked.with_overrides:
        print("".join(f"{text}\n" for text in axes[0].requires), end="")
    elif asked.name is None:
        print_axes(axes, console())
    else:
        print_axis(axes[0], console())
    return 0


# `ablate plan`.


def run_plan(typed: list[str]) -> int:
    parser = parser_of(
        "plan",
        "Print what `ablate -m` with the same arguments would run, what is already done, what is free, and how long the\n"
        "rest takes. Runs nothing and leaves nothing. Without earlier runs in study.output_dir, a few steps are timed.",
        "ablate plan axis=batch_size study.seeds=5",
        "ablate plan data.batch_size=8,64 optim.lr=5e-5,1e-4 study.seeds=2",
        "ablate plan axis=batch_size,dropout,warmup optim.lr=5e-5,1e-4 study.design=fractional",
        "ablate plan study=reference_imdb",
    )
    parser.add_argument("overrides", nargs="*", help="as for ablate -m")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="plan to keep runs that other code has made")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args([text for text in typed if text not in ("-m", "--multirun")])
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [ACCEPT] if asked.accept_code_change else []
    as_json = ["hydra.sweeper.as_json=true"] * asked.json
    return through_hydra(["-m", *more, *asked.overrides, "hydra.sweeper.plan_only=true", *as_json])


# `ablate power`.


def run_power(typed: list[str]) -> int:
    parser = parser_of(
        "power",
        "Say what a number of seeds can show, and how many decide: they find an effect that matters, and say `no effect`\n"
        "where there is none. The spread comes from a pilot, a study that was run with a few seeds, or is assumed.",
        "ablate power runs/pilot",
        "ablate power runs/pilot --metric eval_accuracy --smallest-effect 0.005 --seeds 3,5,8",
        "ablate power --sd 0.02 --rho 0.5 --variants 4 --smallest-effect 0.01",
    )
    parser.add_argument("folder", type=Path, nargs="?", help="of the pilot, such as runs/pilot")
    parser.add_argument("--metric", help="outcome of the pilot; its primary one")
    parser.add_argument("--sd", type=float, help="instead of a pilot: standard deviation of single runs of one arm")
    parser.add_argument("--rho", type=float, help="their correlation between arms over seeds; 0")
    parser.add_argument("--variants", type=int, help="in the new study, the baseline not counted; the pilot's, or 1")
    parser.add_argument(
        "--smallest-effect", dest="effect", type=float, help="smallest effect that matters; the pilot's study.smallest_effect"
    )
    parser.add_argument("--seeds", type=_counts, help="numbers of seeds to tell about; 3,5,8,10,15,20")
    parser.add_argument("--power", dest="chance", type=float, default=0.8, help="with which an effect is to be found; 0.8")
    parser.add_argument("--confidence", dest="level", type=float, default=0.95, help="of the intervals; 0.95")
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

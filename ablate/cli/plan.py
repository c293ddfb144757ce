"""Verbs before a study: `ablate axes`, `ablate plan` and `ablate power`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli._parser import add_study_options, console, counts, parser_of, study_overrides
from ablate.cli.run import through_hydra


def run_axes(argv: list[str]) -> int:
    parser = parser_of(
        "axes",
        "List the standard ablations by kind, one line each. With a name, show one axis: its keys, what must match, "
        "derived changes, the hypothesis, and the command.",
        "ablate axes",
        "ablate axes accumulation",
        "ablate axes --config-dir my",
        json=True,
    )
    parser.add_argument("name", nargs="?", help="axis name, as listed")
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="directory with your own config files")
    parser.add_argument(
        "--with-overrides", action="store_true", help="print only the overrides that this axis requires"
    )
    args = parser.parse_args(argv)
    if args.with_overrides and args.name is None:
        parser.error("--with-overrides needs an axis: ablate axes NAME --with-overrides")
    from ablate.planning.compose import opened
    from ablate.report import print_axes, print_axis
    from ablate.report.json import print_object

    with opened(config_dir=args.config_dir) as composer:
        axes = composer.axes() if args.name is None else (composer.axis(args.name),)
    if args.json:
        print_object({"axes": axes})
    elif args.with_overrides:
        print("".join(f"{text}\n" for text in axes[0].requires), end="")
    elif args.name is None:
        print_axes(axes, console())
    else:
        print_axis(axes[0], console())
    return 0


def run_plan(argv: list[str]) -> int:
    parser = parser_of(
        "plan",
        "Print what `ablate -m` with the same arguments would run: arms, runs that are done or reused, and the time, "
        "memory and disk space of the rest. Runs nothing and writes nothing. Without earlier runs in study.output_dir, a "
        "few steps are timed.",
        "ablate plan axis=batch_size study.seeds=5",
        "ablate plan data.batch_size=8,64 optim.lr=5e-5,1e-4 study.seeds=2",
        "ablate plan axis=batch_size,dropout,warmup optim.lr=5e-5,1e-4 study.design=fractional",
        "ablate plan study=reference_imdb",
        json=True,
    )
    parser.add_argument("overrides", nargs="*", help="arguments as for ablate -m")
    add_study_options(parser, plan=False)
    args = parser.parse_args([text for text in argv if text not in ("-m", "--multirun")])
    return through_hydra(["-m", *args.overrides, *study_overrides(args, plan_only=True)])


def run_power(argv: list[str]) -> int:
    parser = parser_of(
        "power",
        "Print which effects a number of seeds can detect, and how many seeds decide between an effect of interest "
        "and equivalence. The spread between runs is taken from a pilot study with a few seeds, or assumed.",
        "ablate power runs/pilot",
        "ablate power runs/pilot --metric eval_accuracy --smallest-effect 0.005 --seeds 3,5,8",
        "ablate power --sd 0.02 --rho 0.5 --variants 4 --smallest-effect 0.01",
        json=True,
    )
    parser.add_argument("folder", type=Path, nargs="?", help="study directory of the pilot, such as runs/pilot")
    parser.add_argument("--metric", help="metric of the pilot (default: its primary metric)")
    parser.add_argument("--sd", type=float, help="without a pilot: standard deviation between runs of one arm")
    parser.add_argument("--rho", type=float, help="without a pilot: correlation of two arms over seeds (default: 0)")
    parser.add_argument("--variants", type=int, help="variants in the new study (default: as in the pilot, or 1)")
    parser.add_argument(
        "--smallest-effect",
        dest="effect",
        type=float,
        metavar="EFFECT",
        help="smallest effect of interest (default: as in the pilot)",
    )
    parser.add_argument("--seeds", type=counts, metavar="N,...", help="numbers of seeds (default: 3,5,8,10,15,20)")
    parser.add_argument("--power", dest="chance", metavar="POWER", type=float, default=0.8, help="power (default: 0.8)")
    parser.add_argument(
        "--confidence",
        dest="level",
        metavar="LEVEL",
        type=float,
        default=0.95,
        help="confidence level of the intervals (default: 0.95)",
    )
    args = vars(parser.parse_args(argv))
    from ablate.analysis.power import PowerOptions, power
    from ablate.report import print_power
    from ablate.report.json import print_object

    folder, as_json = args.pop("folder"), args.pop("json")
    result = power(folder, PowerOptions(**{key: value for key, value in args.items() if value is not None}))
    if as_json:
        print_object(result.to_json())
    else:
        print_power(result, console())
    return 0

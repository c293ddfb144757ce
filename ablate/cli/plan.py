"""Verbs that plan a study: `ablate axes`, `plan` and `power`; `ablate attribute` and `mediate` plan its arms and run it."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

from ablate.cli._parser import add_study_options, consent, console, count, counts, parser_of, study_overrides, without
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
    add = parser.add_argument
    add("name", nargs="?", help="axis name, as listed")
    add("--config-dir", type=Path, metavar="DIR", help="directory with your own config files")
    add("--with-overrides", action="store_true", help="print only the overrides that this axis requires")
    args = parser.parse_args(argv)
    if args.with_overrides and args.name is None:
        parser.error("--with-overrides needs an axis: ablate axes NAME --with-overrides")
    from ablate.planning.compose import opened
    from ablate.report import print_axes, print_axis
    from ablate.report.json import print_object

    with opened(config_dir=args.config_dir) as composer:
        axes = composer.axes(None if args.name is None else [args.name])
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
        custom_metric=True,
    )
    add = parser.add_argument
    add("folder", type=Path, nargs="?", help="study directory of the pilot, such as runs/pilot")
    add("--metric", help="metric of the pilot (default: its primary metric)")
    add("--sd", type=float, help="without a pilot: standard deviation between runs of one arm")
    add("--rho", type=float, help="without a pilot: correlation of two arms over seeds (default: 0)")
    add("--variants", type=int, help="variants in the new study (default: as in the pilot, or 1)")
    add(
        "--smallest-effect",
        dest="effect",
        type=float,
        metavar="EFFECT",
        help="smallest effect of interest (default: as in the pilot)",
    )
    add("--seeds", type=counts, metavar="N,...", help="numbers of seeds (default: 3,5,8,10,15,20)")
    add("--power", dest="chance", metavar="POWER", type=float, default=0.8, help="power (default: 0.8)")
    add(
        "--confidence",
        dest="level",
        metavar="LEVEL",
        type=float,
        default=0.95,
        help="confidence level of the intervals (default: 0.95)",
    )
    typed = parser.parse_args(argv)
    args = {key: value for key, value in vars(typed).items() if key != "run_custom_metric"}
    from ablate.analysis.power import PowerOptions, power
    from ablate.report import print_power
    from ablate.report.json import print_object

    folder, as_json = args.pop("folder"), args.pop("json")
    with consent(typed):
        result = power(folder, PowerOptions(**{key: value for key, value in args.items() if value is not None}))
    if as_json:
        print_object(result.to_json())
    else:
        print_power(result, console())
    return 0


def run_attribute(argv: list[str]) -> int:
    parser = parser_of(
        "attribute",
        "Attribute the difference between two configs to the keys in which they differ: how much of the difference in "
        "study.metric does each key make? Runs combinations of the two configs, seed by seed, and computes shares "
        "that add up to the difference. Each config is a .yaml file, a run directory, or a quoted list of overrides "
        "('' is the base config).",
        "ablate attribute a.yaml b.yaml study.seeds=5",
        "ablate attribute 'data.batch_size=8' 'data.batch_size=64 data.train_test_ratio=4' study.metric=eval_loss_irregularity",
        "ablate attribute runs/one/baseline/seed=0 runs/other/baseline/seed=0 axis=placebo",
        "ablate attribute a.yaml b.yaml --plan",
    )
    add = parser.add_argument
    add("first", help="first config")
    add("second", help="second config")
    add("overrides", nargs="*", help="overrides for both configs and for the study; axis=placebo adds A/A runs")
    add("--group", action="append", default=[], metavar="KEY,KEY", help="keys to change as one; repeatable")
    add(
        "--full-factorial-up-to",
        type=count,
        metavar="KEYS",
        help="largest number of keys with every combination run (default: 4)",
    )
    add(
        "--permutations",
        type=count,
        metavar="N",
        help="above that: number of orders, each with its reverse (default: 3)",
    )
    add_study_options(parser, plan=True)
    args = parser.parse_intermixed_args(argv)
    from ablate.planning.attribution import ask
    from ablate.planning.compose import opened, override_text

    with opened(config_dir=Path(args.config_dir) if args.config_dir else None) as composer:
        first, request = ask(
            composer, args.first, args.second, args.overrides, groups=args.group,
            full_factorial_up_to=args.full_factorial_up_to, permutations=args.permutations, command=_command("attribute", argv),
        )  # fmt: skip
    question = override_text("hydra.sweeper.attribute", asdict(request))
    return through_hydra(["-m", *first, *study_overrides(args, plan_only=args.plan), question])


def run_mediate(argv: list[str]) -> int:
    parser = parser_of(
        "mediate",
        "Estimate how much of the effect of a key on study.metric passes through a mediator. Runs both values of the "
        "key, and both with the mediator held at the same level, seed by seed. Mediators:\n"
        "  grad_noise           gradient noise of the smaller batch, for both; grad_noise=N: that of N samples\n"
        "  max_grad_norm=VALUE,...  size of the applied gradient: both values are clipped at the same norm",
        "ablate mediate data.batch_size=8,64 --through grad_noise study.seeds=5",
        "ablate mediate data.batch_size=8,64 --through max_grad_norm=0.5,0.25 --through grad_noise",
        "ablate mediate data.batch_size=8,64 --through grad_noise train.budget='128 steps'    at equal updates",
        "ablate mediate data.batch_size=8,64 --through grad_noise --plan",
    )
    parser.add_argument("overrides", nargs="+", help="one key with two values, and overrides for every arm")
    parser.add_argument(
        "--through", action="append", default=[], metavar="MEDIATOR[=VALUE,...]", help="mediator to hold; repeatable"
    )
    add_study_options(parser, plan=True)
    args = parser.parse_intermixed_args(argv)
    from ablate.planning.compose import override_text
    from ablate.planning.mediation import MediationRequest, read_through

    read_through(args.through)
    mediate = MediationRequest(through=tuple(args.through), command=_command("mediate", argv))
    question = override_text("hydra.sweeper.mediate", asdict(mediate))
    return through_hydra(["-m", *args.overrides, *study_overrides(args, plan_only=args.plan), question])


def _command(verb: str, argv: list[str]) -> str:
    return shlex.join(["ablate", verb, *without(argv, "--plan", "--json")])

"""Verbs that explain a difference: `ablate attribute` by keys, `ablate mediate` by mediators."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

from ablate.cli._parser import add_study_options, count, parser_of, study_overrides, without
from ablate.cli.run import through_hydra


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
    parser.add_argument("first", help="first config")
    parser.add_argument("second", help="second config")
    parser.add_argument(
        "overrides", nargs="*", help="overrides for both configs and for the study; axis=placebo adds A/A runs"
    )
    parser.add_argument(
        "--group", action="append", default=[], metavar="KEY,KEY", help="keys to change as one; repeatable"
    )
    parser.add_argument(
        "--full-factorial-up-to",
        type=count,
        metavar="KEYS",
        help="largest number of keys with every combination run (default: 4)",
    )
    parser.add_argument(
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
        first, bisect = ask(
            composer, args.first, args.second, args.overrides, together=args.group, all_up_to=args.full_factorial_up_to,
            pairs=args.permutations, command=_command("attribute", argv),
        )  # fmt: skip
    question = override_text("hydra.sweeper.attribute", asdict(bisect))
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
    from ablate.planning.mediation import Mediate, read_through

    read_through(args.through)
    mediate = Mediate(through=tuple(args.through), command=_command("mediate", argv))
    question = override_text("hydra.sweeper.mediate", asdict(mediate))
    return through_hydra(["-m", *args.overrides, *study_overrides(args, plan_only=args.plan), question])


def _command(verb: str, argv: list[str]) -> str:
    return shlex.join(["ablate", verb, *without(argv, "--plan", "--json")])

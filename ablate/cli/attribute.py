"""`ablate attribute`."""

from __future__ import annotations

import shlex
from pathlib import Path

from ablate.cli._parser import ACCEPT, count, less, parser_of
from ablate.cli.run import through_hydra


def run_attribute(typed: list[str]) -> int:
    parser = parser_of(
        "attribute",
        "Two configs differ in several keys: how much of the difference in study.metric does each make? Runs the corners\n"
        "between the two, seed by seed, and divides the difference into shares that add up. Each config is a .yaml file, a\n"
        "run folder, or a list of overrides in quotes ('' is the base config); what follows holds for both.",
        "ablate attribute a.yaml b.yaml study.seeds=5",
        "ablate attribute 'data.batch_size=8' 'data.batch_size=64 data.train_test_ratio=4' study.metric=eval_loss_roughness",
        "ablate attribute runs/one/baseline/seed=0 runs/other/baseline/seed=0 axis=placebo",
        "ablate attribute a.yaml b.yaml --plan",
    )
    parser.add_argument("first", help="the config from which the difference is told")
    parser.add_argument("second", help="the config to which it leads")
    parser.add_argument("overrides", nargs="*", help="of both, and of the study; axis=placebo measures the noise floor")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="say what would run and what it costs; run nothing")
    how.add_argument("--json", action="store_true", help="the answer for a program to read")
    parser.add_argument(
        "--group", action="append", default=[], metavar="KEY,KEY", help="keys that only make sense as one change"
    )
    parser.add_argument(
        "--full-factorial-up-to", type=count, metavar="KEYS", help="run every corner up to so many keys; 4"
    )
    parser.add_argument("--permutations", type=count, metavar="N", help="above that: orders, each with its reverse; 3")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="keep the runs that other code has made")
    asked = parser.parse_intermixed_args(typed)
    from dataclasses import asdict

    from ablate.planning.attribution import ask
    from ablate.planning.compose import opened, override_text

    with opened(config_dir=Path(asked.config_dir) if asked.config_dir else None) as composer:
        first, bisect = ask(
            composer, asked.first, asked.second, asked.overrides, together=asked.group, all_up_to=asked.full_factorial_up_to,
            pairs=asked.permutations, command=shlex.join(["ablate", "attribute", *less(typed, "--plan", "--json", ACCEPT)]),
        )  # fmt: skip
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [ACCEPT] * asked.accept_code_change + ["hydra.sweeper.plan_only=true"] * asked.plan
    more += ["hydra.sweeper.as_json=true"] * asked.json
    return through_hydra(["-m", *first, *more, override_text("hydra.sweeper.attribute", asdict(bisect))])


# `ablate mediate`.


def run_mediate(typed: list[str]) -> int:
    parser = parser_of(
        "mediate",
        "A key moves from one level to another, and study.metric with it: how much of that goes through a mediator? Runs both\n"
        "levels, and both with the mediator held at the same level, seed by seed. Mediators:\n"
        "  grad_noise           the noise of the larger batch made that of the smaller; grad_noise=N: both as of N samples\n"
        "  max_grad_norm=LEVEL,...  the size of the applied gradient, by clipping both levels at the same norm",
        "ablate mediate data.batch_size=8,64 --through grad_noise study.seeds=5",
        "ablate mediate data.batch_size=8,64 --through max_grad_norm=0.5,0.25 --through grad_noise",
        "ablate mediate data.batch_size=8,64 --through grad_noise train.budget='128 steps'    at equal updates",
        "ablate mediate data.batch_size=8,64 --through grad_noise --plan",
    )
    parser.add_argument("overrides", nargs="+", help="one key with two levels, and what holds for every arm")
    parser.add_argument(
        "--through", action="append", default=[], metavar="MEDIATOR[=LEVEL,...]", help="what is held; may be repeated"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="say what would run and what it costs; run nothing")
    how.add_argument("--json", action="store_true", help="the answer for a program to read")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="keep the runs that other code has made")
    asked = parser.parse_intermixed_args(typed)
    from dataclasses import asdict

    from ablate.planning.compose import override_text
    from ablate.planning.mediation import Mediate, read_through

    read_through(asked.through)
    command = shlex.join(["ablate", "mediate", *less(typed, "--plan", "--json", ACCEPT)])
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [ACCEPT] * asked.accept_code_change + ["hydra.sweeper.plan_only=true"] * asked.plan
    more += ["hydra.sweeper.as_json=true"] * asked.json
    wanted = asdict(Mediate(through=tuple(asked.through), command=command))
    return through_hydra(["-m", *asked.overrides, *more, override_text("hydra.sweeper.mediate", wanted)])

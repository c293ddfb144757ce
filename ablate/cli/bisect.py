"""`ablate bisect`."""

from __future__ import annotations

import shlex
from pathlib import Path

from ablate.cli.hydra_door import through_hydra
from ablate.cli.parse import ACCEPT, count, less, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "bisect",
        "Two configs differ in several keys: how much of the difference in study.metric does each make? Runs the corners\n"
        "between the two, seed by seed, and divides the difference into shares that add up. Each config is a .yaml file, a\n"
        "run folder, or a list of overrides in quotes ('' is the base config); what follows holds for both.",
        "ablate bisect a.yaml b.yaml study.seeds=5",
        "ablate bisect 'data.batch_size=8' 'data.batch_size=64 data.train_ratio=4' study.metric=eval_loss_roughness",
        "ablate bisect runs/one/baseline/seed=0 runs/other/baseline/seed=0 axis=placebo",
        "ablate bisect a.yaml b.yaml --plan",
    )
    parser.add_argument("first", help="the config from which the difference is told")
    parser.add_argument("second", help="the config to which it leads")
    parser.add_argument("overrides", nargs="*", help="of both, and of the study; axis=placebo measures the noise floor")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--plan", action="store_true", help="say what would run and what it costs; run nothing")
    how.add_argument("--json", action="store_true", help="the answer for a program to read")
    parser.add_argument(
        "--together", action="append", default=[], metavar="KEY,KEY", help="keys that only make sense as one change"
    )
    parser.add_argument("--all-up-to", type=count, metavar="KEYS", help="run every corner up to so many keys; 4")
    parser.add_argument("--pairs", type=count, metavar="N", help="above that: orders, each with its reverse; 3")
    parser.add_argument("--config-dir", help="a folder with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="keep the runs that other code has made")
    asked = parser.parse_intermixed_args(typed)
    from dataclasses import asdict

    from ablate.design.compose import opened, override_text
    from ablate.study.bisect import ask

    with opened(config_dir=Path(asked.config_dir) if asked.config_dir else None) as composer:
        first, bisect = ask(
            composer, asked.first, asked.second, asked.overrides, together=asked.together, all_up_to=asked.all_up_to,
            pairs=asked.pairs, command=shlex.join(["ablate", "bisect", *less(typed, "--plan", "--json", ACCEPT)]),
        )  # fmt: skip
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [ACCEPT] * asked.accept_code_change + ["hydra.sweeper.plan_only=true"] * asked.plan
    more += ["hydra.sweeper.as_json=true"] * asked.json
    return through_hydra(["-m", *first, *more, override_text("hydra.sweeper.bisect", asdict(bisect))])

"""`ablate mediate`."""

from __future__ import annotations

import shlex

from ablate.cli.hydra_door import through_hydra
from ablate.cli.parse import ACCEPT, less, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "mediate",
        "A key moves from one level to another, and study.metric with it: how much of that goes through a mediator? Runs both\n"
        "levels, and both with the mediator held at the same level, seed by seed. Mediators:\n"
        "  grad_noise           the noise of the larger batch made that of the smaller; grad_noise=N: both as of N samples\n"
        "  clip_norm=LEVEL,...  the size of the applied gradient, by clipping both levels at the same norm",
        "ablate mediate data.batch_size=8,64 --through grad_noise study.seeds=5",
        "ablate mediate data.batch_size=8,64 --through clip_norm=0.5,0.25 --through grad_noise",
        "ablate mediate data.batch_size=8,64 --through grad_noise loop.budget='128 steps'    at equal updates",
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

    from ablate.design.compose import override_text
    from ablate.study.mediate import Mediate, read_through

    read_through(asked.through)
    command = shlex.join(["ablate", "mediate", *less(typed, "--plan", "--json", ACCEPT)])
    more = ["--config-dir", asked.config_dir] if asked.config_dir else []
    more += [ACCEPT] * asked.accept_code_change + ["hydra.sweeper.plan_only=true"] * asked.plan
    more += ["hydra.sweeper.as_json=true"] * asked.json
    wanted = asdict(Mediate(through=tuple(asked.through), command=command))
    return through_hydra(["-m", *asked.overrides, *more, override_text("hydra.sweeper.mediate", wanted)])

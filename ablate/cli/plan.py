"""`ablate plan`."""

from __future__ import annotations

from ablate.cli.hydra_door import through_hydra
from ablate.cli.parse import ACCEPT, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "plan",
        "Print what `ablate -m` with the same arguments would run, what is already done, what is free, and how long the\n"
        "rest takes. Runs nothing and leaves nothing. Without earlier runs in study.root, a few steps are timed.",
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

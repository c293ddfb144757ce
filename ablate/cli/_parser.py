"""Argument parsers of the verbs, and the arguments that several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from ablate.study_command import ACCEPT as ACCEPT

if TYPE_CHECKING:
    from ablate.analysis.infer_plan import PlanOptions


def parser_of(
    verb: str,
    description: str,
    *examples: str,
    study: bool = False,
    json: bool = False,
    compare_at: bool = False,
    infer_plan: bool = False,
    custom_metric: bool = False,
) -> argparse.ArgumentParser:
    """Return the parser of a verb. Each line of the description becomes a paragraph.

    study: add the positional argument `folder`, a study directory. json: add `--json`. compare_at: add `--compare-at`.
    infer_plan: add what a study directory without a plan does not tell, the values of `inferred_plan`.
    custom_metric: add `--run-custom-metric`, which `consent` reads.
    """
    parser = argparse.ArgumentParser(
        prog=f"ablate {verb}",
        description="\n".join(fill(line, 100) for line in description.split("\n")),
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    if study:
        add("folder", type=Path, help="study directory, such as runs/reference")
    if json:
        add("--json", action="store_true", help="print JSON")
    if infer_plan:
        metric, effect = "primary metric of a directory without a plan", "smallest effect of interest without a plan"
        add("--metric", help=f"{metric} (default: eval_loss)")
        add("--smallest-effect", type=float, metavar="EFFECT", help=f"{effect} (default: 0.01)")
        add(
            "--allow-change",
            default="",
            metavar="NAME,...",
            help="what else may change without a plan, such as init,order",
        )
    if custom_metric:
        add(
            "--run-custom-metric",
            action="store_true",
            help="run the study's custom metric, a function in this directory that the study names; else no code of it is run",
        )
    if compare_at:
        add(
            "--compare-at",
            metavar="UNIT|'N UNIT'",
            help="compare the arms at equal steps, samples, tokens, epochs or seconds (the most that every run had), at an "
            "amount such as '512 samples', or at the `end`. A comparison that the study did not plan is written to separate "
            "files",
        )
    return parser


def inferred_plan(args: argparse.Namespace) -> PlanOptions:
    """Return what the arguments say of a study without a plan."""
    from ablate.analysis.infer_plan import PlanOptions

    accepts = tuple(item for item in getattr(args, "allow_change", "").split(",") if item)
    return PlanOptions(metric=args.metric, smallest_effect=args.smallest_effect, accepts=accepts)


def consent(args: argparse.Namespace) -> AbstractContextManager[None]:
    """Let the custom metrics run that the user has asked for: by `--run-custom-metric`, or by typing the name."""
    from ablate.metrics.custom import EVERY, custom_metrics

    typed = [args.metric] if getattr(args, "metric", None) else []
    return custom_metrics(*typed, *[EVERY] * args.run_custom_metric)


def add_study_options(parser: argparse.ArgumentParser, *, plan: bool) -> None:
    """Add the options of verbs that compose a study. plan: add `--plan` as the alternative to `--json`."""
    if plan:
        group = parser.add_mutually_exclusive_group()
        group.add_argument("--plan", action="store_true", help="print what would run and its cost; run nothing")
        group.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--config-dir", metavar="DIR", help="directory with your own config files")
    parser.add_argument("--accept-code-change", action="store_true", help="keep runs that other code has made")


def study_overrides(args: argparse.Namespace, *, plan_only: bool) -> list[str]:
    """Return the values of `add_study_options` as arguments for Hydra."""
    return [
        *(["--config-dir", args.config_dir] if args.config_dir else []),
        *([ACCEPT] if args.accept_code_change else []),
        *(["hydra.sweeper.plan_only=true"] if plan_only else []),
        *(["hydra.sweeper.as_json=true"] if args.json else []),
    ]


def without(argv: Sequence[str], *options: str) -> list[str]:
    """Return the arguments without some options and without accepting code, which is decided for each command."""
    return [text for text in argv if text not in (*options, ACCEPT, "--accept-code-change")]


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Parse whole numbers that are separated by commas."""
    return tuple(count(part.strip()) for part in text.split(","))


def items(text: str) -> list[str]:
    """Split a list at its commas."""
    return [item for part in text.split(",") if (item := part.strip())]


def console() -> Any:
    """Return a console for standard output."""
    from rich.console import Console

    return Console()

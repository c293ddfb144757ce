"""`ablate axes`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "axes",
        "List the axes, a line each: name, levels, the question it answers.",
        "ablate axes",
        "ablate axes --config-dir my",
    )
    parser.add_argument("--config-dir", type=Path, help="a folder with your own config files")
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.design.compose import opened
    from ablate.report import print_axes
    from ablate.report.as_json import print_axes_json

    with opened(config_dir=asked.config_dir) as composer:
        axes = composer.axes()
    if asked.json:
        print_axes_json(axes)
    else:
        print_axes(axes, console())
    return 0

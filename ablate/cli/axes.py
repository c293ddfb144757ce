"""`ablate axes`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
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
        "--beside", action="store_true", help="of one axis, only the overrides that belong beside it, a line each"
    )
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    if asked.beside and asked.name is None:
        parser.error("--beside is of one axis: ablate axes NAME --beside")
    from ablate.design.compose import opened
    from ablate.report import print_axes, print_axis
    from ablate.report.as_json import print_axes_json

    with opened(config_dir=asked.config_dir) as composer:
        axes = composer.axes() if asked.name is None else (composer.axis(asked.name),)
    if asked.json:
        print_axes_json(axes)
    elif asked.beside:
        print("".join(f"{text}\n" for text in axes[0].beside), end="")
    elif asked.name is None:
        print_axes(axes, console())
    else:
        print_axis(axes[0], console())
    return 0

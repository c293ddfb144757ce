"""`ablate figures`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "figures",
        "Draw the figures of a paper from a study's record, into <study>/figures: forest (effects, intervals, every seed),\n"
        "curves (mean and range over seeds), grad_norm, cadence (what coarser looking shows). Fonts stand in the file, and\n"
        "the same study gives the same bytes.",
        "ablate figures runs/reference",
        "ablate figures runs/reference --style paper --width text --format pdf,svg",
        "ablate figures runs/reference --only forest,grad_norm --width 8.5cm --x steps",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--style", default="paper", help="paper (8 pt, serif) or slides (12 pt); paper")
    parser.add_argument(
        "--width",
        default="column",
        metavar="WIDTH",
        help="column (3.25in), text (5.5in), page (6.75in), or 8.5cm; column",
    )
    parser.add_argument("--format", default="pdf", metavar="pdf,svg,png", help="one or several; pdf")
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help="forest, curves, grad_norm, cadence; all that there are"
    )
    parser.add_argument("--x", choices=("steps", "samples", "epochs", "seconds"), default="samples", help="samples")
    parser.add_argument("--at", metavar="UNIT|'N UNIT'", help="compare the arms there, as for ablate report")
    asked = parser.parse_args(typed)
    from ablate.analysis.study import analyse
    from ablate.errors import ConfigError, nearest
    from ablate.report.figures import FORMATS, look_of, write_figures
    from ablate.report.view import make_view

    names = [name for name in asked.only.split(",") if name]
    look = look_of(asked.style, asked.width, asked.x, names)
    formats = [name.strip() for name in asked.format.split(",") if name.strip()]
    strange = [name for name in formats if name not in FORMATS]
    if strange or not formats:
        raise ConfigError(
            f"--format {asked.format!r}: {''.join(strange[:1])!r} is no format", nearest("".join(strange[:1]), FORMATS)
        )
    for path in write_figures(
        make_view(analyse(asked.folder, at=asked.at)), asked.folder, look, [f for f in FORMATS if f in formats]
    ):
        print(path)
    return 0

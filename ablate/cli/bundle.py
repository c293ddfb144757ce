"""`ablate bundle`."""

from __future__ import annotations

from pathlib import Path

from ablate.cli.parse import console, parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "bundle",
        "Write the evidence of a study into one archive: the frozen plan, and of every run its config, manifest, fingerprint,\n"
        "trace, evaluations, predictions, outcome and log; analysis, tables and page, made anew; the versions that made\n"
        "them; and the SHA-256 of every file. The same study gives the same bytes. Checkpoints stay where they are.",
        "ablate bundle runs/reference",
        "ablate bundle runs/reference --out evidence.tar",
        "ablate bundle runs/mine --metric eval_accuracy",
        "ablate verify reference.tar",
    )
    parser.add_argument("folder", type=Path, help="of the study, such as runs/reference")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the archive; <study>.tar in the working folder")
    parser.add_argument("--incomplete", action="store_true", help="also of a study whose runs are not all at their end")
    parser.add_argument("--metric", help="without a plan, as for `ablate report`: primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="without a plan: smallest difference that matters; 0.01")
    parser.add_argument("--accepts", default="", help="without a plan: what may come with a change, as init,order")
    asked = parser.parse_args(typed)
    from ablate.analysis.adopt import Asked
    from ablate.bundle.say import print_bundle
    from ablate.bundle.write import write_bundle

    accepts = tuple(item for item in asked.accepts.split(",") if item)
    wanted = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect, accepts=accepts)
    made = write_bundle(asked.folder, asked.out, asked=wanted, incomplete=asked.incomplete)
    print_bundle(made, console())
    return 0

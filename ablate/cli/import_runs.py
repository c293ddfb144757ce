"""`ablate import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablate.cli.conclude import conclude
from ablate.cli.parse import parser_of


def run(typed: list[str]) -> int:
    parser = parser_of(
        "import",
        "Read runs that were made elsewhere, write them as a folder of runs, and report on it. A source is a Trainer's output\n"
        "folder (trainer_state.json), TensorBoard's event files, an offline run of W&B, Lightning's metrics.csv, or a table\n"
        "(CSV, JSON). What a source does not say stays absent, and no control is proven by it.",
        "ablate import baseline=out/a,out/b batch_size=64=out/c,out/d --into runs/mine",
        "ablate import baseline='wandb/offline-run-*-a?' --into runs/mine --config-file baseline=args.json",
        "ablate import --table loss.csv --table norm.csv baseline=run-1,run-2 large=run-3,run-4 --into runs/mine",
        "ablate import baseline=log.csv --rename val_nll=eval_loss --step-column update --samples-per-step 8 --into runs/mine",
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "arms", nargs="+", metavar="ARM=SOURCE,SOURCE", help="one source is one seed; one arm is `baseline`"
    )
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="of the study, such as runs/mine")
    parser.add_argument("--as", dest="kind", metavar="FORMAT", help="where a source holds several kinds of log")
    parser.add_argument(
        "--table", type=Path, **many, metavar="CSV", help="W&B's export of a chart, whose runs are sources"
    )
    parser.add_argument("--rename", **many, metavar="NAME=OURS", help="a logged name: val_nll=eval_loss, l=loss")
    parser.add_argument("--step-column", metavar="NAME", help="the column that holds optimizer steps")
    parser.add_argument("--samples-per-step", **many, metavar="[ARM=]N", help="of all processes and passes together")
    parser.add_argument(
        "--config-file", **many, metavar="[ARM=]FILE", help="settings (JSON, YAML) in place of the source's"
    )
    parser.add_argument(
        "--number-seeds", action="store_true", help="number the runs of an arm 0, 1, ... whatever they say"
    )
    parser.add_argument("--metric", help="primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="smallest difference that matters; 0.01")
    asked = parser.parse_intermixed_args(typed)
    from ablate.analysis.adopt import Asked, check_asked
    from ablate.analysis.study import analyse
    from ablate.imports.bring import Import, bring

    then = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect)
    check_asked(then)
    brought = bring(
        Import(
            arms=asked.arms, into=asked.into, kind=asked.kind, tables=asked.table, renames=asked.rename,
            step_column=asked.step_column, samples_per_step=asked.samples_per_step, config_files=asked.config_file,
            number_seeds=asked.number_seeds,
        ),
        check=lambda folder: analyse(folder, then),
    )  # fmt: skip
    for line in brought.lines:
        print(line)
    print(f"into {asked.into}" + ("" if brought.fresh else " (the same import was there already)"), flush=True)
    return conclude(asked.into, then)

"""`ablate bundle`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ablate.cli._parser import console, count, parser_of
from ablate.cli.report import conclude


def run_bundle(typed: list[str]) -> int:
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
    parser.add_argument(
        "--allow-incomplete", action="store_true", help="also of a study whose runs are not all at their end"
    )
    parser.add_argument("--metric", help="without a plan, as for `ablate report`: primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="without a plan: smallest difference that matters; 0.01")
    parser.add_argument("--allow-change", default="", help="without a plan: what may come with a change, as init,order")
    asked = parser.parse_args(typed)
    from ablate.analysis.infer_plan import Asked
    from ablate.archive.bundle import write_bundle
    from ablate.archive.report import print_bundle

    accepts = tuple(item for item in asked.allow_change.split(",") if item)
    wanted = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect, accepts=accepts)
    made = write_bundle(asked.folder, asked.out, options=wanted, allow_incomplete=asked.allow_incomplete)
    print_bundle(made, console())
    return 0


# `ablate import`.


def run_import(typed: list[str]) -> int:
    parser = parser_of(
        "import",
        "Read runs that were made elsewhere, write them as a folder of runs, and report on it. A source is a Trainer's output\n"
        "folder (trainer_state.json), TensorBoard's event files, an offline run of W&B, Lightning's metrics.csv, or a table\n"
        "(CSV, JSON). What a source does not say stays absent, and no control is proven by it.",
        "ablate import baseline=out/a,out/b batch_size=64=out/c,out/d --output runs/mine",
        "ablate import baseline='wandb/offline-run-*-a?' --output runs/mine --config-file baseline=args.json",
        "ablate import --table loss.csv --table norm.csv baseline=run-1,run-2 large=run-3,run-4 --output runs/mine",
        "ablate import baseline=log.csv --rename val_nll=eval_loss --step-column update --samples-per-step 8 --output runs/x",
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "arms", nargs="+", metavar="ARM=SOURCE,SOURCE", help="one source is one seed; one arm is `baseline`"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the study, such as runs/mine")
    parser.add_argument("--format", dest="kind", metavar="FORMAT", help="where a source holds several kinds of log")
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
        "--renumber-seeds", action="store_true", help="number the runs of an arm 0, 1, ... whatever they say"
    )
    parser.add_argument("--metric", help="primary outcome; eval_loss")
    parser.add_argument("--smallest-effect", type=float, help="smallest difference that matters; 0.01")
    asked = parser.parse_intermixed_args(typed)
    from ablate.analysis.analyse import analyse
    from ablate.analysis.infer_plan import Asked, check_asked
    from ablate.importers.import_runs import ImportRequest, import_runs

    then = Asked(metric=asked.metric, smallest_effect=asked.smallest_effect)
    check_asked(then)
    result = import_runs(
        ImportRequest(
            arms=asked.arms, output=asked.output, format=asked.kind, tables=asked.table, renames=asked.rename,
            step_column=asked.step_column, samples_per_step=asked.samples_per_step, config_files=asked.config_file,
            renumber_seeds=asked.renumber_seeds,
        ),
        check=lambda folder: analyse(folder, then),
    )  # fmt: skip
    for line in result.lines:
        print(line)
    print(f"into {asked.output}" + ("" if result.fresh else " (the same import already existed)"), flush=True)
    return conclude(asked.output, then)


# `ablate sync`.


def run_sync(typed: list[str]) -> int:
    parser = parser_of(
        "sync",
        "Send a finished study to a tracker: every run, several at a time, then its contrasts and its page.\n"
        "What was sent is not sent again, so the same command goes on after a failure. Exit code 1 where a run was not sent.",
        "ablate sync runs/reference",
        "ablate sync runs/reference --to wandb --project batch-size --workers 8",
        "ablate sync runs/reference --to wandb --mode offline",
        "ablate sync runs/reference --to tensorboard+mlflow",
        "ablate sync runs/reference --to mlflow --uri https://mlflow.lab:5000",
    )
    parser.add_argument("folder", type=Path, help="of the study")
    parser.add_argument("--to", metavar="TRACKER", help="wandb, tensorboard, mlflow, or several with +; as it was run")
    parser.add_argument(
        "--mode", choices=("online", "offline"), default="online", help="offline: only write what would be sent"
    )
    parser.add_argument("--workers", type=count, default=4, help="runs at a time; 4")
    parser.add_argument("--project", help="W&B project, MLflow experiment; as it was run")
    parser.add_argument("--entity", help="W&B user or team")
    parser.add_argument("--uri", help="MLflow server")
    parser.add_argument("--force", action="store_true", help="also what was sent before")
    asked = parser.parse_args(typed)
    from ablate.tracking.sync import SyncOptions, sync

    options = SyncOptions(
        to=asked.to, mode=asked.mode, workers=asked.workers, project=asked.project, entity=asked.entity, uri=asked.uri,
        force=asked.force,
    )  # fmt: skip
    counts: Counter[str] = Counter()
    for result in sync(asked.folder, options):
        counts[result.status] += 1
        message = f": {result.message}" if result.message else ""
        print(f"{result.status:<12} {result.to:<11} {result.name}{message}", flush=True)
    print(", ".join(f"{number} {status}" for status, number in counts.items()))
    return int(bool(counts["failed"]))


# `ablate verify`.


def run_verify(typed: list[str]) -> int:
    parser = parser_of(
        "verify",
        "Check an archive that `ablate bundle` wrote: the hash of every file and the digests of plan and runs; then rebuild\n"
        "analysis, tables and page from its records and compare them byte for byte.\n"
        "Nothing in it is executed, and nothing is left on disk.\n"
        "Exit code 0: everything matches; 1: something differs, and is named; 2: not an archive of `ablate bundle`.",
        "ablate verify reference.tar",
        "ablate verify reference.tar --sha256 9f86d081884c7d65...",
        "ablate verify reference.tar --json",
    )
    parser.add_argument("archive", type=Path, help="such as reference.tar")
    parser.add_argument("--sha256", default="", metavar="HASH", help="of the archive itself, as its maker published it")
    parser.add_argument(
        "--run-custom-metric",
        action="store_true",
        help="the study's outcome is a function in this folder, which the archive names: run it",
    )
    parser.add_argument("--json", action="store_true", help="the same for a program to read")
    asked = parser.parse_args(typed)
    from ablate.archive.report import print_verification, print_verification_json
    from ablate.archive.verify import verify

    found = verify(asked.archive, sha256=asked.sha256, run_custom_metric=asked.run_custom_metric)
    if asked.json:
        print_verification_json(found)
    else:
        print_verification(found, console())
    return int(not found.verified)

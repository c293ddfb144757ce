"""Verbs that exchange studies: `ablate import`, `ablate bundle`, `ablate verify` and `ablate sync`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli._parser import consent, console, count, inferred_plan, parser_of
from ablate.redact import shown
from ablate.study_command import conclude

if TYPE_CHECKING:
    from ablate.analysis.infer_plan import PlanOptions


def run_bundle(argv: list[str]) -> int:
    parser = parser_of(
        "bundle",
        "Write the evidence of a study to one archive: the frozen plan; config, manifest, fingerprint, trace, "
        "evaluations, predictions, status and log of every run; analysis, tables and page, computed again; the "
        "versions that made them; and the SHA-256 of every file. The same study gives the same bytes. Checkpoints are "
        "left out.",
        "ablate bundle runs/reference",
        "ablate bundle runs/reference --out evidence.tar",
        "ablate bundle runs/mine --metric eval_accuracy",
        "ablate verify reference.tar",
        study=True,
        infer_plan=True,
        custom_metric=True,
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="archive to write (default: <study>.tar)")
    parser.add_argument("--allow-incomplete", action="store_true", help="bundle a study in which runs are missing")
    args = parser.parse_args(argv)
    from ablate.archive.bundle import write_bundle
    from ablate.archive.report import print_bundle

    with consent(args):
        bundle = write_bundle(
            args.folder, args.out, options=inferred_plan(args), allow_incomplete=args.allow_incomplete
        )
    print_bundle(bundle, console())
    return 0


def run_import(argv: list[str]) -> int:
    parser = parser_of(
        "import",
        "Read runs that were made elsewhere, write them as a directory of runs, and report on it. A source is a "
        "Trainer's output directory (trainer_state.json), TensorBoard event files, an offline W&B run, Lightning's "
        "metrics.csv, or a table (CSV, JSON). What a source does not record is left out, and no control is verified "
        "by it.",
        "ablate import baseline=out/a,out/b batch_size=64=out/c,out/d --output runs/mine",
        "ablate import baseline='wandb/offline-run-*-a?' --output runs/mine --config-file baseline=args.json",
        "ablate import --table loss.csv --table norm.csv baseline=run-1,run-2 large=run-3,run-4 --output runs/mine",
        "ablate import baseline=log.csv --rename val_nll=eval_loss --step-column update --samples-per-step 8 --output "
        "runs/mine",
    )
    add = parser.add_argument
    many: dict[str, Any] = {"action": "append", "default": []}
    add("arms", nargs="+", metavar="ARM=SOURCE,SOURCE", help="arm and its sources, one per seed; one arm is `baseline`")
    add("--output", type=Path, required=True, metavar="DIR", help="study directory to write, such as runs/mine")
    add("--format", metavar="FORMAT", help="format to read where a source holds several")
    add("--table", type=Path, **many, metavar="CSV", help="W&B's export of a chart, whose runs are sources; repeatable")
    add("--rename", **many, metavar="NAME=OURS", help="name of a logged value, as val_nll=eval_loss; repeatable")
    add("--step-column", metavar="NAME", help="column with the optimizer steps")
    add(
        "--samples-per-step",
        **many,
        metavar="[ARM=]N",
        help="samples per step over all processes and passes; repeatable",
    )
    add("--config-file", **many, metavar="[ARM=]FILE", help="settings (JSON, YAML) instead of the source's; repeatable")
    add("--renumber-seeds", action="store_true", help="number the seeds of every arm 0, 1, ...")
    add("--metric", help="primary metric (default: eval_loss)")
    add("--smallest-effect", type=float, metavar="EFFECT", help="smallest effect of interest (default: 0.01)")
    args = parser.parse_intermixed_args(argv)
    from ablate.analysis.infer_plan import check_options
    from ablate.metrics.custom import custom_metrics

    plan_options = inferred_plan(args)
    with custom_metrics(*[args.metric] * bool(args.metric)):
        check_options(plan_options)
        return _import(args, plan_options)


def _import(args: argparse.Namespace, plan_options: PlanOptions) -> int:
    from ablate.analysis.analyse import analyse
    from ablate.importers.import_runs import ImportRequest, import_runs

    imported = import_runs(
        ImportRequest(
            arms=args.arms, output=args.output, format=args.format, tables=args.table, renames=args.rename,
            step_column=args.step_column, samples_per_step=args.samples_per_step, config_files=args.config_file,
            renumber_seeds=args.renumber_seeds,
        ),
        check=lambda folder: analyse(folder, plan_options),
    )  # fmt: skip
    for line in imported.lines:
        print(shown(line))
    print(f"into {args.output}" + ("" if imported.fresh else " (the same import already existed)"), flush=True)
    return conclude(args.output, plan_options)


def run_sync(argv: list[str]) -> int:
    parser = parser_of(
        "sync",
        "Send a finished study to a tracker: every run, several at a time, then its contrasts and its page. What was "
        "sent is not sent again, so the same command continues after a failure. Exit code 1 where a run was not sent.",
        "ablate sync runs/reference",
        "ablate sync runs/reference --to wandb --project batch-size --workers 8",
        "ablate sync runs/reference --to wandb --mode offline",
        "ablate sync runs/reference --to tensorboard+mlflow",
        "ablate sync runs/reference --to mlflow --uri https://mlflow.lab:5000",
        study=True,
    )
    add = parser.add_argument
    add("--to", metavar="TRACKER", help="wandb, tensorboard, mlflow, or several with + (default: as in the study)")
    add("--mode", choices=("online", "offline"), default="online", help="offline: write locally what would be sent")
    add("--workers", type=count, default=4, help="runs at a time (default: 4)")
    add("--project", help="W&B project or MLflow experiment (default: as in the study)")
    add("--entity", help="W&B user or team")
    add("--uri", help="MLflow server")
    add("--force", action="store_true", help="send again what was sent before")
    args = parser.parse_args(argv)
    from ablate.tracking.sync import SyncOptions, sync

    options = {key: value for key, value in vars(args).items() if key != "folder"}
    statuses: Counter[str] = Counter()
    for sent in sync(args.folder, SyncOptions(**options)):
        statuses[sent.status] += 1
        message = f": {sent.message}" if sent.message else ""
        print(shown(f"{sent.status:<12} {sent.to:<11} {sent.name}{message}"), flush=True)
    print(", ".join(f"{number} {status}" for status, number in statuses.items()))
    return int(bool(statuses["failed"]))


def run_verify(argv: list[str]) -> int:
    parser = parser_of(
        "verify",
        "Check an archive of `ablate bundle`: the hash of every file, the digests of plan and runs, fingerprints "
        "against tables and verdicts; compute analysis, tables and page again from its records and compare them byte "
        "for byte. Runs no code of the archive, and leaves nothing on disk.\n"
        "Exit code 0: everything matches; 1: a mismatch, which is named; 2: not a bundle.",
        "ablate verify reference.tar",
        "ablate verify reference.tar --sha256 9f86d081884c7d65...",
        "ablate verify reference.tar --json",
        json=True,
        custom_metric=True,
    )
    add = parser.add_argument
    add("archive", type=Path, help="archive, such as reference.tar")
    add("--sha256", default="", metavar="HASH", help="published hash of the archive")
    args = parser.parse_args(argv)
    from ablate.archive.report import print_verification, print_verification_json
    from ablate.archive.verify import verify

    verification = verify(args.archive, sha256=args.sha256, run_custom_metric=args.run_custom_metric)
    if args.json:
        print_verification_json(verification)
    else:
        print_verification(verification, console())
    return int(not verification.verified)

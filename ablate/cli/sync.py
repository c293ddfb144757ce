"""`ablate sync`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ablate.cli.parse import count, parser_of


def run(typed: list[str]) -> int:
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
    parser.add_argument("--again", action="store_true", help="also what was sent before")
    asked = parser.parse_args(typed)
    from ablate.study.track.sync import Asked, sync

    what = {key: value for key, value in vars(asked).items() if key != "folder"}
    became: Counter[str] = Counter()
    for one in sync(asked.folder, Asked(**what)):
        became[one.how] += 1
        print(f"{one.how:<13} {one.to:<11} {one.name}" + (f": {one.sentence}" if one.sentence else ""), flush=True)
    print(", ".join(f"{number} {how}" for how, number in became.items()))
    return int(bool(became["failed"]))

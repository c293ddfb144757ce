"""Whole studies of tiny runs, as a person starts them: by the command line, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_manifest, read_status
from ablate.records.reader import read_table

_REPO = Path(__file__).resolve().parents[2]
_CLOCKS = {"step_seconds", "train_seconds", "eval_seconds"}
"""Columns that no two runs have in common."""


def command(seeds: int, *more: str) -> list[str]:
    """A study of three learning rates beside the baseline's, four arms, in a folder called `study`."""
    tiny = ["task.name=custom", "task.entry_point=tests.runner.tiny:task", "+task.options.seconds=0.02"]
    size = ["train.budget='256 samples'", "eval.every='64 samples'", "record.flush_every=8"]
    named = ["optim.lr=1e-3,1e-2,1e-1", f"study.seeds={seeds}", "study.name=study"]
    return [sys.executable, "-m", "ablate.cli", "-m", *tiny, *size, *named, *more]


def start(folder: Path, typed: list[str]) -> subprocess.Popen[str]:
    """Its output goes to a file beside it, so that no pipe fills up."""
    folder.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"PYTHONPATH": str(_REPO), "OMP_NUM_THREADS": "1"}
    number = len(list(folder.glob("out.*")))
    with (folder / f"out.{number}").open("w") as out:
        return subprocess.Popen(typed, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, text=True)


def said(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("out.*")))


def runs(study: Path) -> list[RunDir]:
    return list(StudyDir(study).runs())


def num_done(study: Path) -> int:
    return sum(1 for _ in study.glob("*/seed=*/status.json"))


def times_made(study: Path) -> dict[str, int]:
    """How often each run has begun to train, by what its log says."""
    return {str(run.path.relative_to(study)): run.log.read_text().count("padding: ") for run in runs(study)}


def bits(study: Path) -> dict[str, dict[str, Any]]:
    """All of each run's record that does not tell the time."""
    found = {}
    for run in runs(study):
        outcome = read_status(run)
        assert outcome is not None
        tables = {name: read_table(path) for name, path in (("trace", run.trace), ("evals", run.evals))}
        found[str(run.path.relative_to(study))] = {
            "digest": read_manifest(run).digest,
            "status": outcome.status,
            "weights": outcome.weights_sha256,
            **{
                name: table.select([c for c in table.column_names if c not in _CLOCKS])
                for name, table in tables.items()
            },
        }
    return found


def workers(study: subprocess.Popen[str]) -> list[int]:
    """Processes of the runs that are going: children of the server that the study's process has started."""
    return [pid for server in _children(study.pid) for pid in _children(server)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found

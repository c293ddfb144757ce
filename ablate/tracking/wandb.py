"""W&B. A run is `<arm>/seed=<n>` in the group of its study; a row's number there is its optimizer step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.tracking.describe import COLUMNS, End, Mode, StudyTold, Told, is_clean
from ablate.tracking.metric_names import AXES
from ablate.tracking.rows import Row

if TYPE_CHECKING:
    import wandb

_LONGEST_JOB_TYPE = 64


class WandbRun:
    """Rows, the outcome as summary, and the whole trace as an artifact."""

    def __init__(self, told: Told) -> None:
        self._told = told
        folder = told.run.path
        if told.mode == "offline":
            remove_offline(folder, told.id)
        self._run = _init(
            told.id,
            told.mode,
            dir=str(folder),
            pid=told.pid or os.getpid(),
            group=told.study,
            job_type=told.arm[:_LONGEST_JOB_TYPE],
            name=told.name,
            tags=list(told.tags),
            project=told.tracker.project,
            entity=told.tracker.entity,
            config=told.config,
        )
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for part in ("train/*", "eval/*"):
            self._run.define_metric(part, step_metric=told.tracker.x_axis)
        print(f"W&B {told.mode}: {self._run.url if told.mode == 'online' else folder / 'wandb'}", flush=True)

    def send(self, rows: Sequence[Row]) -> None:
        # By number: a run that goes on in another process sends all again, and W&B leaves out what it has.
        for row in rows:
            self._run.log(row, step=row["step"])

    def end(self, end: End) -> None:
        code = 1
        try:
            self._run.summary.update({"outcome": end.status, "outcome_sentence": end.message, **end.numbers})
            if end.files:
                _keep(self._run, f"trace-{self._told.id}", "trace", end.files)
            code = 0 if end.status == "finished" else 1
        finally:
            self._run.finish(exit_code=code)


def begin(told: Told) -> WandbRun:
    """Begin the run, or go on with it where W&B has it."""
    return WandbRun(told)


def send_study(told: StudyTold) -> None:
    """A run of job type `study`: its table, its sentences, its page, and the files that they come from."""
    import wandb

    if told.mode == "offline":
        remove_offline(told.folder, told.id)
    run = _init(
        told.id,
        told.mode,
        dir=str(told.folder),
        pid=os.getpid(),
        group=told.study,
        job_type="study",
        name=told.study,
        tags=["study"],
        project=told.tracker.project,
        entity=told.tracker.entity,
        config={"study": told.study, "question": told.question},
    )
    code = 1
    try:
        table = wandb.Table(columns=list(COLUMNS), data=[_typed(row) for row in told.rows], allow_mixed_types=True)
        logged: dict[str, Any] = {"contrasts": table}
        if told.page is not None:
            logged["report"] = wandb.Html(told.page.read_text(encoding="utf-8"), inject=False)
        run.log(logged)
        run.summary.update({"conclusions": "\n".join(told.conclusions), **told.words, **told.numbers})
        if told.files:
            _keep(run, f"report-{told.id}", "report", told.files)
        code = 0
    finally:
        run.finish(exit_code=code)


def _init(id: str, mode: Mode, *, pid: int, **named: Any) -> wandb.Run:
    # What goes wrong in W&B's library is not reported to its makers from here, unless somebody has asked for it.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_stats_pid=pid,  # the load of the run, not of this process
    )
    return wandb.init(id=id, mode=mode, resume="allow" if mode == "online" else None, settings=settings, **named)


def offline_runs(folder: Path, id: str = "*") -> list[Path]:
    """Folders in which W&B keeps runs that it has not sent, oldest first."""
    return sorted(folder.glob(f"wandb/offline-run-*-{id}"))


def remove_offline(folder: Path, id: str) -> None:
    """A run is written whole each time, so what an earlier process has written of the same one goes: no row is there twice."""
    for old in offline_runs(folder, id):
        shutil.rmtree(old)


def _keep(run: wandb.Run, name: str, kind: str, files: Sequence[Path]) -> None:
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        if is_clean(file):
            # Where it lies: a record does not change any more, and a copy of every trace would fill the disk.
            artifact.add_file(str(file), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def _typed(row: Sequence[Any]) -> list[Any]:
    """A column of W&B's has one type: levels are texts."""
    return [str(cell) if name in ("level", "baseline_level") else cell for name, cell in zip(COLUMNS, row, strict=True)]

"""`ablate sync`: send the finished runs of a study, several at a time, and then its conclusions; nothing is sent twice."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from ablate.config.schema import TrackerConfig
from ablate.errors import AblateError, ConfigError, RecordError, StudyError, nearest
from ablate.records.layout import RunDir, StudyDir
from ablate.redact import redact
from ablate.runner.log_capture import captured
from ablate.tracking.backends import BACKENDS
from ablate.tracking.describe import Mode, describe_run, describe_study, read_config, tracker_of
from ablate.tracking.follower import LOG, send
from ablate.tracking.mode import logged_in
from ablate.tracking.sent import destination, is_sent, mark_run, mark_study, run_version, study_version
from ablate.tracking.wandb import offline_runs

_WANDB_SYNC_SECONDS = 1800  # for one run; W&B itself keeps trying a server that cannot be reached

SyncStatus = Literal["sent", "already sent", "not finished", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncOptions:
    """Options of `ablate sync`. None: as the study was run."""

    to: str | None = None
    mode: Mode = "online"
    workers: int = 4
    project: str | None = None
    entity: str | None = None
    uri: str | None = None
    force: bool = False
    """Also send what was sent before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncResult:
    """Result for one run, or for the conclusions of the study."""

    to: str
    name: str
    status: SyncStatus
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Task:
    """One run to send; the conclusions of the study if `run` is None."""

    folder: Path
    recorded: TrackerConfig
    """Tracker of the study's config."""
    tracker: TrackerConfig
    """The same with the options applied."""
    options: SyncOptions
    to: str
    run: RunDir | None = None

    @property
    def name(self) -> str:
        return "study" if self.run is None else f"{self.run.path.parent.name}/{self.run.path.name}"

    @property
    def log_folder(self) -> Path:
        return self.folder if self.run is None else self.run.path

    def version(self) -> str:
        return study_version(self.folder) if self.run is None else run_version(self.run)

    def result(self, status: SyncStatus, message: str = "") -> SyncResult:
        return SyncResult(to=self.to, name=self.name, status=status, message=message)


def sync(folder: Path, options: SyncOptions) -> Iterator[SyncResult]:
    """Yield a result for each run that is done, and for the study last.

    Raises StudyError for a directory without runs, ConfigError if no tracker is known or it cannot be used.
    """
    runs = [run for run in StudyDir(folder).runs() if not run.leads_out()]
    if not runs:
        raise StudyError(f"expected a study directory, got {folder} without runs", "ablate sync runs/STUDY")
    recorded = _recorded_tracker(runs)
    tracker = _tracker(folder, recorded, options)
    for to in tracker.names:
        _check_usable(to, options)
        tasks = [_Task(folder, recorded, tracker, options, to, run) for run in runs]
        yield from _send_all(tasks, options)
        if StudyDir(folder).analysis.exists():
            yield from _send_all([_Task(folder, recorded, tracker, options, to)], options)


def _recorded_tracker(runs: list[RunDir]) -> TrackerConfig:
    """Return the tracker of the first readable config; unreadable ones are reported with their runs."""
    for run in runs:
        with suppress(RecordError):
            return tracker_of(read_config(run))
    return TrackerConfig()


def _tracker(folder: Path, recorded: TrackerConfig, options: SyncOptions) -> TrackerConfig:
    for name in (options.to or "").split("+") if options.to is not None else ():
        if name not in BACKENDS:
            problem = f"--to {options.to}: expected {', '.join(BACKENDS)}, got {name!r}; {nearest(name, BACKENDS)}"
            raise ConfigError(problem, "--to wandb")
    changes = {"name": options.to, "project": options.project, "entity": options.entity, "uri": options.uri}
    tracker = replace(recorded, **{key: value for key, value in changes.items() if value is not None})
    if not tracker.names:
        raise ConfigError(
            f"{folder} was run without a tracker, so --to is required", f"ablate sync {folder} --to wandb"
        )
    return tracker


def _check_usable(to: str, options: SyncOptions) -> None:
    backend = BACKENDS[to]
    if command := backend.install_command:
        raise ConfigError(f"{backend.title} requires the package {backend.package}, which is not installed", command)
    if to == "wandb" and options.mode == "online" and not logged_in():
        raise ConfigError(
            "not logged in to W&B", "wandb login, or WANDB_API_KEY=...; --mode offline writes what it would send"
        )


def _send_all(tasks: list[_Task], options: SyncOptions) -> Iterator[SyncResult]:
    pending = []
    for task in tasks:
        if task.run is not None and not task.run.status.exists():
            yield task.result("not finished", "it has no status yet")
        elif not options.force and is_sent(
            task.log_folder, task.to, destination(task.to, task.tracker, options.mode), task.version()
        ):
            yield task.result("already sent")
        else:
            pending.append(task)
    if not pending:
        return
    # New processes: a tracker's library supports one run at a time, and its failures must not spread.
    with ProcessPoolExecutor(min(options.workers, len(pending)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_send_one, task): task for task in pending}
        for future in as_completed(futures):
            try:
                yield future.result()
            except Exception as error:  # its process died
                yield futures[future].result("failed", _short(error))


def _send_one(task: _Task) -> SyncResult:
    """Send one task, in a process of the pool. The library's output goes to tracker.log."""
    try:
        with captured(task.log_folder / LOG):
            try:
                return task.result("sent", _send(task))
            except Exception as error:
                traceback.print_exc()
                return task.result("failed", _short(error))
    except OSError as error:
        return task.result("failed", _short(error))


def _send(task: _Task) -> str:
    """Send one task and return what was sent."""
    mode = task.options.mode
    if task.run is None:
        study = describe_study(task.folder, task.tracker, mode)
        if offline := _complete_offline_run(task, study.id):
            wandb_sync(offline, task.options)
        else:
            BACKENDS[task.to].load().send_study(study)
        mark_study(task.to, study)
        return f"{len(study.rows)} contrasts, {len(study.files)} files"
    run = describe_run(task.run, mode, tracker=task.tracker)
    if offline := _complete_offline_run(task, run.id):
        wandb_sync(offline, task.options)
        mark_run(task.to, run)
        return f"{offline.name}, which W&B had written"
    return f"{send(task.to, run)} rows"


def _complete_offline_run(task: _Task, id: str) -> Path | None:
    """Return W&B's offline run of the current record, if it is complete: a killed follower has not marked it as sent."""
    if task.to != "wandb" or task.options.mode != "online":
        return None
    folder = task.log_folder.resolve()
    complete = is_sent(folder, "wandb", destination("wandb", task.recorded, "offline"), task.version())
    runs = offline_runs(folder, id)
    return runs[-1] if complete and runs else None


def wandb_sync(folder: Path, options: SyncOptions) -> None:
    """Run `wandb sync`. It exits with 0 even if nothing was sent, so the `.synced` file that it writes is checked."""
    chosen = {"--project": options.project, "--entity": options.entity}
    arguments = [word for option, value in chosen.items() if value for word in (option, value)]
    command = [sys.executable, "-m", "wandb", "sync", *arguments, str(folder)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WANDB_SYNC_SECONDS
    )
    output = redact(done.stdout + done.stderr)
    print(output)
    if done.returncode or not any(folder.glob("*.wandb.synced")):
        lines = [line for line in output.splitlines() if line.strip()]
        raise AblateError(f"`wandb sync` has not sent {folder.name}: {lines[-1] if lines else 'no output'}")


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return redact(text if isinstance(error, AblateError) else f"{type(error).__name__}: {text}")[:300]

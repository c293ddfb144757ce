"""`ablate sync`: send the finished runs of a study, several at a time, and then its conclusions; nothing is sent twice."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from ablate.config.schema import TrackerConfig
from ablate.errors import ConfigError, RecordError, StudyError, nearest
from ablate.records.layout import RunDir, StudyDir
from ablate.redact import redact
from ablate.tracking.backends import BACKENDS, logged_in
from ablate.tracking.describe import Mode, read_config, tracker_of
from ablate.tracking.follower import command, destination, is_sent

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


def sync(folder: Path, options: SyncOptions) -> Iterator[SyncResult]:
    """Yield a result for each run, and for the study last.

    Raises StudyError for a directory without runs, ConfigError if no tracker is known or it cannot be used.
    """
    runs = [run for run in StudyDir(folder).runs() if not run.leads_out()]
    if not runs:
        raise StudyError(f"expected a study directory, got {folder} without runs", "ablate sync runs/STUDY")
    tracker = _tracker(folder, runs, options)
    for name in tracker.names:
        _check_usable(name, options)
        send = partial(_send, name=name, tracker=tracker, options=options)
        with ThreadPoolExecutor(options.workers) as pool:
            yield from pool.map(lambda run, send=send: send("run", run.path), runs)
        if StudyDir(folder).analysis.exists():
            yield send("study", folder)


def _tracker(folder: Path, runs: Sequence[RunDir], options: SyncOptions) -> TrackerConfig:
    """Return the tracker of the first readable config, with the options applied."""
    # `[wandb, mlflow]` is accepted as well, as in `tracker=[wandb,mlflow]`.
    names = [name.strip() for name in re.split("[+,]", options.to.strip("[]"))] if options.to is not None else []
    for name in names:
        if name not in BACKENDS:
            problem = f"--to {options.to}: expected {', '.join(BACKENDS)}, got {name!r}; {nearest(name, BACKENDS)}"
            raise ConfigError(problem, "--to wandb")
    recorded = TrackerConfig()
    for run in runs:
        with suppress(RecordError):  # reported with its run
            recorded = tracker_of(read_config(run))
            break
    changes = {
        "name": "+".join(names) or None,
        "project": options.project,
        "entity": options.entity,
        "uri": options.uri,
    }
    tracker = replace(recorded, **{key: value for key, value in changes.items() if value is not None})
    _check_destination(folder, tracker, recorded, options)
    if not tracker.names:
        raise ConfigError(
            f"{folder} was run without a tracker, so --to is required", f"ablate sync {folder} --to wandb"
        )
    return tracker


def _check_destination(folder: Path, tracker: TrackerConfig, recorded: TrackerConfig, options: SyncOptions) -> None:
    """Raise ConfigError where only the record says where to send: the folder may come from anybody, the login does not."""
    if options.mode == "offline":
        return
    for name, option, variable in (("mlflow", "uri", "MLFLOW_TRACKING_URI"), ("wandb", "entity", "WANDB_ENTITY")):
        there = getattr(recorded, option)
        confirmed = getattr(options, option) is not None or os.environ.get(variable) == there
        if name in tracker.names and there and not confirmed:
            raise ConfigError(
                f"{folder} names where to send it, --{option} {redact(there)}, and a folder may come from anybody: expected "
                f"--{option} or {variable}, got neither",
                f"ablate sync {folder} --{option} {redact(there)}, if that is where you want to send it",
            )


def _check_usable(name: str, options: SyncOptions) -> None:
    backend = BACKENDS[name]
    if install := backend.install_command:
        raise ConfigError(f"{backend.title} requires the package {backend.package}, which is not installed", install)
    if name == "wandb" and options.mode == "online" and not logged_in():
        raise ConfigError(
            "not logged in to W&B", "wandb login, or WANDB_API_KEY=...; --mode offline writes what it would send"
        )


def _send(what: str, folder: Path, *, name: str, tracker: TrackerConfig, options: SyncOptions) -> SyncResult:
    """Send a run, or the conclusions of the study, in a follower process of its own, which writes to tracker.log."""
    of = folder.resolve()
    result = partial(SyncResult, to=name, name="study" if what == "study" else f"{of.parent.name}/{of.name}")
    if what == "run" and not RunDir(folder).status.exists():
        return result(status="not finished", message="it has no status yet")
    if not options.force and is_sent(folder, name, destination(name, tracker, options.mode)):
        return result(status="already sent")
    process = command(what, folder, name, options.mode, tracker, parent=0)
    done = subprocess.run(**process, capture_output=True, text=True, errors="replace", check=False)
    lines = [*done.stderr.splitlines(), *done.stdout.splitlines()] or [f"its process ended: {done.returncode}"]
    return result(status="failed" if done.returncode else "sent", message=lines[-1])

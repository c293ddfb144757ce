"""Sending what is finished: every run of a study, several at a time, and the study itself. What was sent is not sent again."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from ablate.config.schema import TrackerConfig
from ablate.errors import AblateError, ConfigError, RecordError, StudyError, nearest
from ablate.records.layout import RunDir, StudyDir
from ablate.redact import redact
from ablate.runner.log_capture import captured
from ablate.tracking.backends import KINDS
from ablate.tracking.describe import Mode, read_config, tell_run, tell_study, tracker_of, with_asked
from ablate.tracking.follower import LOG, logged_in
from ablate.tracking.sent_marks import is_sent, mark_run, mark_study, state_of_run, state_of_study, where
from ablate.tracking.wandb import offline_runs

# What has been sent where: `<tracker>.synced.json` in the folder of a run or of a study, so that nothing is
# sent twice.


_SYNC_SECONDS = 1800  # for one run; W&B itself goes on trying a server that is not there

How = Literal["sent", "there already", "not finished", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What was typed. to, project, entity, uri: None takes what the study was run with. again: also what was sent before."""

    to: str | None = None
    mode: Mode = "online"
    workers: int = 4
    project: str | None = None
    entity: str | None = None
    uri: str | None = None
    again: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Synced:
    """What became of one run, or of the study's own. to: the tracker."""

    to: str
    name: str
    how: How
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class _Task:
    """One run, or the study where `run` is None. ran: the tracker that it was run with."""

    folder: Path
    ran: TrackerConfig
    tracker: TrackerConfig
    mode: Mode
    to: str
    typed: tuple[str, ...]
    run: RunDir | None = None

    @property
    def name(self) -> str:
        return "the study itself" if self.run is None else f"{self.run.path.parent.name}/{self.run.path.name}"


def sync(folder: Path, asked: Asked) -> Iterator[Synced]:
    """One value for each run as it is done, the study's own last.

    Raises StudyError for a folder without runs, and ConfigError where it cannot be told where to, or nobody may send there.
    """
    runs = [run for run in StudyDir(folder).runs() if not run.leads_out()]
    if not runs:
        raise StudyError(f"{folder} holds no runs", "ablate sync runs/STUDY")
    ran = _ran_with(runs)
    tracker = _tracker(folder, ran, asked)
    typed = [("--project", asked.project), ("--entity", asked.entity)]
    words = tuple(word for option, value in typed if value for word in (option, value))
    for to in tracker.names:
        _check(to, asked)
        tasks = [_Task(folder, ran, tracker, asked.mode, to, words, run) for run in runs]
        yield from _send(tasks, asked)
        if StudyDir(folder).analysis.exists():
            yield from _send([_Task(folder, ran, tracker, asked.mode, to, words)], asked)


def _ran_with(runs: list[RunDir]) -> TrackerConfig:
    """As the first run says whose config can be read; the others are reported one by one."""
    for run in runs:
        with suppress(RecordError):
            return tracker_of(read_config(run))
    return TrackerConfig()


def _tracker(folder: Path, ran: TrackerConfig, asked: Asked) -> TrackerConfig:
    for name in (asked.to or "").split("+") if asked.to is not None else ():
        if name not in KINDS:
            raise ConfigError(f"--to {asked.to}: there is no tracker {name!r}; {nearest(name, KINDS)}", "--to wandb")
    tracker = with_asked(ran, name=asked.to, project=asked.project, entity=asked.entity, uri=asked.uri)
    if not tracker.names:
        raise ConfigError(f"{folder} was run without a tracker: where to?", f"ablate sync {folder} --to wandb")
    return tracker


def _check(to: str, asked: Asked) -> None:
    kind = KINDS[to]
    if kind.missing:
        raise ConfigError(f"the package {kind.package} is not installed, and {kind.title} needs it", kind.missing)
    if to == "wandb" and asked.mode == "online" and not logged_in():
        raise ConfigError(
            "not logged in to W&B", "wandb login, or WANDB_API_KEY=...; --mode offline writes what it would send"
        )


def _send(tasks: list[_Task], asked: Asked) -> Iterator[Synced]:
    due = []
    for task in tasks:
        known = _known(task, asked)
        if known is None:
            due.append(task)
        else:
            yield known
    if not due:
        return
    # Fresh processes: a tracker's library has one run at a time, and what it breaks it breaks there.
    with ProcessPoolExecutor(min(asked.workers, len(due)), mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[Synced], _Task] = {pool.submit(_one, task): task for task in due}
        for future in as_completed(waiting):
            try:
                yield future.result()
            except Exception as error:  # its process is gone
                yield Synced(to=waiting[future].to, name=waiting[future].name, how="failed", sentence=_short(error))


def _known(task: _Task, asked: Asked) -> Synced | None:
    """What can be said without sending anything."""
    if task.run is not None and not task.run.status.exists():
        return Synced(to=task.to, name=task.name, how="not finished", sentence="its outcome is not there yet")
    folder = task.folder if task.run is None else task.run.path
    state = state_of_study(task.folder) if task.run is None else state_of_run(task.run)
    sent = is_sent(folder, task.to, where(task.to, task.tracker, task.mode), state)
    return Synced(to=task.to, name=task.name, how="there already") if sent and not asked.again else None


def _one(task: _Task) -> Synced:
    """In a process of the pool. Its library's talk goes to tracker.log."""
    folder = task.folder if task.run is None else task.run.path
    try:
        with captured(folder / LOG):
            try:
                return Synced(to=task.to, name=task.name, how="sent", sentence=_do(task))
            except Exception as error:
                traceback.print_exc()
                return Synced(to=task.to, name=task.name, how="failed", sentence=_short(error))
    except OSError as error:
        return Synced(to=task.to, name=task.name, how="failed", sentence=_short(error))


def _do(task: _Task) -> str:
    """Send one; what W&B has written in the meantime goes as it lies there."""
    from ablate.tracking.follower import send

    if task.run is None:
        told = tell_study(task.folder, task.tracker, task.mode)
        if kept := _kept(task, told.folder, told.id, state_of_study(told.folder)):
            wandb_sync(kept, task.typed)
        else:
            KINDS[task.to].load().send_study(told)
        mark_study(task.to, told)
        return f"{len(told.rows)} contrasts, {len(told.files)} files"
    run = tell_run(task.run, task.mode, tracker=task.tracker)
    kept = _kept(task, run.run.path, run.id, state_of_run(run.run))
    if kept is None:
        return f"{send(task.to, run)} rows"
    wandb_sync(kept, task.typed)
    mark_run(task.to, run)
    return f"{kept.name}, as W&B had written it"


def _kept(task: _Task, folder: Path, id: str, state: str) -> Path | None:
    """A run that W&B has kept whole, of the record as it is now: a follower that was killed has left no mark."""
    if task.to != "wandb" or task.mode != "online":
        return None
    whole = is_sent(folder, "wandb", where("wandb", task.ran, "offline"), state)
    found = offline_runs(folder, id)
    return found[-1] if whole and found else None


def wandb_sync(folder: Path, typed: tuple[str, ...]) -> None:
    """W&B's own command. It exits with 0 also where nothing was sent; the mark it leaves beside the file says what was."""
    command = [sys.executable, "-m", "wandb", "sync", *typed, str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SYNC_SECONDS)
    print(redact(done.stdout + done.stderr))
    if done.returncode or not any(folder.glob("*.wandb.synced")):
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise AblateError(redact(f"`wandb sync` has not sent {folder.name}: {said[-1] if said else 'it said nothing'}"))


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return redact(text if isinstance(error, AblateError) else f"{type(error).__name__}: {text}")[:300]

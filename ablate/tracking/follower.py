"""Process that sends one run, or the conclusions of one study, to one tracker:

`python -m ablate.tracking.follower run|resumed|study FOLDER TRACKER online|offline PARENT_PID`

It reads new rows of the record every two seconds, and ends when the run has ended or its process is gone; with PARENT_PID 0 it
sends a record that is complete. Its errors are written to `tracker.log` and affect nothing else.

Each run and tracker has its own process, rather than one process per study. W&B's library supports one run per process; a
tracker that fails or hangs must not hold up another run or tracker; what a library prints belongs in the log of its own run;
and the arms of a study may run on different machines. A follower detects that its run was killed by losing its parent.

`<tracker>.synced.json` in the directory of a run or study lists what was sent where, so that nothing is sent twice.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn, cast

from ablate.config.schema import Config, TrackerConfig
from ablate.errors import AblateError, RecordError
from ablate.records.layout import RunDir, StudyDir, check_own_folder
from ablate.records.metadata import read_status
from ablate.records.returned_values import read_returned
from ablate.redact import hide_secrets_of, redact
from ablate.runner.log_capture import captured
from ablate.serialization import open_own, read_json, write_json
from ablate.tracking.backends import BACKENDS, TrackedRun, mode_of, notice
from ablate.tracking.describe import Mode, RunEnd, RunInfo, StudyInfo, describe_run, describe_study
from ablate.tracking.rows import RecordRows
from ablate.tracking.tensorboard import STUDY_RUN
from ablate.tracking.wandb import offline_runs, upload_offline

LOG = "tracker.log"
"""Output of the followers and of the trackers' libraries, in the directory of a run or study."""

_TRACKER = "ABLATE_TRACKER"
"""Environment variable with the tracker's config, as JSON."""

_POLL_SECONDS = 2.0
_END_POLL_SECONDS = 0.1  # checks only whether a file exists
_GRACE_SECONDS = 3.0  # until the study has written the status of a run whose process was killed
_END_TIMEOUT_SECONDS = 60  # after the end, for a server that cannot be reached; `ablate sync` sends the rest
_FAILED_END_SECONDS = 10
_SYNC_END_SECONDS = 600  # the user waits for `ablate sync`, and sees what it does
_STUDY_WAIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Follower:
    """Processes that send one run, one for each tracker. They end by themselves after the run."""

    processes: tuple[subprocess.Popen[bytes], ...]

    def wait(self, seconds: float = _STUDY_WAIT_SECONDS) -> bool:
        """Return whether all processes ended in time; the others continue."""
        deadline = time.monotonic() + seconds
        try:
            for process in self.processes:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True


def start(run: RunDir, config: Config) -> Follower | None:
    """Follow a run that is about to start; its config.yaml and manifest.json exist already.

    Returns None if no tracker is on, and then prints why, unless `tracker.mode=off`.
    """
    return _start("resumed" if run.trace.exists() else "run", run.path, config.tracker)


def start_study(folder: Path, tracker: TrackerConfig) -> Follower | None:
    """Send the conclusions of a study. Prints nothing if no tracker is on: its runs have said so."""
    if not StudyDir(folder).analysis.exists() or not any(mode_of(name, tracker) for name in tracker.names):
        return None
    return _start("study", folder, tracker)


def _start(what: str, folder: Path, tracker: TrackerConfig) -> Follower | None:
    if line := notice(tracker):
        print(line, flush=True)
    processes = []
    for name in tracker.names:
        mode = mode_of(name, tracker)
        if mode is None:
            continue
        try:
            _check_own(folder)
            with os.fdopen(open_own(folder / LOG, os.O_APPEND), "ab") as log:
                # In a session of its own: Ctrl-C stops the run, and the follower then sends the rows up to that point.
                process = subprocess.Popen(
                    **command(what, folder, name, mode, tracker, parent=os.getpid()), stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except (OSError, RecordError) as error:
            of = "study" if what == "study" else "run"
            print(f"{BACKENDS[name].title} is off for this {of}: cannot start its process ({error})", flush=True)
            continue
        processes.append(process)
    return Follower(tuple(processes)) if processes else None


def _check_own(folder: Path) -> None:
    """Raise RecordError where what is written into the folder of a run or a study would lead out of it."""
    for name in ("wandb", STUDY_RUN):
        check_own_folder(folder / name)
    if RunDir(folder).manifest.exists():
        RunDir(folder).check_own()


def command(what: str, folder: Path, name: str, mode: Mode, tracker: TrackerConfig, *, parent: int) -> dict[str, Any]:
    """Return the arguments that start a follower with `subprocess`.

    Modules of the working directory do not shadow those that it imports (`-P`). The tracker's config may contain an address
    with a token, so it is in the environment, and not on the command line, which every user of the machine can read.
    """
    arguments = [what, str(folder.resolve()), name, mode, str(parent)]
    return {
        "args": [sys.executable, "-P", "-m", "ablate.tracking.follower", *arguments],
        "env": {**os.environ, _TRACKER: json.dumps(asdict(tracker))},
        "stdin": subprocess.DEVNULL,
    }


# ---- in the process ----


def main(arguments: Sequence[str]) -> int:
    """Print what was sent, or why it was not, as one line. Return exit code 0 if everything was sent."""
    what, folder, name, mode, parent = arguments
    os.nice(10)  # the run may need every core
    if int(parent):
        _keep_deadline(what, Path(folder), int(parent))
    hide_secrets_of([os.environ[_TRACKER]])
    tracker, chosen = TrackerConfig(**json.loads(os.environ[_TRACKER])), cast(Mode, mode)
    try:
        _check_own(Path(folder))
        with captured(Path(folder) / LOG):
            try:
                print(f"{name}: follows", flush=True)
                if what == "study":
                    message = _send_study(name, Path(folder), tracker, chosen, int(parent))
                else:
                    message = _send_run(name, RunDir(Path(folder)), tracker, chosen, int(parent), what == "resumed")
                print(f"{name}: sent {message}", flush=True)
            except (Exception, _DeadlineError):
                traceback.print_exc()  # nothing may wait for this process, so a failure is written to its log
                raise
    except (Exception, _DeadlineError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(redact(text if isinstance(error, AblateError) else f"{type(error).__name__}: {text}")[:300], flush=True)
        if isinstance(error, _DeadlineError):
            os._exit(1)  # threads of a library may hang as well
        return 1
    print(message)
    return 0


def _send_study(name: str, folder: Path, tracker: TrackerConfig, mode: Mode, parent: int) -> str:
    """Send the conclusions of a study. Return what was sent."""
    info = describe_study(folder, tracker, mode)
    if parent == 0 and (stored := _stored_offline(name, info)):
        upload_offline(stored, tracker)
    else:
        BACKENDS[name].load().send_study(info)
    _mark(name, info)
    return f"{len(info.rows)} contrasts, {len(info.files)} files"


def _send_run(name: str, run: RunDir, tracker: TrackerConfig, mode: Mode, parent: int, resumed: bool) -> str:
    """Send the rows of a run until it has ended, end it at the tracker, and mark it as sent. Return what was sent.

    parent: process of a run in progress; 0 for a run that has ended. resumed: whether a trace existed when it started.
    """
    if parent:
        # A resumed run first removes the rows after its checkpoint, and must have written since.
        _wait_until(lambda: _has_ended(run, parent) or (run.trace.exists() and (not resumed or _writes(run, parent))))
        if not run.config.exists():
            return "nothing: the run ended before its config was written"
    info = describe_run(run, mode, tracker=tracker, pid=parent)
    if parent == 0 and (stored := _stored_offline(name, info)):
        upload_offline(stored, tracker)
        _mark(name, info)
        return f"{stored.name}, which W&B had written"
    tracked = BACKENDS[name].load().Run(info)
    try:
        count = _send_rows(tracked, info, parent)
    except BaseException:
        _end_failed(tracked)
        raise
    if parent:
        _wait_until(run.status.exists, _GRACE_SECONDS)
    end = _run_end(run)
    with _timeout(_SYNC_END_SECONDS if parent == 0 else None):
        tracked.end(end)
    if end.status == "killed":
        return f"{count} rows; the run was killed and has no status"
    _mark(name, info)
    return f"{count} rows"


def _send_rows(tracked: TrackedRun, info: RunInfo, parent: int) -> int:
    """Send every row until the run has ended. Return their number."""
    source, count = RecordRows(info), 0
    while True:
        # Checked before reading, so that all that was written before the end is read in the last round.
        ended = parent == 0 or _has_ended(info.run, parent)
        for rows in source.rows(ended=ended):
            tracked.send(rows)
            count += len(rows)
        if ended:
            return count
        _wait_until(lambda: _has_ended(info.run, parent), _POLL_SECONDS)


def _run_end(run: RunDir) -> RunEnd:
    status = read_status(run)
    numbers = {f"returned/{key}": value for key, value in (read_returned(run) or {}).items()}
    if status is None:
        return RunEnd(status="killed", message="the run was killed", numbers=numbers)
    files = tuple(path for path in (run.trace, run.evals) if path.is_file())
    return RunEnd(status=status.status, message=status.message, numbers={**status.throughput, **numbers}, files=files)


def _end_failed(tracked: TrackedRun) -> None:
    """End a run whose tracker failed, so that it is not shown as running forever. Its own error is only printed."""
    try:
        with _timeout(_FAILED_END_SECONDS), suppress(_DeadlineError):
            tracked.end(RunEnd(status="failed", message="the tracker failed; `ablate sync` sends the run"))
    except Exception:
        traceback.print_exc()


def _writes(run: RunDir, parent: int) -> bool:
    """Return whether this process of the run has written rows."""
    try:
        return bool(read_json(run.progress)["pid"] == parent)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_ended(run: RunDir, parent: int) -> bool:
    # An orphan gets another parent: the run's process is gone, for whatever reason.
    return run.status.exists() or os.getppid() != parent


def _wait_until(condition: Callable[[], bool], seconds: float = math.inf) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(_END_POLL_SECONDS)


class _DeadlineError(BaseException):
    """The tracker took too long. No `Exception`, which a library would catch, and try again."""


def _keep_deadline(what: str, folder: Path, parent: int) -> None:
    """Raise `_DeadlineError` in this process, whatever it does, so many seconds after the run has ended."""
    ended: list[float] = [time.monotonic()] if what == "study" else []

    def check(*_: object) -> None:
        if not ended and _has_ended(RunDir(folder), parent):
            ended.append(time.monotonic())
        if ended and time.monotonic() - ended[0] > _END_TIMEOUT_SECONDS:
            raise _DeadlineError(
                f"the tracker took more than {_END_TIMEOUT_SECONDS} s after the end; `ablate sync` sends the rest"
            )

    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)


@contextmanager
def _timeout(seconds: float | None) -> Iterator[None]:
    """Raise `_DeadlineError` after so many seconds; None leaves the deadline of the process."""
    if seconds is None:
        yield
        return

    def stop(*_: object) -> NoReturn:
        raise _DeadlineError(f"the tracker took more than {seconds} s; `ablate sync` sends the rest")

    before, timer = signal.signal(signal.SIGALRM, stop), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


# ---- what was sent where ----


def is_sent(folder: Path, name: str, destination: str) -> bool:
    """Return whether the current record of a run, or the current conclusions of a study, were sent to a destination."""
    return _marks(folder, name).get(destination) == _version(folder)


def destination(name: str, tracker: TrackerConfig, mode: Mode) -> str:
    """Return the tracker, mode, server and project as text."""
    if name == "wandb":
        return f"wandb {mode} {tracker.entity or ''}/{tracker.project}"
    if name == "mlflow":
        return redact(f"mlflow {mode} {tracker.uri or ''} {tracker.project}")
    return name


def _stored_offline(name: str, info: RunInfo | StudyInfo) -> Path | None:
    """Return W&B's offline run of the current record, if it is complete: a killed follower has not marked it as sent."""
    if name != "wandb" or info.mode != "online":
        return None
    offline = [to for to in _marks(info.folder, name) if to.startswith("wandb offline ")]
    runs = offline_runs(info.folder, info.id)
    return runs[-1] if runs and any(is_sent(info.folder, name, to) for to in offline) else None


def _mark(name: str, info: RunInfo | StudyInfo) -> None:
    """Record that the current record of a run, or the current conclusions of a study, were sent completely."""
    marks = {**_marks(info.folder, name), destination(name, info.tracker, info.mode): _version(info.folder)}
    write_json(_marks_file(info.folder, name), marks, durable=False, hide=True)


def _marks(folder: Path, name: str) -> dict[str, str]:
    try:
        marks = read_json(_marks_file(folder, name))
    except (OSError, ValueError):
        return {}
    return marks if isinstance(marks, dict) else {}


def _marks_file(folder: Path, name: str) -> Path:
    """One file for each tracker, because their processes end at the same time."""
    return folder / f"{name}.synced.json"


def _version(folder: Path) -> str:
    """Return a digest that changes if a run is trained again or resumed, or if the conclusions of a study change."""
    # Not the manifest of a run, whose end time is written after the status.
    run, study = RunDir(folder), StudyDir(folder)
    digest = sha256(b"".join(path.read_bytes() for path in (run.status, run.config, study.analysis) if path.exists()))
    digest.update(str([path.stat().st_size if path.exists() else 0 for path in (run.trace, run.evals)]).encode())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

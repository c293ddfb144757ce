"""Process that sends one run, or the conclusions of one study, to one tracker:

`python -m ablate.tracking.follower run|resumed|study FOLDER TRACKER online|offline PARENT_PID TRACKER_CONFIG`

It reads new rows of the record every two seconds, and ends when the run has ended or its process is gone. Its errors are
written to `tracker.log` and affect nothing else.

Each run and tracker has its own process, rather than one process per study. W&B's library supports one run per process; a
tracker that fails or hangs must not hold up another run or tracker; what a library prints belongs in the log of its own run;
and the arms of a study may run on different machines. A follower detects that its run was killed by losing its parent.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from ablate.config.schema import Config, TrackerConfig
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_status
from ablate.records.returned_values import read_returned
from ablate.runner.log_capture import captured
from ablate.serialization import read_json
from ablate.tracking.backends import BACKENDS, TrackedRun
from ablate.tracking.describe import Mode, RunEnd, RunInfo, describe_run, describe_study
from ablate.tracking.mode import mode_of, notice
from ablate.tracking.rows import RecordRows
from ablate.tracking.sent import mark_run, mark_study

LOG = "tracker.log"
"""Output of the followers and of the trackers' libraries, in the directory of a run or study."""

_POLL_SECONDS = 2.0
_END_POLL_SECONDS = 0.1  # checks only whether a file exists
_GRACE_SECONDS = 3.0  # until the study has written the status of a run whose process was killed
_END_TIMEOUT_SECONDS = 600  # for a server that cannot be reached; `ablate sync` sends the rest


@dataclass(frozen=True, slots=True)
class Follower:
    """Processes that send one run, one for each tracker. They end by themselves after the run."""

    processes: tuple[subprocess.Popen[bytes], ...]

    def wait(self, seconds: float = 30.0) -> bool:
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
        arguments = [what, str(folder.resolve()), name, mode, str(os.getpid()), json.dumps(asdict(tracker))]
        try:
            with (folder / LOG).open("ab") as log:
                # In a session of its own: Ctrl-C stops the run, and the follower then sends the rows up to that point.
                process = subprocess.Popen(
                    [sys.executable, "-m", "ablate.tracking.follower", *arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            of = "study" if what == "study" else "run"
            print(f"{BACKENDS[name].title} is off for this {of}: cannot start its process ({error})", flush=True)
            continue
        processes.append(process)
    return Follower(tuple(processes)) if processes else None


def follow(run: RunDir, name: str, mode: Mode, parent: int, *, resumed: bool = False) -> None:
    """Send the rows of a run until it ends. resumed: whether a trace existed when it started.

    Raises what the tracker's library raises.
    """
    _wait_for_trace(run, parent, resumed)
    if not run.config.exists():
        print("the run ended before its config was written: nothing to send")
        return
    send(name, describe_run(run, mode, pid=parent), parent)


def send(name: str, info: RunInfo, parent: int = 0) -> int:
    """Send every row of a run, end it at the tracker, and mark it as sent. Return the number of rows.

    parent: process of a run in progress; 0 for a run that has ended.
    """
    tracked = BACKENDS[name].load().begin(info)
    source = RecordRows(info)
    count = 0
    try:
        while True:
            # Checked before reading, so that all that was written before the end is read in the last round.
            ended = parent == 0 or _has_ended(info.run, parent)
            for rows in source.rows(ended=ended):
                tracked.send(rows)
                count += len(rows)
            if ended:
                break
            _wait(_POLL_SECONDS, info.run, parent)
    except BaseException:
        _end_failed(tracked)
        raise
    if parent:
        _wait_for_outcome(info.run)
    outcome = read_status(info.run)
    numbers = {f"returned/{key}": value for key, value in (read_returned(info.run) or {}).items()}
    if outcome is None:
        end = RunEnd(status="killed", message="the run was killed", numbers=numbers)
    else:
        files = tuple(path for path in (info.run.trace, info.run.evals) if path.is_file())
        end = RunEnd(
            status=outcome.status, message=outcome.message, numbers={**outcome.throughput, **numbers}, files=files
        )
    with _timeout():
        tracked.end(end)
    if outcome is not None:
        mark_run(name, info)
    print(f"{name}: sent {count} rows; status: {outcome.status if outcome else 'none, the run was killed'}")
    return count


def _end_failed(tracked: TrackedRun) -> None:
    """End a run whose tracker failed, so that it is not shown as running forever. Its own error is only printed."""
    try:
        with _timeout():
            tracked.end(RunEnd(status="failed", message="the tracker failed; `ablate sync` sends the run"))
    except Exception:
        traceback.print_exc()


def _wait_for_trace(run: RunDir, parent: int, resumed: bool) -> None:
    """Wait for the trace. A resumed run first removes the rows after its checkpoint, and must have written since."""
    while not _has_ended(run, parent):
        if run.trace.exists() and (not resumed or _has_written(run, parent)):
            return
        time.sleep(_END_POLL_SECONDS)


def _has_written(run: RunDir, parent: int) -> bool:
    try:
        return bool(read_json(run.progress)["pid"] == parent)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _has_ended(run: RunDir, parent: int) -> bool:
    # An orphan gets another parent: the run's process is gone, for whatever reason.
    return run.status.exists() or os.getppid() != parent


def _wait(seconds: float, run: RunDir, parent: int) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not _has_ended(run, parent):
        time.sleep(_END_POLL_SECONDS)


def _wait_for_outcome(run: RunDir) -> None:
    deadline = time.monotonic() + _GRACE_SECONDS
    while not run.status.exists() and time.monotonic() < deadline:
        time.sleep(_END_POLL_SECONDS)


@contextmanager
def _timeout() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _raise_timeout)
    signal.alarm(_END_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _raise_timeout(*_: Any) -> NoReturn:
    raise TimeoutError(f"the tracker took more than {_END_TIMEOUT_SECONDS} s; `ablate sync` sends the rest")


def main(arguments: Sequence[str]) -> int:
    """Return exit code 0 if everything was sent."""
    what, folder, name, mode, parent, settings = arguments
    os.nice(10)  # the run may need every core
    with captured(Path(folder) / LOG):
        try:
            print(f"{name}: follows", flush=True)
            chosen: Mode = "offline" if mode == "offline" else "online"
            if what == "study":
                info = describe_study(Path(folder), TrackerConfig(**json.loads(settings)), chosen)
                BACKENDS[name].load().send_study(info)
                mark_study(name, info)
                print(f"{name}: sent {len(info.rows)} contrasts and {len(info.files)} files")
            else:
                follow(RunDir(Path(folder)), name, chosen, int(parent), resumed=what == "resumed")
        except Exception:
            # Nothing waits for this process, so a failure is written to its log.
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

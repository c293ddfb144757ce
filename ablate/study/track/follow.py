"""The process that follows one run, or tells of one study, for one tracker:

`python -m ablate.study.track.follow run|resumed|study <folder> <tracker> <online|offline> <pid of who started it> <settings>`.

It reads what the run has written, every two seconds, and sends it as a batch; it ends when the run has an outcome or is
gone. Whatever goes wrong here is written to `tracker.log` and concerns nobody else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ablate.config import TrackerConfig
from ablate.record.returned import read_returned
from ablate.record.rundir import RunDir, read_json
from ablate.record.values import Outcome, read_outcome
from ablate.study.capture import captured
from ablate.study.track.contrasts import tell_study
from ablate.study.track.rows import Ordered, Row, Windows, eval_rows
from ablate.study.track.start import LOG
from ablate.study.track.synced import mark_run, mark_study
from ablate.study.track.tail import Tail
from ablate.study.track.told import End, Mode, Told, tell_run
from ablate.study.track.trackers import KINDS, Tracker

_POLL_SECONDS = 2.0
_LOOK_SECONDS = 0.1  # for the end, which costs no more than asking for a file
_GRACE_SECONDS = 3.0  # for the outcome of a run whose process was killed, which its study writes
_FINISH_SECONDS = 600  # then a server that cannot be reached is given up; `ablate sync` sends the rest
_ROWS_AT_ONCE = 1000


def follow(run: RunDir, name: str, mode: Mode, parent: int, *, resumed: bool = False) -> None:
    """Send the run's rows until it ends. resumed: there was a trace when it began. Raises what the tracker's library raises."""
    _wait_for(run, parent, resumed)
    if not run.config.exists():
        print("the run ended before it had a config: nothing to send")
        return
    send(name, tell_run(run, mode, pid=parent), parent)


def send(name: str, told: Told, parent: int = 0) -> int:
    """Begin, send every row, end, and mark the run as sent. parent: of a run that is going on. Returns the number of rows."""
    tracker = KINDS[name].load().begin(told)
    source = _Source(told)
    sent = 0
    try:
        while True:
            # Asked before reading: what the run wrote before its outcome is then surely read in this round.
            over = parent == 0 or _is_over(told.run, parent)
            for rows in source.rows(over=over):
                tracker.send(rows)
                sent += len(rows)
            if over:
                break
            _until_more(told.run, parent)
    except BaseException:
        _give_back(tracker)
        raise
    outcome = _last_outcome(told.run, wait=parent != 0)
    with _in_time():
        tracker.end(_end(told, outcome))
    if outcome is not None:
        mark_run(name, told)
    print(f"{name}: sent {sent} rows; outcome: {outcome.status if outcome else 'none, the run was killed'}")
    return sent


class _Source:
    """A run's tables as rows, from where it was read last."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._trace, self._evals, self._ordered = Tail(told.run.trace), Tail(told.run.evals), Ordered()
        self._windows: Windows | None = None
        self._newest = 0

    def rows(self, *, over: bool) -> Iterator[list[Row]]:
        """In pieces of a bounded size, however long the trace is. over: nothing comes after what is there now."""
        # The looks first: a look that is read is then one whose steps can be read as well.
        looked = eval_rows(self._evals.new_rows())
        more = True
        while more:
            steps = self._trace.new_rows(_ROWS_AT_ONCE)
            more = len(steps) >= _ROWS_AT_ONCE
            if steps:
                self._newest = steps[-1]["step"]
                self._windows = self._windows or self._make(steps[0])
            last = over and not more
            trained = list(self._windows.rows(steps, last=last)) if self._windows else []
            yield self._ordered.rows(trained, looked, self._newest, over=last)
            looked = []

    def _make(self, first: Row) -> Windows:
        """A run that another loop recorded may have no such settings: then every step is a row."""
        config = self._told.config
        log_every = _setting(config, "observe", "log_every", "1 steps")
        batch = _setting(config, "data", "batch_size", None)
        samples = batch * _setting(config, "loop", "accumulate", 1) if isinstance(batch, int) else first["samples"] or 1
        return Windows(log_every, max(int(samples), 1), self._trace.groups)


def _setting(config: dict[str, Any], group: str, key: str, otherwise: Any) -> Any:
    part = config.get(group)
    return part.get(key, otherwise) if isinstance(part, dict) else otherwise


def _end(told: Told, outcome: Outcome | None) -> End:
    numbers = dict(outcome.throughput) if outcome else {}
    numbers |= {f"returned/{key}": value for key, value in (read_returned(told.run) or {}).items()}
    files = tuple(path for path in (told.run.trace, told.run.evals) if path.is_file() and outcome is not None)
    sentence = outcome.sentence if outcome else "the run was killed"
    return End(status=outcome.status if outcome else "killed", sentence=sentence, numbers=numbers, files=files)


def _give_back(tracker: Tracker) -> None:
    """End what was begun, so that it is not shown as running for ever; the first error is the one to be read."""
    try:
        with _in_time():
            tracker.end(End(status="failed", sentence="the tracker failed; `ablate sync` sends the run"))
    except Exception:
        traceback.print_exc()


def _wait_for(run: RunDir, parent: int, resumed: bool) -> None:
    """Until the run writes its trace. One that goes on first cuts off what came after its checkpoint: not before that."""
    while not _is_over(run, parent):
        if run.trace.exists() and (not resumed or _writes(run, parent)):
            return
        time.sleep(_LOOK_SECONDS)


def _writes(run: RunDir, parent: int) -> bool:
    """Whether its own process has said how far it is."""
    try:
        return bool(read_json(run.progress)["pid"] == parent)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _until_more(run: RunDir, parent: int) -> None:
    deadline = time.monotonic() + _POLL_SECONDS
    while time.monotonic() < deadline and not _is_over(run, parent):
        time.sleep(_LOOK_SECONDS)


def _is_over(run: RunDir, parent: int) -> bool:
    # The system hands an orphan to another process: the run is then gone, however it went.
    return run.outcome.exists() or os.getppid() != parent


def _last_outcome(run: RunDir, *, wait: bool) -> Outcome | None:
    deadline = time.monotonic() + (_GRACE_SECONDS if wait else 0)
    while not run.outcome.exists() and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    return read_outcome(run)


@contextmanager
def _in_time() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_FINISH_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _give_up(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError(f"the tracker took more than {_FINISH_SECONDS} s; `ablate sync` sends the rest")


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when everything was sent."""
    what, folder, name, mode, parent, settings = arguments
    # Behind the run itself, which may need every core.
    os.nice(10)
    with captured(Path(folder) / LOG):
        try:
            print(f"{name}: follows", flush=True)
            at: Mode = "offline" if mode == "offline" else "online"
            if what == "study":
                told = tell_study(Path(folder), TrackerConfig(**json.loads(settings)), at)
                KINDS[name].load().send_study(told)
                mark_study(name, told)
                print(f"{name}: sent {len(told.rows)} contrasts and {len(told.files)} files")
            else:
                follow(RunDir(Path(folder)), name, at, int(parent), resumed=what == "resumed")
        except Exception:
            # The boundary of this process: nobody waits for it, so its log is where a failure can be read.
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

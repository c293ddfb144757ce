"""Live view of a study: runs that are done, running and failed, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus
from ablate.serialization import read_json

_PLAIN_EVERY_SECONDS = 20.0
_ELSEWHERE = "elsewhere"


class LiveView:
    """Count runs and read the `progress.json` of each running run."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self.title, self.total, self.already_done = title, total, done
        self.done = self.failed = self.elsewhere = 0
        """elsewhere: runs that another process of the study has locked."""
        self.running: dict[str, tuple[RunDir, float]] = {}
        """{name: (run, start in seconds since the epoch)}."""
        self._began = time.monotonic()
        self._seconds: list[float] = []
        self._most = 1

    def started(self, name: str, run: RunDir) -> None:
        self.running[name] = (run, time.time())
        self._most = max(self._most, len(self.running))

    def ended(self, name: str, outcome: RunStatus) -> None:
        """Count a run that ended without a retry, here or elsewhere."""
        took = _ELSEWHERE
        if name in self.running:
            self._seconds.append(time.time() - self.running.pop(name)[1])
            took = duration(self._seconds[-1])
        self.done += outcome.status == "finished"
        self.failed += outcome.status != "finished"
        self.print_end(name, outcome, took)

    def again(self, name: str, outcome: RunStatus, which: str) -> None:
        """Report a run that is retried. which: `try 2 of 2`."""
        self.running.pop(name)
        self.print_event(f"{name}: {outcome.message}; {which} follows")

    def lost(self, name: str) -> None:
        """Report a run that another process has taken over."""
        self.running.pop(name)
        self.print_event(f"{name}: another process has taken this run over, and it was ended here")

    def print_end(self, name: str, outcome: RunStatus, took: str) -> None:
        """Print one line for a run that has ended. took: how long, or `elsewhere`."""

    def print_event(self, line: str) -> None:
        """Print an event."""

    def refresh(self) -> None:
        """Show the present state."""

    def headline(self) -> str:
        counts = [f"{self.done + self.already_done}/{self.total} runs done"] * (self.total > 1)
        counts.append(f"{len(self.running)} running")
        if self.elsewhere:
            counts.append(f"{self.elsewhere} elsewhere")
        if self.failed:
            counts.append(f"{self.failed} failed")
        return "   ".join([*[self.title] * bool(self.title), *counts, self.time_left()])

    def time_left(self) -> str:
        """Return the time left, from the mean time of the ended runs, or from the progress of the running ones."""
        now = time.time()
        parts = [(_share(_progress(run, began)), now - began) for run, began in self.running.values()]
        estimates = [elapsed / share for share, elapsed in parts if share > 0.05]
        known = self._seconds or estimates
        if not known:
            return "time left: measuring"
        per_run = sum(known) / len(known)
        waiting = self.total - self.already_done - self.done - self.failed - len(self.running)
        work = waiting * per_run + sum(max(0.0, per_run - elapsed) for _, elapsed in parts)
        # Not the number of running runs: one has just ended, and the next has not begun.
        num_parallel = min(self._most + self.elsewhere, max(waiting + len(self.running), 1))
        return f"about {duration(work / num_parallel)} left"

    def lines(self) -> list[str]:
        """Return one line per running run."""
        return [f"  {_short(name):<28} {_state(_progress(*own))}" for name, own in sorted(self.running.items())]


class PlainView(LiveView):
    """View for pipes and files: a line per ended run, and the state every 20 seconds."""

    _printed = 0.0

    def print_end(self, name: str, outcome: RunStatus, took: str) -> None:
        state = self.headline() if self.total > 1 else took
        if took == _ELSEWHERE:
            state = f"{_ELSEWHERE}   {state}"
        print(f"{outcome.status:<11} {name:<32} {state}", flush=True)
        if outcome.status != "finished":
            print(f"  {outcome.message}", flush=True)

    def print_event(self, line: str) -> None:
        print(line, flush=True)

    def refresh(self) -> None:
        if time.monotonic() - self._printed >= _PLAIN_EVERY_SECONDS and (self.running or self.elsewhere):
            self._printed = time.monotonic()
            print("\n".join([self.headline(), *self.lines()]), flush=True)


class MovingView(LiveView):
    """View for a terminal: redrawn in place, with the ended runs above."""

    live: Live

    def print_end(self, name: str, outcome: RunStatus, took: str) -> None:
        good = outcome.status == "finished"
        self.live.console.print(Text(f"{outcome.status:<11} {name}  {took}", style="" if good else "bold red"))
        if not good:
            self.live.console.print(Text(f"  {outcome.message}"))

    def print_event(self, line: str) -> None:
        self.live.console.print(Text(line))

    def refresh(self) -> None:
        table = Table.grid()
        for line in self.lines():
            table.add_row(Text(line, overflow="ellipsis", no_wrap=True))
        self.live.update(Group(Text(self.headline(), style="bold"), table))


@contextmanager
def plain_or_live(title: str, total: int, done: int) -> Iterator[LiveView]:
    """Yield the view for standard output: plain lines in a pipe, a file, a notebook and a dumb terminal."""
    console = Console()
    if not (console.is_terminal and sys.stdout.isatty()) or console.is_dumb_terminal or console.is_jupyter:
        yield PlainView(title, total, done)
        return
    view = MovingView(title, total, done)
    with Live(console=console, refresh_per_second=4, transient=True) as view.live:
        yield view


def duration(seconds: float) -> str:
    """Return a time as `40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(name: str, width: int = 28) -> str:
    """Shorten a name in its middle: the seed at the end identifies the run."""
    if len(name) <= width:
        return name
    end = min(len(name) - max(name.rfind("/"), len(name) - width // 2), width - 2)
    return f"{name[: width - end - 1]}…{name[-end:]}"


def _progress(run: RunDir, began: float) -> dict[str, Any] | None:
    """Return the progress of this session; None before its first block."""
    try:
        return read_json(run.progress) if run.progress.stat().st_mtime >= began else None
    except FileNotFoundError:
        return None


def _share(progress: dict[str, Any] | None) -> float:
    """Return the share of this session's steps that is done, 0 to 1."""
    if progress is None:
        return 0.0
    before = progress["sessions"][-1]["first_step"] - 1
    return float((progress["step"] - before) / max(progress["total_steps"] - before, 1))


def _state(progress: dict[str, Any] | None) -> str:
    if progress is None:
        return "starting"
    return (
        f"step {progress['step']}/{progress['total_steps']}  loss {float(progress['loss']):.3f}  "
        f"grad norm {float(progress['grad_norm']):.2f}  {progress['samples_per_second']:.0f} samples/s"
    )

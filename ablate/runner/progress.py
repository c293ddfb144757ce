"""The live view of a study: what is done, running and failed, and how long it will take."""

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
    """Counts runs and reads each running run's `progress.json`."""

    def __init__(self, title: str, total: int, done: int) -> None:
        self.title, self.total, self.kept = title, total, done
        self.done = self.failed = self.elsewhere = 0
        """elsewhere: runs that another process of the study has taken."""
        self.running: dict[str, tuple[RunDir, float]] = {}
        """By name: the folder, and when it was started, in seconds since the epoch."""
        self._began = time.monotonic()
        self._seconds: list[float] = []
        self._most = 1

    def started(self, name: str, run: RunDir) -> None:
        self.running[name] = (run, time.time())
        self._most = max(self._most, len(self.running))

    def ended(self, name: str, outcome: RunStatus) -> None:
        """For good; of a run that was started elsewhere, too."""
        took = _ELSEWHERE
        if name in self.running:
            self._seconds.append(time.time() - self.running.pop(name)[1])
            took = duration(self._seconds[-1])
        self.done += outcome.status == "finished"
        self.failed += outcome.status != "finished"
        self.say(name, outcome, took)

    def again(self, name: str, outcome: RunStatus, which: str) -> None:
        """It ended by what can pass, and is tried again. which: `try 2 of 2`."""
        self.running.pop(name)
        self.tell(f"{name}: {outcome.message}; {which} follows")

    def lost(self, name: str) -> None:
        """Another process has taken the run over."""
        self.running.pop(name)
        self.tell(f"{name}: another process has taken this run over, and it was ended here")

    def say(self, name: str, outcome: RunStatus, took: str) -> None:
        """One line for a run that has ended. took: how long, or `elsewhere`."""

    def tell(self, line: str) -> None:
        """Something that happened meanwhile."""

    def refresh(self) -> None:
        """Show the state now."""

    def headline(self) -> str:
        counts = [f"{self.done + self.kept}/{self.total} runs done"] * (self.total > 1)
        counts.append(f"{len(self.running)} running")
        if self.elsewhere:
            counts.append(f"{self.elsewhere} elsewhere")
        if self.failed:
            counts.append(f"{self.failed} failed")
        return "   ".join([*[self.title] * bool(self.title), *counts, self.time_left()])

    def time_left(self) -> str:
        """From the mean time of the runs that ended, or from the progress of those that run."""
        now = time.time()
        parts = [(_share(_progress(run, began)), now - began) for run, began in self.running.values()]
        estimates = [elapsed / share for share, elapsed in parts if share > 0.05]
        known = self._seconds or estimates
        if not known:
            return "time left: measuring"
        per_run = sum(known) / len(known)
        waiting = self.total - self.kept - self.done - self.failed - len(self.running)
        work = waiting * per_run + sum(max(0.0, per_run - elapsed) for _, elapsed in parts)
        # Not those that go at this moment: one has just ended, and the next has not begun.
        at_once = min(self._most + self.elsewhere, max(waiting + len(self.running), 1))
        return f"about {duration(work / at_once)} left"

    def lines(self) -> list[str]:
        """One line per running run."""
        return [f"  {_short(name):<28} {_state(_progress(*own))}" for name, own in sorted(self.running.items())]


class PlainView(LiveView):
    """For pipes and files: a line per ended run, and the state every 20 seconds."""

    _said = 0.0

    def say(self, name: str, outcome: RunStatus, took: str) -> None:
        state = self.headline() if self.total > 1 else took
        if took == _ELSEWHERE:
            state = f"{_ELSEWHERE}   {state}"
        print(f"{outcome.status:<11} {name:<32} {state}", flush=True)
        if outcome.status != "finished":
            print(f"  {outcome.message}", flush=True)

    def tell(self, line: str) -> None:
        print(line, flush=True)

    def refresh(self) -> None:
        if time.monotonic() - self._said >= _PLAIN_EVERY_SECONDS and (self.running or self.elsewhere):
            self._said = time.monotonic()
            print("\n".join([self.headline(), *self.lines()]), flush=True)


class MovingView(LiveView):
    """For a terminal: redrawn in place, ended runs scroll by above."""

    live: Live

    def say(self, name: str, outcome: RunStatus, took: str) -> None:
        good = outcome.status == "finished"
        self.live.console.print(Text(f"{outcome.status:<11} {name}  {took}", style="" if good else "bold red"))
        if not good:
            self.live.console.print(Text(f"  {outcome.message}"))

    def tell(self, line: str) -> None:
        self.live.console.print(Text(line))

    def refresh(self) -> None:
        table = Table.grid()
        for line in self.lines():
            table.add_row(Text(line, overflow="ellipsis", no_wrap=True))
        self.live.update(Group(Text(self.headline(), style="bold"), table))


@contextmanager
def plain_or_live(title: str, total: int, done: int) -> Iterator[LiveView]:
    """The view that suits where standard output goes: lines in a pipe, a file, a notebook and a terminal that cannot move."""
    console = Console()
    if not (console.is_terminal and sys.stdout.isatty()) or console.is_dumb_terminal or console.is_jupyter:
        yield PlainView(title, total, done)
        return
    view = MovingView(title, total, done)
    with Live(console=console, refresh_per_second=4, transient=True) as view.live:
        yield view


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(name: str, width: int = 28) -> str:
    """The middle goes: the seed at the end tells one run of a long arm from the next."""
    if len(name) <= width:
        return name
    end = min(len(name) - max(name.rfind("/"), len(name) - width // 2), width - 2)
    return f"{name[: width - end - 1]}…{name[-end:]}"


def _progress(run: RunDir, began: float) -> dict[str, Any] | None:
    """What the run has said since it was started; None before its first block, whatever an earlier session said."""
    try:
        return read_json(run.progress) if run.progress.stat().st_mtime >= began else None
    except FileNotFoundError:
        return None


def _share(progress: dict[str, Any] | None) -> float:
    """How much of what this session has to do is done, 0 to 1."""
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

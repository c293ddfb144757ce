"""Progress of the runs of a study and the time left, and the live view of both."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ablate.formatting import duration
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus
from ablate.redact import shown, visible
from ablate.serialization import read_json

_PLAIN_EVERY_SECONDS = 20.0
_WIDTH, _LONGEST_NAME = 80, 28


@dataclass(frozen=True, kw_only=True, slots=True)
class RunProgress:
    """How far the present session of a run is, as its last block of rows tells."""

    step: int
    total_steps: int
    eval_loss: float | None
    """Of the last evaluation of this session."""
    samples_per_second: float
    share: float
    """Share of the session's steps that is done, 0 to 1."""
    seconds: float
    """Time that these steps took, start-up included."""

    @property
    def seconds_left(self) -> float | None:
        """None at the beginning of a session, when its pace is unknown."""
        return self.seconds * (1 - self.share) / self.share if self.share > 0.05 else None


def read_progress(run: RunDir, since: float) -> RunProgress | None:
    """Return the progress of a session; None before its first block of rows. since: its start, in seconds since the epoch."""
    try:
        value = read_json(run.progress)
        seconds = datetime.fromisoformat(value["updated"]).timestamp() - since
        before = value["sessions"][-1]["first_step"] - 1
        progress = RunProgress(
            step=value["step"],
            total_steps=value["total_steps"],
            eval_loss=float(value["eval_loss"]) if "eval_loss" in value else None,
            samples_per_second=value["samples_per_second"],
            share=(value["step"] - before) / max(value["total_steps"] - before, 1),
            seconds=seconds,
        )
    except (OSError, LookupError, TypeError, ValueError):
        return None
    return progress if seconds >= 0 else None


def seconds_left(
    took: Sequence[float], running: Sequence[tuple[float, RunProgress | None]], waiting: int, num_parallel: int
) -> float | None:
    """Return the time until all runs have ended; None while no run tells how long one takes.

    took: seconds of the runs that have ended. running: (seconds since its start, its progress) of each running one.
    """
    whole = [
        progress.seconds / progress.share for _, progress in running if progress and progress.seconds_left is not None
    ]
    if not (took or whole):
        return None
    each = statistics.fmean(took or whole)
    left = [progress.seconds_left if progress is not None else None for _, progress in running]
    rest = [max(0.0, each - since) if own is None else own for (since, _), own in zip(running, left, strict=True)]
    return (sum(rest) + waiting * each) / max(num_parallel, 1)


class LiveView:
    """Count runs and read the `progress.json` of each running run.

    live: redrawn in place on a terminal, with the ended runs above; None prints a line per ended run, and the state every 20
    seconds, for pipes and files.
    """

    def __init__(self, title: str, total: int, done: int, live: Live | None = None) -> None:
        self.title, self.total, self.already_done, self.live = title, total, done, live
        self.done = self.failed = self.elsewhere = 0
        """elsewhere: runs that another process of the study has locked."""
        self.running: dict[str, tuple[RunDir, float]] = {}
        """{name: (run, start in seconds since the epoch)}."""
        self._began = time.time()
        self._printed = 0.0
        self._seconds: list[float] = []
        self._most = 1

    def started(self, name: str, run: RunDir) -> None:
        self.running[name] = (run, time.time())
        self._most = max(self._most, len(self.running))

    def ended(self, name: str, outcome: RunStatus) -> None:
        """Count and print a run that ended without a retry, here or elsewhere."""
        took = "elsewhere"
        if name in self.running:
            self._seconds.append(time.time() - self.running.pop(name)[1])
            took = duration(self._seconds[-1])
        good = outcome.status == "finished"
        self.done += good
        self.failed += not good
        counts = f"   {self.counts()}" if self.total > 1 and self.live is None else ""
        self._print(f"{outcome.status:<11} {name}  {took}{counts}", style="" if good else "bold red")
        if not good:
            self._print(f"  {outcome.message}")

    def again(self, name: str, outcome: RunStatus, which: str) -> None:
        """Report a run that is retried. which: `try 2 of 2`."""
        self.running.pop(name)
        self._print(f"{name}: {outcome.message}; {which} follows")

    def lost(self, name: str) -> None:
        """Report a run that another process has taken over."""
        self.running.pop(name)
        self._print(f"{name}: another process has taken this run over, and it was ended here")

    def refresh(self) -> None:
        """Show the present state."""
        if self.live is not None:
            lines = [Text(line, overflow="ellipsis", no_wrap=True) for line in map(visible, self.lines())]
            self.live.update(Group(Text(self._headline(), style="bold"), *lines))
        elif time.monotonic() - self._printed >= _PLAIN_EVERY_SECONDS and (self.running or self.elsewhere):
            self._printed = time.monotonic()
            self._print("\n".join([self._headline(), *self.lines()]))

    def counts(self) -> str:
        """Return `3/12 runs done, 2 running, 4 min elapsed, about 9 min left`."""
        parts = [f"{self.done + self.already_done}/{self.total} runs done"] * (self.total > 1)
        parts += [f"{len(self.running)} running"]
        parts += [f"{self.elsewhere} elsewhere"] * bool(self.elsewhere) + [f"{self.failed} failed"] * bool(self.failed)
        return ", ".join([*parts, f"{duration(time.time() - self._began)} elapsed", self.time_left()])

    def time_left(self) -> str:
        now = time.time()
        running = [(now - began, read_progress(run, began)) for run, began in self.running.values()]
        waiting = self.total - self.already_done - self.done - self.failed - len(running)
        # Not the number of running runs: one has just ended, and the next has not begun.
        num_parallel = min(self._most + self.elsewhere, waiting + len(running))
        left = seconds_left(self._seconds, running, waiting, num_parallel)
        return "time left unknown" if left is None else f"about {duration(left)} left"

    def lines(self) -> list[str]:
        """Return one line of at most 80 columns per running run."""
        states = {name: _state(*own) for name, own in sorted(self.running.items())}
        width = min(_LONGEST_NAME, _WIDTH - 4 - max(map(len, states.values()), default=0))
        return [f"  {_short(name, width):<{width}}  {state}" for name, state in states.items()]

    def _headline(self) -> str:
        return f"{self.title}: {self.counts()}" if self.title else self.counts()

    def _print(self, text: str, style: str = "") -> None:
        text = shown(text)
        if self.live is None:
            print(text, flush=True)
        else:
            self.live.console.print(Text(text, style=style))


@contextmanager
def plain_or_live(title: str, total: int, done: int) -> Iterator[LiveView]:
    """Yield the view for standard output: plain lines in a pipe, a file, a notebook and a dumb terminal."""
    console = Console()
    if not (console.is_terminal and sys.stdout.isatty()) or console.is_dumb_terminal or console.is_jupyter:
        yield LiveView(title, total, done)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield LiveView(title, total, done, live)


def _short(name: str, width: int) -> str:
    """Shorten a name in its middle: the seed at the end identifies the run."""
    if len(name) <= width:
        return name
    end = min(len(name) - max(name.rfind("/"), len(name) - width // 2), width - 2)
    return f"{name[: width - end - 1]}…{name[-end:]}"


def _state(run: RunDir, began: float) -> str:
    """Return `step 12/128  eval loss 0.693  40 s  about 6 min left`."""
    progress, elapsed = read_progress(run, began), duration(time.time() - began)
    if progress is None:
        return f"starting  {elapsed}"
    loss = f"  eval loss {progress.eval_loss:.3f}" if progress.eval_loss is not None else ""
    left = f"  {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
    return f"step {progress.step}/{progress.total_steps}{loss}  {elapsed}{left}"

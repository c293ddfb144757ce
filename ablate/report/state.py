"""What `ablate status` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from ablate.report import digits
from ablate.report.pen import columns, say, whole_line, words

if TYPE_CHECKING:
    from ablate.study.state import RunState, StudyState

_STYLES = {"done": "", "running": "bold", "failed": "bold red", "waiting": "dim"}


def print_state(state: StudyState, console: Console) -> None:
    """Per arm how many runs are done, running, failed and waiting; then the running and the failed ones; then what to type."""
    line = words(f"{state.study}  ", console, "bold")
    line.append_text(words(_headline(state), console))
    console.print(line, highlight=False)
    console.print()
    _arms(state, console)
    for kept, text in (("running", _running), ("failed", _failed)):
        mine = [run for run in state.runs if run.state == kept]
        if mine:
            console.print()
            say(console, kept, "dim")
        for run in mine:
            say(console, f"{run.name}  {text(run)}", indent=4)
    for hint in _hints(state):
        console.print()
        whole_line(console, hint)


def _headline(state: StudyState) -> str:
    counts = [f"{state.count('done')}/{len(state.runs)} runs done"]
    counts += [f"{state.count(name)} {name}" for name in ("running", "failed", "waiting") if state.count(name)]
    if state.stopping:
        counts.append("asked to stop")
    if state.seconds_left and (state.count("running") or state.count("waiting")):
        left = "left" if state.count("running") else "of work left, one run at a time"
        counts.append(f"about {digits.duration(state.seconds_left)} {left}")
    return "   ".join(counts)


def _arms(state: StudyState, console: Console) -> None:
    table = columns()
    table.show_header = True
    table.add_column("arm", overflow="fold", header_style="dim")
    for name in _STYLES:
        table.add_column(name, justify="right", header_style="dim")
    for arm, counts in state.counts().items():
        cells = [words(str(count or "-"), console, _STYLES[name] if count else "dim") for name, count in counts.items()]
        table.add_row(words(arm, console), *cells)
    console.print(table)


def _running(run: RunState) -> str:
    parts = ["starting"]
    if run.total_steps:
        parts = [f"step {run.step}/{run.total_steps}", f"{run.samples_per_second:.0f} samples/s"]
    if run.seconds_left is not None:
        parts.append(f"about {digits.duration(run.seconds_left)} left")
    return "  ".join([*parts, f"on {run.host} (process {run.pid})", *_tries(run)])


def _failed(run: RunState) -> str:
    return "  ".join([run.sentence or run.reason, *_tries(run)])


def _tries(run: RunState) -> list[str]:
    return [f"try {run.tries + 1}"] if run.tries else []


def _hints(state: StudyState) -> list[str]:
    hints = []
    if state.count("failed"):
        hints.append(f"try the failed runs again:  ablate retry {state.folder}")
    if state.count("waiting") and not state.count("running"):
        hints.append(f"nothing runs it now; it goes on with:  {state.command}")
    return hints

"""Output of `ablate status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.console import Console
from rich.text import Text

from ablate import formatting as fmt
from ablate.report.console import heading, print_table, say, whole_line, words

if TYPE_CHECKING:
    from ablate.runner.status import RunState, State, StudyState
    from ablate.stats.sequential import Spending

_STYLES: dict[State, str] = {
    "done": "",
    "running": "bold",
    "failed": "bold red",
    "interrupted": "yellow",
    "waiting": "dim",
}


def print_state(state: StudyState, console: Console) -> None:
    """Print the number of runs per arm and state, then running and failed runs, then the next command."""
    heading(console, state.study, _headline(state))
    console.print()
    _arms(state, console)
    for about in interim_lines(state):
        say(console, about)
    for name, text in (("running", _running), ("failed", _failed), ("interrupted", _failed)):
        mine = [run for run in state.runs if run.state == name]
        if mine:
            console.print()
            say(console, name, "dim")
        for run in mine:
            say(console, f"{run.name}  {text(run)}", indent=4)
    for hint in _hints(state):
        console.print()
        whole_line(console, hint)


def _headline(state: StudyState) -> str:
    counts = [f"{state.count('done')}/{len(state.runs)} runs done"]
    counts += [f"{state.count(name)} {name}" for name in [*_STYLES][1:] if state.count(name)]
    if state.stopping:
        counts.append("stopping")
    if state.seconds_left and (state.count("running") or state.count("waiting")):
        left = "left" if state.count("running") else "of work left, one run at a time"
        most = "at most " if state.interim else ""
        counts.append(f"{most}about {fmt.duration(state.seconds_left)} {left}")
    return "   ".join(counts)


def interim_lines(state: StudyState) -> list[str]:
    """Return, for a sequential study, what was declared and the result of each interim analysis."""
    if not state.interim:
        return []
    from ablate.analysis.interim import declared  # imports scipy, which no other study needs
    from ablate.stats.sequential import interim_confidences

    seeds = [one["seeds"] for one in state.interim]
    lines = ["", declared(seeds, state.spending, interim_confidences(seeds, cast("Spending", state.spending)))]
    for one in state.interim:
        if one["made"]:
            stops = [f"{arm} stopped ({verdict})" for arm, verdict in one["stops"].items()]
            lines.append(f"interim analysis at {one['seeds']} seeds: {', '.join(stops) or 'nothing decided'}")
    coming = next((one["seeds"] for one in state.interim if not one["made"]), None)
    if coming is not None and (state.count("waiting") or state.count("running")):
        lines.append(f"next interim analysis at {coming} seeds; runs and time are upper bounds, because variants stop")
    return lines


def _arms(state: StudyState, console: Console) -> None:
    columns = [name for name in _STYLES if name != "interrupted" or state.count(name)]
    rows: list[tuple[str | Text, ...]] = []
    for arm, counts in state.counts().items():
        shown = [(counts[name], _STYLES[name] if counts[name] else "dim") for name in columns]
        rows.append((arm, *(words(str(count or "-"), console, style) for count, style in shown)))
    print_table(("arm", *columns), rows, console, numbers=range(1, 1 + len(columns)))


def _running(run: RunState) -> str:
    parts = ["starting"]
    if run.total_steps:
        parts = [f"step {run.step}/{run.total_steps}", f"{run.samples_per_second:.0f} samples/s"]
    if run.seconds_left is not None:
        parts.append(f"about {fmt.duration(run.seconds_left)} left")
    return "  ".join([*parts, f"on {run.host} (process {run.pid})", *_tries(run)])


def _failed(run: RunState) -> str:
    return "  ".join([run.sentence or run.reason, *_tries(run)])


def _tries(run: RunState) -> list[str]:
    return [f"try {run.tries + 1}"] if run.tries else []


def _hints(state: StudyState) -> list[str]:
    hints = []
    if state.count("failed"):
        hints.append(f"retry the failed runs:  ablate retry {state.folder}")
    if (state.count("waiting") or state.count("interrupted")) and not state.count("running"):
        hints.append(f"nothing is running; continue with:  {state.command}")
    return hints

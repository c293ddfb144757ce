"""What would run, and what could: `ablate plan` and `ablate axes`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from ablate.design.axis import Axis, show
from ablate.design.plan import Arm, Plan
from ablate.report import digits
from ablate.report.pen import columns, labelled, say, words


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What is known about a plan besides the plan.

    done: (arm, seed) of runs that are finished and will not run again.
    seconds: expected duration of one run per arm; arms without an estimate are missing.
    basis: where the estimate comes from, such as `finished runs of this study`.
    slots: runs at a time.
    """

    done: frozenset[tuple[str, int]] = frozenset()
    seconds: Mapping[str, float] = field(default_factory=dict)
    basis: str = ""
    slots: int = 1


def print_plan(plan: Plan, forecast: Forecast, console: Console) -> None:
    """Every arm with its changes and what they bring along, then how many runs and how long."""
    title = words(f"{plan.study}  ", console, "bold")
    runs_per_arm = digits.counted(len(plan.seeds), "seed")
    title.append_text(words(f"{digits.counted(len(plan.arms), 'arm')} × {runs_per_arm}", console))
    console.print(title, highlight=False)
    say(console, plan.question)
    say(console, f"metric {plan.metric}; smallest effect that matters {plan.smallest_effect:g}")
    console.print()
    _arms(plan, forecast, console)
    console.print()
    _counts(plan, forecast, console)
    for note in plan.notes:
        labelled(console, "note", note, width=10, style="dim")


def print_axes(axes: Sequence[Axis], console: Console) -> None:
    """The standard ablations, a line each: name, levels, question."""
    table = columns()
    table.show_header = True
    table.add_column("axis", no_wrap=True, header_style="dim")
    table.add_column("levels", overflow="fold", max_width=24, header_style="dim")
    table.add_column("question", overflow="fold", header_style="dim")
    for axis in axes:
        levels = ", ".join(_level(axis, level) for level in axis.levels)
        table.add_row(words(axis.name, console, "bold"), words(levels, console), words(axis.question, console))
    console.print(table)


def _level(axis: Axis, level: object) -> str:
    return axis.label(level).removeprefix(f"{axis.name}=") if isinstance(level, Mapping) else show(level)


def _arms(plan: Plan, forecast: Forecast, console: Console) -> None:
    table = columns()
    table.show_header = True
    table.add_column("arm", overflow="fold", header_style="dim", max_width=26)
    table.add_column("changes, and what comes with them", overflow="fold", header_style="dim")
    table.add_column("runs", no_wrap=True, header_style="dim")
    for arm in plan.arms:
        changes = words("; ".join(_changes(plan.baseline, arm)) or "the base config", console)
        brings = _derived(plan.baseline, arm)
        if brings:
            changes.append_text(words("\n" + "; ".join(brings), console, "dim"))
        table.add_row(words(arm.name, console, "bold"), changes, words(_state(plan, arm, forecast), console))
    console.print(table)


def _changes(baseline: Arm, arm: Arm) -> list[str]:
    return [f"{key} {show(_leaf(baseline.config, key))} → {show(value)}" for key, value in sorted(arm.changes.items())]


def _derived(baseline: Arm, arm: Arm) -> list[str]:
    both = [key for key in arm.derived if key in baseline.derived]
    return [
        f"{key} {digits.plain(baseline.derived[key])} → {digits.plain(arm.derived[key])}"
        for key in both
        if arm.derived[key] != baseline.derived[key]
    ]


def _leaf(config: Mapping[str, object], dotted: str) -> object:
    node: object = config
    for key in dotted.split("."):
        node = node[key] if isinstance(node, Mapping) else None
    return node


def _state(plan: Plan, arm: Arm, forecast: Forecast) -> str:
    if arm.replayed:
        return "free: replayed"
    mine = [run for run in plan.runs if run.arm == arm.name]
    if not mine:
        return "free: shared"
    done = sum((run.arm, run.seed) in forecast.done for run in mine)
    waiting = len(mine) - done
    return ", ".join([f"{waiting} to do"] * bool(waiting) + [f"{done} done"] * bool(done))


def _counts(plan: Plan, forecast: Forecast, console: Console) -> None:
    waiting = [run for run in plan.runs if (run.arm, run.seed) not in forecast.done]
    free = sum(len(plan.seeds) for arm in plan.arms if not any(run.arm == arm.name for run in plan.runs))
    parts = [f"{len(waiting)} to do", f"{len(plan.runs) - len(waiting)} done", f"{free} free"]
    labelled(console, "runs", ", ".join(parts), width=10)
    known = [forecast.seconds[run.arm] for run in waiting if run.arm in forecast.seconds]
    if not waiting:
        labelled(console, "time", "nothing to run: the report is rebuilt from what is there", width=10)
    elif len(known) < len(waiting):
        labelled(console, "time", "no estimate yet: it is made from the first finished run", width=10)
    else:
        slots = max(1, min(forecast.slots, len(known)))
        # The longest run bounds the end from below, however many slots there are.
        seconds = max(max(known), math.fsum(known) / slots)
        basis = f", from {forecast.basis}" if forecast.basis else ""
        at_once = f"{digits.counted(slots, 'run')} at a time"
        labelled(console, "time", f"about {digits.duration(seconds)}, {at_once}{basis}", width=10)

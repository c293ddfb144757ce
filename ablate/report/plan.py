"""What a plan costs and what it can find, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.interim import declared, levels_of
from ablate.analysis.power import EarlierSpread
from ablate.config.flatten import leaf_or_absent
from ablate.design.axis import show
from ablate.design.plan import Arm, Plan
from ablate.report.console import columns, labelled, say, words
from ablate.report.effects import print_design
from ablate.stats.contrasts import CONFIDENCE
from ablate.stats.power import detectable_effect, seeds_to_decide
from ablate.stats.variance_components import detectable_share

if TYPE_CHECKING:
    from ablate.runner.cost import Forecast


SEEDS = (3, 5, 8)


def training_steps(plan: Plan, known: Forecast) -> tuple[int, int]:
    """Optimizer steps of the plan, and those of running every arm and every cadence by itself, one by one."""
    steps = {arm.name: int(arm.derived["total_steps"]) for arm in plan.arms}
    gone = {*known.shared, *known.stopped}
    planned = sum(steps[run.arm] for run in plan.runs if (run.arm, run.seed) not in gone)
    return planned - known.saved_steps, sum(steps[arm.name] * len(plan.seeds_of(arm)) for arm in plan.arms)


def num_variants(plan: Plan) -> int:
    """Over how many contrasts the intervals will be simultaneous."""
    return max(1, sum(not arm.replayed and arm.kind not in ("placebo", "rerun") for arm in plan.arms[1:]))


def detectable(plan: Plan, spread: EarlierSpread | None) -> dict[int, float]:
    """{seeds: smallest effect that so many find with a chance of 80 %}, in the metric's unit, or in residual sd without one.

    Of a study with looks: what each look finds by itself, at its level.
    """
    sd = 1.0 if spread is None else spread.sd
    levels = dict(zip(plan.looks, levels_of(plan), strict=True)) if plan.looks else {}
    seeds = sorted(levels or {*SEEDS, len(plan.seeds)})
    return {
        n: detectable_effect(n, num_variants(plan), sd, confidence=levels.get(n, CONFIDENCE)) for n in seeds if n > 1
    }


def seeds_for(plan: Plan, spread: EarlierSpread) -> int | None:
    """Seeds that would decide whether there is an effect of the size that matters."""
    return seeds_to_decide(spread.sd, plan.smallest_effect, num_variants(plan))


# What would run: `ablate plan`.


def print_plan(plan: Plan, known: Forecast, spread: EarlierSpread | None, console: Console) -> None:
    """Every arm with its changes and what they bring along; then what a run costs, how many there are, and how long."""
    title = words(f"{plan.study}  ", console, "bold")
    runs_per_arm = f"{'at most ' if plan.looks else ''}{digits.counted(len(plan.seeds), 'seed')}"
    title.append_text(words(f"{digits.counted(len(plan.arms), 'arm')} × {runs_per_arm}", console))
    console.print(title, highlight=False)
    say(console, plan.question)
    say(console, f"metric {plan.metric}; smallest effect that matters {plan.smallest_effect:g}")
    console.print()
    _arms(plan, known, console)
    console.print()
    if known.costs:
        _costs(known, console)
        console.print()
    print_design(plan, console)
    for label, text in _lines(plan, known, spread):
        labelled(console, label, text, width=10)
    for note in plan.notes:
        labelled(console, "note", note, width=10, style="dim")


def _arms(plan: Plan, known: Forecast, console: Console) -> None:
    table = columns()
    table.show_header = True
    table.add_column("arm", overflow="fold", header_style="dim", max_width=26)
    table.add_column("changes, and what comes with them", overflow="fold", header_style="dim")
    table.add_column("runs", no_wrap=True, header_style="dim")
    for arm in plan.arms:
        changes = words(
            digits.typeset(plan.bundle(arm)) or "; ".join(_changes(plan.baseline, arm)) or "the base config", console
        )
        brings = _derived(plan.baseline, arm)
        if brings:
            changes.append_text(words("\n" + "; ".join(brings), console, "dim"))
        table.add_row(words(arm.name, console, "bold"), changes, words(_state(plan, arm, known), console))
    console.print(table)


def _changes(baseline: Arm, arm: Arm) -> list[str]:
    return [
        f"{key} {show(leaf_or_absent(baseline.config, key))} → {show(value)}"
        for key, value in sorted(arm.changes.items())
    ]


def _derived(baseline: Arm, arm: Arm) -> list[str]:
    both = [key for key in arm.derived if key in baseline.derived]
    return [
        f"{key} {digits.plain(baseline.derived[key])} → {digits.plain(arm.derived[key])}"
        for key in both
        if arm.derived[key] != baseline.derived[key]
    ]


def _state(plan: Plan, arm: Arm, known: Forecast) -> str:
    if arm.replayed:
        return "free: replayed"
    mine = [(run.arm, run.seed) for run in plan.runs if run.arm == arm.name]
    if not mine:
        return "free: shared"
    done, taken = sum(place in known.done for place in mine), sum(place in known.shared for place in mine)
    gone = sum(place in known.stopped for place in mine)
    counts = ((len(mine) - done - taken - gone, "to do"), (done, "done"), (taken, "taken"), (gone, "not needed"))
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _costs(known: Forecast, console: Console) -> None:
    """What one run takes; arms that cost the same share a line."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, cost in known.costs.items():
        figures = digits.duration(cost.seconds), digits.size(cost.memory_bytes), digits.size(cost.kept_bytes)
        alike.setdefault(figures, []).append(name)
    table = columns()
    table.show_header = True
    table.add_column("one run of", overflow="fold", header_style="dim", max_width=44)
    for head in ("time", "memory", "disk"):
        table.add_column(head, justify="right", no_wrap=True, header_style="dim")
    for figures, names in alike.items():
        table.add_row(*(words(text, console) for text in (", ".join(names), *figures)))
    console.print(table)


def _lines(plan: Plan, known: Forecast, spread: EarlierSpread | None) -> Iterator[tuple[str, str]]:
    """(label, sentence) of what is to do, what it costs and what it can find."""
    waiting = known.waiting(plan)
    yield "runs", _counts(plan, known, len(waiting))
    if plan.looks:
        yield "looks", f"{declared(plan.looks, plan.spending, levels_of(plan))}; variants that are decided stop there"
    yield "steps", _steps(plan, known)
    bound = "at most, if no variant is decided before the last look, " if plan.looks and waiting else ""
    yield "time", f"{bound}{_time(known, len(waiting))}"
    costs = [known.costs[run.arm] for run in waiting if run.arm in known.costs]
    if costs:
        most = max(cost.memory_bytes for cost in costs)
        yield "memory", f"at most {digits.size(most)} a run{_all_at_once(most, known.at_once)}"
        kept, held = math.fsum(cost.kept_bytes for cost in costs), max(cost.checkpoint_bytes for cost in costs)
        going = f"; while they run at most {digits.size(held * known.at_once)} more, for checkpoints" if held else ""
        yield "disk", f"{digits.size(kept)} stay{going}"
    yield "finds", _finds(plan, spread)
    limit = plan.baseline.config["study"]["confirm_above_hours"]
    if known.seconds is not None and limit is not None and known.seconds > 3600 * limit:
        yield "asks", f"`ablate -m` asks before it starts: longer than study.confirm_above_hours={limit:g}"


def _counts(plan: Plan, known: Forecast, num_waiting: int) -> str:
    planned = {run.arm for run in plan.runs}
    replayed = sum(len(plan.seeds_of(arm)) for arm in plan.arms if arm.replayed)
    same = sum(len(plan.seeds_of(arm)) for arm in plan.arms if not arm.replayed and arm.name not in planned)
    free = [f"{replayed} replayed"] * bool(replayed) + [f"{same} the same as another arm"] * bool(same)
    for study, count in Counter(known.shared.values()).items():
        free.append(f"{count} taken from {study}")
    why = f" ({', '.join(free)})" if free else ""
    return f"{num_waiting} to do, {len(known.done)} done, {replayed + same + len(known.shared)} free{why}"


def _steps(plan: Plan, known: Forecast) -> str:
    planned, naive = training_steps(plan, known)
    text = f"{'at most ' if plan.looks else ''}{planned:,} of training"
    if planned < naive and not plan.looks:
        share = digits.percent(planned / naive)
        text += f", {share} of the {naive:,} that every arm and cadence would take by itself, one by one"
    if known.saved_steps:
        text += f"; {known.saved_steps:,} saved by starting from a sibling's checkpoint"
    if known.may_save_steps:
        text += f"; up to {known.may_save_steps:,} may be saved that way, if no gradient is clipped before"
    return text


def _time(known: Forecast, num_waiting: int) -> str:
    if not num_waiting:
        return "nothing to run: the report is rebuilt from what is there"
    if known.seconds is None:
        return "no estimate yet: it is made from the first finished run"
    how = f"{digits.counted(known.at_once, 'run')} at a time, start-up, evaluation and report included"
    return f"about {digits.duration(known.seconds)}: {how}" + (f"; from {known.basis}" if known.basis else "")


def _all_at_once(most: float, at_once: int) -> str:
    return f", {digits.size(most * at_once)} for {at_once} at a time" if at_once > 1 else ""


def _finds(plan: Plan, spread: EarlierSpread | None) -> str:
    """The smallest effects that so many seeds would find, and what that rests on."""
    if plan.variance is not None:
        share = digits.percent(detectable_share(plan.variance.draws))
        return f"a stream that makes {share} of the variance between runs, or more, with 80 % power at 5 %"
    unit = " sd" if spread is None else ""
    effects = [f"{digits.figure(effect, 2)}{unit} with {n} seeds" for n, effect in detectable(plan, spread).items()]
    variants = num_variants(plan)
    together = f" over {variants} variants together" if variants > 1 else ""
    level = ", at each look's level," if plan.looks else " at 5 %"
    text = f"effects of {digits.joined(effects)} (80 % power{level}{together})"
    if spread is None:
        return f"{text}; residual sd of {plan.metric}: no earlier study of this baseline says it"
    rho = f", rho {spread.rho:.2f}" if spread.rho is not None else ""
    source = f"{digits.counted(spread.num_contrasts, 'contrast')} in {', '.join(spread.studies)}"
    needed = seeds_for(plan, spread)
    decides = "more than 1,000 seeds" if needed is None else f"about {digits.counted(needed, 'seed')}"
    return (
        f"{text}; residual sd {digits.figure(spread.sd, 2)}{rho}, from {source}; "
        f"{plan.smallest_effect:g} is decided by {decides}"
    )

"""Output of `ablate plan`: what a plan would run, what it costs, and the minimum detectable effect."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from ablate import formatting as fmt
from ablate.analysis.interim import declared, levels_of
from ablate.analysis.power import EarlierSpread
from ablate.config.flatten import leaf_or_absent
from ablate.design import factorial as fraction
from ablate.design.axis import show
from ablate.design.factorial import Factorial
from ablate.design.plan import Arm, Plan
from ablate.report.console import heading, labelled, print_table, say, words
from ablate.stats.contrasts import CONFIDENCE
from ablate.stats.power import POWER, detectable_effect, detection_power, seeds_to_decide
from ablate.stats.variance_components import detectable_share
from ablate.training.hardware import bf16_instructions, visible_gpus

if TYPE_CHECKING:
    from ablate.runner.forecast import Forecast


SEEDS = (3, 5, 8)


def training_steps(plan: Plan, known: Forecast) -> tuple[int, int]:
    """Return the optimizer steps of the plan, and those of running every arm and every cadence separately."""
    steps = {arm.name: int(arm.derived["total_steps"]) for arm in plan.arms}
    gone = {*known.shared, *known.stopped}
    planned = sum(steps[run.arm] for run in plan.runs if (run.arm, run.seed) not in gone)
    return planned, sum(steps[arm.name] * len(plan.seeds_of(arm)) for arm in plan.arms)


def num_variants(plan: Plan) -> int:
    """Return the number of contrasts over which the intervals will be simultaneous."""
    return max(1, sum(not arm.replayed and arm.kind not in ("placebo", "rerun") for arm in plan.arms[1:]))


def detectable(plan: Plan, spread: EarlierSpread | None) -> dict[int, float]:
    """Return {seeds: minimum detectable effect at 80% power}, in the metric's unit, or in residual sd without a pilot.

    For a sequential study: of each interim analysis, at its confidence; of many, a few.
    """
    sd = 1.0 if spread is None else spread.sd
    levels = dict(zip(plan.interim_seeds, levels_of(plan), strict=True)) if plan.interim_seeds else {}
    seeds = sorted(
        {*list(levels)[:: -(-len(levels) // 4)], plan.interim_seeds[-1]} if levels else {*SEEDS, len(plan.seeds)}
    )
    return {
        n: detectable_effect(n, num_variants(plan), sd, confidence=levels.get(n, CONFIDENCE)) for n in seeds if n > 1
    }


def seeds_for(plan: Plan, spread: EarlierSpread) -> int | None:
    """Return the seeds that decide about an effect of the smallest effect of interest."""
    return seeds_to_decide(spread.sd, plan.smallest_effect, num_variants(plan))


# What would run: `ablate plan`.


def print_plan(plan: Plan, known: Forecast, spread: EarlierSpread | None, console: Console) -> None:
    """Print every arm with its changes and derived changes; then the cost of a run, the number of runs and the duration."""
    runs_per_arm = f"{'at most ' if plan.interim_seeds else ''}{fmt.counted(len(plan.seeds), 'seed')}"
    heading(console, plan.study, f"{fmt.counted(len(plan.arms), 'arm')} × {runs_per_arm}")
    say(console, plan.question)
    say(console, f"metric {plan.metric}; smallest effect of interest {plan.smallest_effect:g}")
    console.print()
    _arms(plan, known, console)
    console.print()
    if known.costs:
        _costs(known, console)
        console.print()
    design = () if plan.crossed is None else design_lines(plan.crossed)
    for label, text in (*((label, fmt.typeset(text)) for label, text in design), *_lines(plan, known, spread)):
        labelled(console, label, text, width=10)
    for note in plan.notes:
        labelled(console, "note", note, width=10, style="dim")


def _arms(plan: Plan, known: Forecast, console: Console) -> None:
    rows = []
    for arm in plan.arms:
        told = fmt.typeset(plan.bundle(arm)) or "; ".join(_changes(plan.baseline, arm)) or "the base config"
        changes = words(told, console)
        if derived := _derived(plan.baseline, arm):
            changes.append_text(words("\n" + "; ".join(derived), console, "dim"))
        rows.append((words(arm.name, console, "bold"), changes, _state(plan, arm, known)))
    print_table(("arm", "changes, and derived changes", "runs"), rows, console, widths={0: 26})


def _changes(baseline: Arm, arm: Arm) -> list[str]:
    return [
        f"{key} {show(leaf_or_absent(baseline.config, key))} → {show(value)}"
        for key, value in sorted(arm.changes.items())
    ]


def _derived(baseline: Arm, arm: Arm) -> list[str]:
    both = [key for key in arm.derived if key in baseline.derived]
    return [
        f"{key} {fmt.plain(baseline.derived[key])} → {fmt.plain(arm.derived[key])}"
        for key in both
        if arm.derived[key] != baseline.derived[key]
    ]


def _state(plan: Plan, arm: Arm, known: Forecast) -> str:
    if arm.replayed:
        return "not trained: resampled"
    mine = [(run.arm, run.seed) for run in plan.runs if run.arm == arm.name]
    if not mine:
        return "not trained: same as another arm"
    done, reused = sum(run in known.done for run in mine), sum(run in known.shared for run in mine)
    stopped = sum(run in known.stopped for run in mine)
    counts = (
        (len(mine) - done - reused - stopped, "to do"),
        (done, "done"),
        (reused, "reused"),
        (stopped, "not needed"),
    )
    return ", ".join(f"{count} {word}" for count, word in counts if count)


def _costs(known: Forecast, console: Console) -> None:
    """Print the cost of one run; arms with the same cost share a line."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for name, cost in known.costs.items():
        figures = fmt.duration(cost.seconds), fmt.size(cost.memory_bytes), fmt.size(cost.record_bytes)
        alike.setdefault(figures, []).append(name)
    rows = [(", ".join(names), *figures) for figures, names in alike.items()]
    print_table(("one run of", "time", "memory", "disk"), rows, console, numbers=(1, 2, 3), widths={0: 44})


def _lines(plan: Plan, known: Forecast, spread: EarlierSpread | None) -> Iterator[tuple[str, str]]:
    """Yield (label, sentence): what is to do, what it costs, and the minimum detectable effect."""
    waiting = known.waiting(plan)
    yield "runs", _counts(plan, known, len(waiting))
    if plan.interim_seeds:
        yield (
            "interim",
            f"{declared(plan.interim_seeds, plan.alpha_spending, levels_of(plan))}; decided variants stop there"
            f"{_price(plan)}",
        )
    yield "steps", _steps(plan, known)
    train = plan.baseline.config.get("train", {})
    if train.get("precision") == "auto":
        yield "precision", _auto_precision(train.get("device", "auto"))
    bound = (
        "at most, if no variant is decided before the last interim analysis, " if plan.interim_seeds and waiting else ""
    )
    yield "time", f"{bound}{_time(known, len(waiting))}"
    costs = [known.costs[run.arm] for run in waiting if run.arm in known.costs]
    if costs:
        most = max(cost.memory_bytes for cost in costs)
        yield "memory", f"at most {fmt.size(most)} per run{_simultaneously(most, known.num_parallel)}"
        disk, checkpoints = math.fsum(cost.record_bytes for cost in costs), max(cost.checkpoint_bytes for cost in costs)
        more = fmt.size(checkpoints * known.num_parallel)
        running = f"; during training at most {more} more, for checkpoints" if checkpoints else ""
        yield "disk", f"{fmt.size(disk)} remain{running}"
    yield "power", _detectable(plan, spread)
    limit = plan.baseline.config["study"]["confirm_above_hours"]
    if known.seconds is not None and limit is not None and known.seconds > 3600 * limit:
        yield (
            "confirm",
            f"`ablate -m` asks for confirmation before it starts: longer than study.confirm_above_hours={limit:g}",
        )


def _price(plan: Plan) -> str:
    """Return what `anytime` costs: the seeds at which it detects what a fixed number of seeds detects."""
    if plan.alpha_spending != "anytime":
        return ""
    fixed, variants = plan.interim_seeds[len(plan.interim_seeds) // 3], num_variants(plan)
    effect = detectable_effect(fixed, variants, 1.0)
    for seeds, level in zip(plan.interim_seeds, levels_of(plan), strict=True):
        if detection_power(seeds, variants, effect, 1.0, level) >= POWER:
            return f"; what {fixed} fixed seeds detect with 80% power takes at most {seeds}"
    return f"; what {fixed} fixed seeds detect with 80% power takes more"


def _auto_precision(device: str) -> str:
    """Say what `train.precision=auto` is on this machine."""
    if device not in ("auto", "cpu") or (device == "auto" and visible_gpus()):
        return "bf16 where the GPU computes in it, else fp16 (train.precision=auto)"
    instructions = bf16_instructions()
    found = f"bf16: this CPU has {instructions}" if instructions else "fp32: this CPU has no bf16 instructions"
    return f"{found} (train.precision=auto)"


def _counts(plan: Plan, known: Forecast, num_waiting: int) -> str:
    planned = {run.arm for run in plan.runs}
    replayed = sum(len(plan.seeds_of(arm)) for arm in plan.arms if arm.replayed)
    same = sum(len(plan.seeds_of(arm)) for arm in plan.arms if not arm.replayed and arm.name not in planned)
    free = [f"{replayed} resampled"] * bool(replayed) + [f"{same} the same as another arm"] * bool(same)
    for study, count in Counter(known.shared.values()).items():
        free.append(f"{count} reused from {study}")
    why = f" ({', '.join(free)})" if free else ""
    return f"{num_waiting} to do, {len(known.done)} done, {replayed + same + len(known.shared)} not trained{why}"


def _steps(plan: Plan, known: Forecast) -> str:
    planned, naive = training_steps(plan, known)
    text = f"{'at most ' if plan.interim_seeds else ''}{planned:,} of training"
    if planned < naive and not plan.interim_seeds:
        share = fmt.percent(planned / naive)
        text += f", {share} of the {naive:,} of running every arm and cadence separately"
    return text


def _time(known: Forecast, num_waiting: int) -> str:
    if not num_waiting:
        return "nothing to run: the report is rebuilt from the existing runs"
    if known.seconds is None:
        return "no estimate before the first finished run"
    how = f"{fmt.counted(known.num_parallel, 'run')} at a time, start-up, evaluation and report included"
    return f"about {fmt.duration(known.seconds)}: {how}" + (f"; from {known.basis}" if known.basis else "")


def _simultaneously(most: float, num_parallel: int) -> str:
    return f", {fmt.size(most * num_parallel)} for {num_parallel} at a time" if num_parallel > 1 else ""


def _detectable(plan: Plan, spread: EarlierSpread | None) -> str:
    """Return the minimum detectable effects, and the pilot that they are computed from."""
    if plan.variance is not None:
        share = fmt.percent(detectable_share(plan.variance.draws))
        return f"a random stream with {share} or more of the variance between runs is detected with 80% power at 5%"
    unit = " sd" if spread is None else ""
    effects = [f"{fmt.figure(effect, 2)}{unit} with {n} seeds" for n, effect in detectable(plan, spread).items()]
    variants = num_variants(plan)
    together = f" over {variants} variants together" if variants > 1 else ""
    level = ", at the level of each interim analysis," if plan.interim_seeds else " at 5%"
    text = f"minimum detectable effect: {fmt.joined(effects)} (80% power{level}{together})"
    if spread is None:
        return f"{text}; residual sd of {plan.metric} unknown: no earlier study of this baseline"
    rho = f", rho {spread.rho:.2f}" if spread.rho is not None else ""
    source = f"{fmt.counted(spread.num_contrasts, 'contrast')} in {', '.join(spread.studies)}"
    needed = seeds_for(plan, spread)
    decides = "more than 1,000 seeds" if needed is None else f"about {fmt.counted(needed, 'seed')}"
    return (
        f"{text}; residual sd {fmt.figure(spread.sd, 2)}{rho}, from {source}; "
        f"{plan.smallest_effect:g} is decided by {decides}"
    )


# The design.


def design_lines(cells: Factorial) -> Iterator[tuple[str, str]]:
    """Yield (label, sentence): the arms of a factorial or pairwise design, and which effects it cannot separate."""
    arms = len(cells.arms)
    if cells.kind == "pairwise":
        count = len(cells.names)
        pairs, every = arms - 1 - count, count * (count - 1) // 2
        some = (
            f"{pairs} of their {every} pairs, the others cannot be combined"
            if pairs < every
            else f"their {every} pairs"
        )
        yield "design", f"pairs: {count} changes, each alone, and {some}: {arms} arms"
        return
    if not cells.generators:
        levels = " x ".join(str(len(words)) for words in cells.levels)
        yield "design", f"factorial: all {arms} combinations ({levels}) of {fmt.joined(cells.names)}"
        return
    yield (
        "design",
        f"fractional, of resolution {cells.resolution}: {arms} of the {cells.full} arms of all combinations of "
        f"{fmt.joined(cells.names)}; effects are aliased, and an effect means the sum:",
    )
    for sentence in fraction.aliases(cells.names, cells.generators):
        yield "", sentence

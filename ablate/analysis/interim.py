"""Reading a study that adds seeds: every variant at the look that decided it, or at the last one, with that look's level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from ablate.analysis.load import Reader, RunFiles
from ablate.analysis.results import Contrast, LookMade, Looks, RunReading
from ablate.design.interim import course
from ablate.design.plan import Plan
from ablate.formatting import counted, joined, per_cent
from ablate.records.interim import Look, read_looks
from ablate.stats.sequential import ALPHA, Spending, interim_confidences
from ablate.stats.verdicts import DECIDED

_NAMES = {"obrien_fleming": "O'Brien-Fleming", "pocock": "Pocock"}


def reader(folder: Path, plan: Plan) -> Reader | None:
    """None for a study whose number of seeds is fixed. Raises RecordError for a look that cannot be read."""
    return after(plan, read_looks(folder, plan.looks, plan.digest)) if plan.looks else None


def after(plan: Plan, made: Sequence[Look]) -> Reader:
    """After these looks. The levels of looks that have been made are those that they were made with."""
    levels = [float(look["level"]) for look in made]
    levels += levels_of(plan)[len(made) :]
    return Reader(plan=plan, made=tuple(made), course=course(plan, made), levels=tuple(levels))


def levels_of(plan: Plan) -> tuple[float, ...]:
    """Of every declared look."""
    spending: Spending = "pocock" if plan.spending == "pocock" else "obrien_fleming"
    assert plan.spending in get_args(Spending)
    return interim_confidences(plan.looks, spending)


def look(plan: Plan, contrasts: Sequence[Contrast], made: Sequence[Look]) -> dict[str, Any]:
    """What the next look finds, from the contrasts on the primary metric at its level: the variants that it decides stop.

    So does one whose control failed: it gets no verdict, however many seeds it has.
    """
    before = after(plan, made)
    seeds = before.course.next
    going = before.course.going
    verdicts = {one.arm: one.verdict for one in contrasts if one.primary and one.arm in going}
    stops = {arm: verdict for arm, verdict in verdicts.items() if verdict in (*DECIDED, "equivalent", "none")}
    return {
        "seeds": seeds,
        "level": before.levels[len(made)],
        "plan": plan.digest,
        "stops": stops,
        "goes_on": [arm for arm in going if arm not in stops],
        "contrasts": [asdict(one) for one in contrasts if one.primary],
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def next_at(before: Reader) -> Reader:
    """The reader of the look that comes next, before it is known whom it stops."""
    blank: Look = {"seeds": before.course.next, "level": before.levels[before.course.made], "stops": {}}
    return after(before.plan, [*before.made, blank])


def looks(
    found: Reader, runs: Sequence[RunFiles], readings: Sequence[RunReading], contrasts: Sequence[Contrast]
) -> Looks:
    """For the report."""
    now = found.course
    each = []
    for number, (seeds, level) in enumerate(zip(now.looks, found.levels, strict=True)):
        made = number < now.made
        stopped = dict(found.made[number]["stops"]) if made else {}
        going = tuple(found.made[number]["goes_on"]) if made else ()
        each.append(LookMade(seeds=seeds, level=level, made=made, stopped=stopped, going=going))
    due = {(run.arm, run.seed) for run in found.due.runs}
    done = sum(run.status in ("finished", "diverged") and (run.arm, run.seed) in due for run in readings)
    return Looks(
        spending=found.plan.spending,
        alpha=ALPHA,
        looks=tuple(each),
        seeds=now.seeds,
        runs=len(due),
        done=done,
        most_runs=len(now.at_most(found.plan).runs),
        over=now.over,
        sentences=tuple(_sentences(found, each, len(due), done, runs, contrasts)),
    )


def declared(looks: Sequence[int], spending: str, levels: Sequence[float]) -> str:
    """`at most 12 seeds; looks at 5, 8 and 12 (O'Brien-Fleming), with intervals of 99.9, 98.3 and 95.9 %`."""
    shown = joined([per_cent(level).removesuffix(" %") for level in levels])
    places = joined([str(seeds) for seeds in looks])
    several = f"looks at {places}" if len(looks) > 1 else f"one look, at {places}"
    return f"at most {looks[-1]} seeds; {several} ({_NAMES[spending]}), with intervals of {shown} %"


def _sentences(
    found: Reader,
    each: Sequence[LookMade],
    num_due: int,
    done: int,
    runs: Sequence[RunFiles],
    contrasts: Sequence[Contrast],
) -> Iterator[str]:
    now, last = found.course, found.course.looks[-1]
    made = [one for one in each if one.made]
    if not now.over:
        yield _next(found, num_due, done)
    for one in made:
        parts = [f"{arm} stopped ({_said(verdict)})" for arm, verdict in one.stopped.items()]
        parts += [f"{joined(one.going)} {_stayed(one, last)}"] if one.going else []
        yield f"Look at {one.seeds} seeds, intervals of {per_cent(one.level)}: {'; '.join(parts)}."
    early = [arm for one in made if one.seeds < last for arm, verdict in one.stopped.items() if verdict in DECIDED]
    if early:
        yield (
            f"Stopped early: {joined(early)}. What stops early was far from zero when it was looked at, and its effect is "
            "overstated on average; its interval, at its look's level, is not: it holds for all looks together."
        )
    fewer = [arm for arm, seeds in now.stops.items() if seeds < now.seeds]
    if fewer:
        yield (
            f"Fewer seeds than the baseline: {joined(fewer)}. Tables of means over seeds are over each arm's own; effects are "
            "over the seeds that both have."
        )
    changed = [
        f"{one.arm} ({_said(then)} then, {_said(one.verdict)} now)"
        for one in contrasts
        if one.primary and (then := _stopped(found, one.arm)) is not None and then != one.verdict
    ]
    if changed:
        yield (
            f"What a look decided is not decided again, but its runs or controls now say otherwise: {joined(changed)}. "
            "Runs were made again since."
        )
    saved = len(found.plan.runs) - len(found.due.runs)
    if now.over and saved:
        yield (
            f"Over after {num_due} of at most {len(found.plan.runs)} runs: {counted(saved, 'run')} that would have decided "
            "nothing were not made."
        )
    origins = {run.manifest.shared_from for run in runs if run.manifest is not None and run.manifest.shared_from}
    if origins:
        studies = joined(sorted({origin.partition("/")[0] for origin in origins}))
        yield (
            f"Runs were taken from {studies}. If this study was begun because of what they showed, that was a look too, and "
            "the levels do not pay for it."
        )
    yield (
        f"Declared before the first run: {declared(now.looks, found.plan.spending, found.levels)}. "
        "The looks share the error rate, so that all together claim something of nothing in about 5 % of studies; p is of one "
        "look by itself."
    )


def _next(found: Reader, num_due: int, done: int) -> str:
    now = found.course
    missing = num_due - done
    there = "all its runs are there; the study's own command looks"
    rest = f"{missing} of its {num_due} runs are still to do" if missing else there
    if not now.made:
        return (
            f"No verdict yet: the first look is at {now.next} seeds, and {rest}. Nothing is said about any variant before, "
            "because that would be a look that no level pays for."
        )
    return (
        f"Not over: the look at {now.next} seeds comes next, for {joined(now.going)}, and {rest}. What is shown is what "
        f"{now.looks[now.made - 1]} seeds said; later runs are not read before."
    )


def _stopped(found: Reader, arm: str) -> str | None:
    return next((look["stops"][arm] for look in found.made if arm in look["stops"]), None)


def _stayed(one: LookMade, last: int) -> str:
    return "still undecided" if one.seeds == last else "went on"


def _said(verdict: str) -> str:
    return "no verdict, a control failed" if verdict == "none" else verdict

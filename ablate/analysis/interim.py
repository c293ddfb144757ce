"""Read a sequential study: each variant at the interim analysis that decided it, or at the last one, with its level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from ablate.analysis.results import Contrast, InterimAnalyses, InterimAnalysis, RunReading
from ablate.design.plan import Course, Plan, course
from ablate.formatting import counted, joined, per_cent
from ablate.metrics.metric import MetricInfo
from ablate.records.interim import InterimResult, read_interims
from ablate.records.run_files import RunFiles
from ablate.stats.sequential import ALPHA, ANYTIME_BAR, Spending, interim_confidences
from ablate.stats.verdicts import DECIDED

_NAMES = {"obrien_fleming": "O'Brien-Fleming", "pocock": "Pocock"}


@dataclass(frozen=True, kw_only=True, slots=True)
class InterimReader:
    """A sequential study as far as its interim analyses have been made.

    plan: the whole plan, as it was frozen. made: results of the interim analyses. levels: of every declared one.
    """

    plan: Plan
    made: tuple[InterimResult, ...]
    course: Course
    levels: tuple[float, ...]

    @property
    def due(self) -> Plan:
        """The plan up to the next interim analysis, or up to the last one."""
        return self.course.due(self.plan)

    def contrasts(self, metric: MetricInfo, readings: Sequence[RunReading], read: ReadAt) -> Iterator[Contrast]:
        """Return each arm at the last interim analysis that counts for it, in plan order; none before the first one."""
        by_arm: dict[str, Contrast] = {}
        for number in range(self.course.made):
            seeds = self.course.interim_seeds[number]
            plan = self.course.at(self.plan, seeds)
            planned = {(run.arm, run.seed) for run in plan.runs}
            read_runs = [run for run in readings if (run.arm, run.seed) in planned]
            early = {
                arm: last for arm, last in self.course.stops.items() if last <= seeds < self.course.interim_seeds[-1]
            }
            for contrast in read(plan, metric, read_runs, self.levels[number], early):
                if self.course.stop_of(contrast.arm) == seeds:
                    by_arm[contrast.arm] = contrast
        return iter([by_arm[arm.name] for arm in self.plan.arms if arm.name in by_arm])

    def at_last(self, readings: Sequence[RunReading]) -> list[RunReading]:
        """Return the runs of the last interim analysis; none before the first."""
        if not self.course.made:
            return []
        planned = self.course.at(self.plan, self.course.interim_seeds[self.course.made - 1]).runs
        keys = {(run.arm, run.seed) for run in planned}
        return [run for run in readings if (run.arm, run.seed) in keys]


ReadAt = Callable[[Plan, MetricInfo, Sequence[RunReading], float, Mapping[str, int]], Iterator[Contrast]]
"""Contrasts of a plan on one metric at a level; the last argument: variants that have stopped, with their number of seeds."""


def interim_reader(folder: Path, plan: Plan) -> InterimReader | None:
    """Return the reader of a study; None where the number of seeds is fixed. Raises RecordError for an unreadable file."""
    return after(plan, read_interims(folder, plan.interim_seeds, plan.digest)) if plan.interim_seeds else None


def after(plan: Plan, made: Sequence[InterimResult]) -> InterimReader:
    """Return the reader after these interim analyses, which keep the levels that they were made with."""
    levels = [*(float(interim["level"]) for interim in made), *levels_of(plan)[len(made) :]]
    return InterimReader(plan=plan, made=tuple(made), course=course(plan, made), levels=tuple(levels))


def levels_of(plan: Plan) -> tuple[float, ...]:
    """Return the level of every declared interim analysis."""
    return interim_confidences(plan.interim_seeds, cast("Spending", plan.alpha_spending))


def interim_result(plan: Plan, contrasts: Sequence[Contrast], made: Sequence[InterimResult]) -> dict[str, Any]:
    """Return the result of the next interim analysis, from the contrasts on the primary metric at its level.

    A variant stops where it is decided, or where its control failed: such a variant gets no verdict with any number of seeds.
    """
    before = after(plan, made)
    going = before.course.going
    verdicts = {one.arm: one.verdict for one in contrasts if one.primary and one.arm in going}
    stops = {arm: verdict for arm, verdict in verdicts.items() if verdict in (*DECIDED, "equivalent", "none")}
    return {
        "seeds": before.course.next,
        "level": before.levels[len(made)],
        "plan": plan.digest,
        "stops": stops,
        "goes_on": [arm for arm in going if arm not in stops],
        "contrasts": [asdict(one) for one in contrasts if one.primary],
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def next_interim(before: InterimReader) -> InterimReader:
    """Return the reader of the next interim analysis, before it is known which variants it stops."""
    blank: InterimResult = {"seeds": before.course.next, "level": before.levels[before.course.made], "stops": {}}
    return after(before.plan, [*before.made, blank])


def interim_report(
    reader: InterimReader, runs: Sequence[RunFiles], readings: Sequence[RunReading], contrasts: Sequence[Contrast]
) -> InterimAnalyses:
    """Return what a report says of the interim analyses."""
    course = reader.course
    each = []
    for number, (seeds, level) in enumerate(zip(course.interim_seeds, reader.levels, strict=True)):
        interim: InterimResult = reader.made[number] if number < course.made else {"stops": {}, "goes_on": ()}
        each.append(
            InterimAnalysis(
                seeds=seeds,
                level=level,
                made=number < course.made,
                stopped=dict(interim["stops"]),
                going=tuple(interim["goes_on"]),
            )
        )
    due = {(run.arm, run.seed) for run in reader.due.runs}
    done = sum(run.status in ("finished", "diverged") and (run.arm, run.seed) in due for run in readings)
    return InterimAnalyses(
        spending=reader.plan.alpha_spending,
        alpha=1 / ANYTIME_BAR if reader.plan.alpha_spending == "anytime" else ALPHA,
        analyses=tuple(each),
        seeds=course.seeds,
        runs=len(due),
        done=done,
        most_runs=len(course.at_most(reader.plan).runs),
        over=course.over,
        sentences=tuple(_sentences(reader, [one for one in each if one.made], len(due), done, runs, contrasts)),
    )


def declared(interim_seeds: Sequence[int], spending: str, levels: Sequence[float]) -> str:
    """Return the declared plan in words.

    `at most 12 seeds; interim analyses at 5, 8 and 12 (O'Brien-Fleming), with intervals of 99.9, 98.3 and 95.9%`.
    """
    if spending == "anytime":
        first, last = interim_seeds[0], interim_seeds[-1]
        every = len(interim_seeds) == last - first + 1
        when = (
            f"after every seed from {first} on" if every else f"at {joined([str(number) for number in interim_seeds])}"
        )
        return (
            f"at most {last} seeds; interim analyses {when} (a t-mixture e-value, decided at {ANYTIME_BAR}), with intervals of "
            f"{per_cent(min(levels))} to {per_cent(max(levels))}"
        )
    percentages = joined([per_cent(level).removesuffix("%") for level in levels])
    kind = "interim analyses" if len(interim_seeds) > 1 else "one analysis,"
    seeds = joined([str(number) for number in interim_seeds])
    return (
        f"at most {interim_seeds[-1]} seeds; {kind} at {seeds} ({_NAMES[spending]}), with intervals of {percentages}%"
    )


def _sentences(
    reader: InterimReader,
    made: Sequence[InterimAnalysis],
    num_due: int,
    done: int,
    runs: Sequence[RunFiles],
    contrasts: Sequence[Contrast],
) -> Iterator[str]:
    course, last = reader.course, reader.course.interim_seeds[-1]
    if not course.over:
        yield _next(reader, num_due - done, num_due)
    for one in made:
        parts = [f"{arm} stopped ({_words(verdict)})" for arm, verdict in one.stopped.items()]
        if one.going:
            parts.append(f"{joined(one.going)} {'still undecided' if one.seeds == last else 'continued'}")
        yield f"Analysis at {one.seeds} seeds, intervals of {per_cent(one.level)}: {'; '.join(parts)}."
    early = [arm for one in made if one.seeds < last for arm, verdict in one.stopped.items() if verdict in DECIDED]
    if early:
        yield (
            f"Stopped early: {joined(early)}. An effect that stops early was far from zero at that analysis, and is "
            "overstated on average; its interval, at the level of that analysis, is not: it holds for all analyses together."
        )
    fewer = [arm for arm, seeds in course.stops.items() if seeds < course.seeds]
    if fewer:
        yield (
            f"Fewer seeds than the baseline: {joined(fewer)}. Tables of means over seeds are over each arm's own; effects are "
            "over the seeds that both have."
        )
    verdicts = {arm: verdict for one in made for arm, verdict in one.stopped.items()}
    changed = [
        f"{one.arm} ({_words(verdicts[one.arm])} then, {_words(one.verdict)} now)"
        for one in contrasts
        if one.primary and one.arm in verdicts and verdicts[one.arm] != one.verdict
    ]
    if changed:
        yield (
            f"An interim decision is final, but its runs or controls now say otherwise: {joined(changed)}. "
            "Runs were repeated since."
        )
    saved = len(reader.plan.runs) - len(reader.due.runs)
    if course.over and saved:
        yield (
            f"Over after {num_due} of at most {len(reader.plan.runs)} runs: {counted(saved, 'run')} that would have decided "
            "nothing were not needed."
        )
    origins = {run.manifest.shared_from for run in runs if run.manifest is not None and run.manifest.shared_from}
    if origins:
        studies = joined(sorted({origin.partition("/")[0] for origin in origins}))
        yield (
            f"Runs were reused from {studies}. If this study was begun because of their results, that was an interim analysis "
            "as well, and the levels do not account for it."
        )
    together = "The analyses share the error rate, so that all together give a false positive in about 5% of studies"
    if reader.plan.alpha_spending == "anytime":
        together = "However many analyses are made, they give a false positive in at most 5% of studies"
    yield (
        f"Declared before the first run: {declared(course.interim_seeds, reader.plan.alpha_spending, reader.levels)}. "
        f"{together}; p is of one analysis alone."
    )


def _next(reader: InterimReader, missing: int, num_due: int) -> str:
    course = reader.course
    rest = f"{missing} of its {num_due} runs are still to do"
    rest = rest if missing else "all its runs have ended; run the study's own command to make it"
    if not course.made:
        return (
            f"No verdict yet: the first analysis is at {course.next} seeds, and {rest}. No variant is judged before, because "
            "the levels do not account for another analysis."
        )
    return (
        f"Not over: the analysis at {course.next} seeds comes next, for {joined(course.going)}, and {rest}. The results shown "
        f"are those of {course.interim_seeds[course.made - 1]} seeds; later runs are not read before."
    )


def _words(verdict: str) -> str:
    return "no verdict, a control failed" if verdict == "none" else verdict

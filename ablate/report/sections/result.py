"""The result of a study: absolute values and effects of every arm, gradient norms, effects by metric, and what to run next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ablate import formatting as fmt
from ablate.config.flatten import ABSENT
from ablate.records.gradient_health import SPIKE, WINDOW
from ablate.report.section import Cell, Note, Section, Table, cells
from ablate.report.study_files import StudyFiles
from ablate.report.view_model import (
    SPREAD,
    ArmView,
    OutcomeView,
    View,
    beats_what,
    floors_sentence,
    interval_head,
    named,
    resampled,
)
from ablate.stats.power import detectable_effect
from ablate.units import END

_SEEDS = (5, 8, 10, 15, 20, 30, 50)
_MANY_ARMS = 12
_SHARES = ("clip_fraction", "grad_norm_spikes")


def setup(view: View, folder: Path) -> str:
    """Return the study in one line: model, data with sizes (training and evaluation), arms, seeds, and time of its runs."""
    config = StudyFiles(view.analysis, folder).config(view.arms[0].name)
    derived = view.arms[0].derived
    counts = [f"{derived[key]:,.0f}" for key in ("train_examples", "eval_examples") if key in derived]
    data = _name(config.get("data.path") or config.get("data.name"))
    data += f" ({' + '.join(counts)} examples)" if data and counts else ""
    seconds = sum(
        run.throughput.get(f"{what}_seconds", 0.0) for run in view.analysis.runs for what in ("train", "eval")
    )
    spent = fmt.duration(seconds) if seconds else ""
    return ", ".join(filter(None, (_name(config.get("model.name")), data, view.heading, spent)))


def _name(value: object) -> str:
    return "" if value in (None, ABSENT, "") else str(value).removeprefix("package:")


# Absolute values and effects.


def result(view: View, _folder: Path | None = None) -> Section | None:
    """Build the table of arms: mean and sd of the primary metric, effect, interval and verdict, and further metrics."""
    notes = tuple(_notes(view))
    if not view.primary and not notes and not view.outcomes:
        return None
    effects = (interval_head(view), "verdict") if view.primary else ()
    head = (
        "arm",
        view.metric.name,
        *(("effect", *effects) if effects else ()),
        *(one.info.name for one in view.further),
    )
    rows = tuple(_row(arm, view) for arm in view.compared)
    table = Table(
        head=head, rows=rows, words=frozenset({4} if effects else ()), most=_MANY_ARMS, optional=len(view.further)
    )
    return Section(
        key="result",
        title=f"Result: {named(view.metric)}, {view.direction}",
        plot="result",
        tables=(table, *_certainty(view)),
        notes=notes,
        reading=_reading(view),
        in_terminal=True,
    )


def _row(arm: ArmView, view: View) -> tuple[Cell, ...]:
    primary = view.outcome(view.metric.name)
    values = [mean_cell(one, arm.name) for one in (primary, *view.further) if one is not None]
    row = primary.rows.get(arm.name) if primary is not None else None
    effect: tuple[Cell, ...] = ()
    if row is not None:
        verdict = Cell(text=row.verdict, strong=row.significant, detail=row.remark)
        effect = (*cells(fmt.signed(row.effect), row.interval), verdict)
    elif view.primary:
        effect = cells("", "", "")
    return (Cell(text=arm.change, swatch=view.style(arm)), values[0], *effect, *values[1:])


def mean_cell(outcome: OutcomeView, arm: str) -> Cell:
    """Return mean and sd over the seeds of an arm."""
    mean, sd = outcome.of(arm)
    return Cell(text=mean, detail=sd)


def _certainty(view: View) -> Iterator[Table]:
    """The effect of every seed and its size in other units, what to expect again, and how many seeds it takes to decide."""
    rows = []
    lost = any(run.status == "diverged" for run in view.analysis.runs) and view.metric.lower_is_better is not None
    for row in view.primary:
        decimals = fmt.effect_decimals(row.contrast.effect or 0.0, row.contrast.low, row.contrast.high)
        seeds = ", ".join(fmt.number(difference, decimals) for difference in row.contrast.differences)
        again = (
            fmt.number(row.contrast.corrected_effect, decimals),
            fmt.interval(row.contrast.pair_low, row.contrast.pair_high, decimals),
        )
        needed = view.seeds_needed(row) or fmt.DASH
        rows.append(cells(row.arm.change, seeds, row.beats, row.hedges_g, row.p, *again, needed))
    if rows:
        head = (
            "arm",
            "difference of each seed",
            f"{beats_what(view.metric)}{' (diverged: worst)' if lost else ''}",
            "Hedges g",
            "p",
            "effect corrected for selection",
            "one new pair of runs, 95%",
            "seeds needed at 80% power",
        )
        yield Table(head=head, rows=tuple(rows), words=frozenset({1, 7}), title="How sure", folded=True)


def _notes(view: View) -> Iterator[Note]:
    """Observation axes and the repeat: a sentence instead of an effect; and how many seeds the largest open question needs."""
    for axis, levels in view.replays.items():
        same = all(level.same_trajectory for level in levels)
        yield Note(label=axis, text=resampled(levels), alarm=not same)
    for arm, sentence in view.repeated.items():
        yield Note(label=arm, text=sentence)
    needed = [row for row in view.primary if view.seeds_needed(row)]
    if needed and view.analysis.effects is None:
        largest = max(needed, key=lambda row: abs(row.contrast.effect or 0.0))
        yield Note(label="seeds", text=f"{largest.arm.change}: {view.seeds_needed(largest)}")


def _reading(view: View) -> str:
    if not view.primary:
        return ""
    definition = view.metric.definition.rstrip(".")
    return (
        f"{view.metric.name}: {definition}. Mean ± sd over seeds; effect: difference from the baseline. "
        f"Intervals: {view.method}; p adjusted likewise; a placebo is judged alone. Dots: one seed each. Shaded: smaller than "
        f"±{view.analysis.smallest_effect:g}, the smallest effect of interest. {floors_sentence(view)}"
    ).rstrip()


def findings(view: View, _folder: Path | None = None) -> Section | None:
    """Build the conclusions in sentences."""
    notes = tuple(Note(text=sentence) for sentence in view.conclusions if sentence != view.headline)
    return Section(key="findings", title="Findings in words", notes=notes, folded=True) if notes else None


# Every metric, and the gradient norm.


def with_effects(view: View) -> list[OutcomeView]:
    """Return the metrics other than the primary one that have an effect: significant effects first, as they are ordered."""
    known = [one for one in view.outcomes if any(row.contrast.effect is not None for row in one.rows.values())]
    return sorted(
        (one for one in known if one.info.name != view.metric.name),
        key=lambda one: not any(row.significant for row in one.rows.values()),
    )


def effects_by_metric(view: View, _folder: Path | None = None) -> Section | None:
    """Build one small picture of effects per metric; the primary one has its own."""
    if not with_effects(view):
        return None
    return Section(
        key="forests",
        title="Effects by metric",
        plot="forests",
        reading=(
            f"Each line is one change: its mean difference from the baseline with the {interval_head(view)}, simultaneous "
            f"over the variants but not over the metrics. Only {view.metric.name} was declared as the question beforehand: "
            "with many metrics, some differ by chance. Figures: All metrics."
        ),
    )


def gradient_norms(view: View, _folder: Path | None = None) -> Section | None:
    """Build size, spread, spikes and clipping of the gradient norm per arm."""
    if not view.gradient:
        return None
    declared = view.metric.name == SPREAD
    head = (
        "gradient norm" if declared else "gradient norm, exploratory",
        *(_short(one.info.name) for one in view.gradient),
    )
    rows = tuple(
        (Cell(text=arm.change, swatch=view.style(arm)), *(_with_verdict(one, arm.name) for one in view.gradient))
        for arm in view.trained
    )
    return Section(
        key="norms",
        title="Gradient norm",
        plot="norms",
        tables=(Table(head=head, rows=rows, most=_MANY_ARMS, optional=len(head) - 5),),
        reading=(
            "Of every step before clipping, mean over seeds. p95/p5: spread. A spike is a step above "
            f"{SPIKE:g} times the median of the {WINDOW} steps before it."
        ),
        in_terminal=True,
    )


def _with_verdict(outcome: OutcomeView, arm: str) -> Cell:
    mean = outcome.means.get(arm)
    row = outcome.rows.get(arm)
    shown = fmt.percent(mean) if outcome.info.name in _SHARES else fmt.figure(mean)
    told = row is not None and row.significant and outcome.info.name == SPREAD
    if row is None or not told:
        return Cell(text=shown)
    return Cell(text=shown, detail=row.verdict)


def _short(name: str) -> str:
    return {SPREAD: "p95/p5", "clip_fraction": "clipped"}.get(name, name.removeprefix("grad_norm_"))


# What to run next.


def next_steps(view: View, _folder: Path | None = None) -> Section | None:
    """Build commands that would tell more, with what each buys. The same study has the same text wherever it is."""
    steps = tuple(next_commands(view, Path("runs") / view.analysis.study))
    return Section(key="next", title="Next", facts=steps) if steps else None


def next_commands(view: View, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (command, what it buys). folder: the study directory, as it is typed."""
    analysis = view.analysis
    open_rows = [row for row in view.primary if row.contrast.verdict == "inconclusive" and row.arm.kind != "placebo"]
    one = next((row.contrast for row in open_rows if row.contrast.residual_sd and row.contrast.df), None)
    seeds = next((number for number in _SEEDS if number > len(analysis.seeds)), None)
    if not analysis.complete:
        yield analysis.command or f"ablate status {folder}", "continues with the runs that have no result yet"
    elif (
        one is not None
        and one.residual_sd
        and seeds
        and analysis.command.startswith("ablate -m")
        and not analysis.interim
    ):
        found = [fmt.figure(detectable_effect(n, one.family, one.residual_sd), 2) for n in (seeds, len(analysis.seeds))]
        more = (seeds - len(analysis.seeds)) * len(view.trained)
        words = [word for word in analysis.command.split(" ") if not word.startswith("study.seeds=")]
        buys = (
            f"{fmt.counted(more, 'run')}{_cost(view, more)}: detects effects from {found[0]} on instead of {found[1]}"
        )
        yield " ".join([*words, f"study.seeds={seeds}"]), buys
    steps = {arm.steps for arm in analysis.budgets.arms} if analysis.budgets else set()
    if len(steps) > 1 and analysis.budgets and analysis.budgets.unit == END and view.primary:
        yield f"ablate report {folder} --compare-at steps", "the same runs at equal updates; nothing is trained"


def _cost(view: View, runs: int) -> str:
    seconds = [
        run.throughput.get("train_seconds", 0.0) + run.throughput.get("eval_seconds", 0.0) for run in view.analysis.runs
    ]
    spent = [value for value in seconds if value]
    return f", about {fmt.duration(runs * sum(spent) / len(spent))}" if spent else ""


# Every metric in figures.


def metrics(view: View, _folder: Path | None = None) -> Section | None:
    """Build the mean of every metric and arm, with the difference from the baseline next to it."""
    if not view.outcomes:
        return None
    head = ("metric", *(arm.name for arm in view.trained), *(floor.name for floor in view.floors))
    rows = tuple(
        (
            Cell(text=one.info.name, detail=one.info.unit),
            *(_metric_cell(one, arm.name) for arm in view.trained),
            *cells(*(floor.of(one.info.name) for floor in view.floors)),
        )
        for one in view.outcomes
    )
    definitions = tuple((one.info.name, fmt.typeset(one.info.definition)) for one in view.outcomes)
    return Section(
        key="metrics",
        title="All metrics",
        tables=(Table(head=head, rows=rows),),
        notes=tuple(Note(label=floor.name, text=floor.sentence) for floor in view.floors),
        facts=definitions,
        reading=f"Mean ± sd over seeds; next to it the difference from the baseline with its {interval_head(view)}.",
    )


def _metric_cell(outcome: OutcomeView, arm: str) -> Cell:
    mean, sd = outcome.of(arm)
    row = outcome.rows.get(arm)
    if row is None or row.contrast.effect is None:
        return Cell(text=mean, detail=sd)
    between = f" {row.interval}" if row.contrast.low is not None else ""
    verdict = f" {row.verdict}" if row.significant else ""
    return Cell(text=mean, strong=row.significant, detail=f"{sd} {fmt.signed(row.effect)}{between}{verdict}".lstrip())

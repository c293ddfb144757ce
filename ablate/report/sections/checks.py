"""Checks of the verdicts: interim analyses, new examples, how often the runs were evaluated, and runs from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ablate import formatting as fmt
from ablate.analysis.eval_cadence import every
from ablate.analysis.results import Adequacy, Imported, InterimAnalyses, InterimAnalysis, LoggedCurve, ResampledCadence
from ablate.design.axis import show
from ablate.report.section import Cell, Note, Section, Table, cells
from ablate.report.view_model import View

# Interim analyses.


def interim_analyses(view: View, _folder: Path | None = None) -> Section | None:
    """Build one row per declared interim analysis: its confidence, which variants it stopped, and which continued."""
    result = view.analysis.interim
    if result is None:
        return None
    head = ("seeds", "intervals", "stopped", "continued")
    return Section(
        key="interim",
        in_terminal=True,
        title="Interim analyses",
        tables=(
            Table(head=head, rows=tuple(_interim_row(one, result) for one in result.analyses), words=frozenset({2, 3})),
        ),
        notes=tuple(Note(text=fmt.typeset(sentence)) for sentence in result.sentences),
    )


def _interim_row(one: InterimAnalysis, result: InterimAnalyses) -> tuple[Cell, ...]:
    stopped = ", ".join(
        f"{arm}: {'no verdict' if verdict == 'none' else verdict}" for arm, verdict in one.stopped.items()
    )
    if not one.made:
        stopped = "not needed" if result.over else "not made yet"
    return cells(str(one.seeds), fmt.per_cent(one.level), stopped or fmt.DASH, ", ".join(one.going) or fmt.DASH)


# New examples.

_EXAMPLES_HEAD = (
    "change", "95% over seeds", "95% over seeds and examples", "the verdict holds for", "examples' share",
    "only baseline right", "only this arm right", "exact p",
)  # fmt: skip
_EXAMPLES_READING = (
    "The second interval is about new seeds and new examples of this kind; a verdict is about the evaluation set of the "
    "study. Examples' share: of the second interval's squared error. Only right: examples per seed that one arm gets right "
    "and the other does not; p: exact over the examples, of these runs; not for a placebo, because it ignores that runs differ."
)


def examples(view: View, _folder: Path | None = None) -> Section | None:
    """Build the intervals over seeds and examples of the primary metric."""
    result = view.analysis.examples
    if result is None or not result.contrasts:
        return None
    rows = []
    for row in view.primary:
        one = result.of(row.contrast.arm)
        if one is None:
            continue
        decimals = fmt.effect_decimals(row.contrast.effect or 0.0, one.low, one.high)
        paired = one.paired
        counts = (paired.only_baseline, paired.only_arm) if paired else (None, None)
        p_value = paired.p_value if paired and row.arm.kind != "placebo" else None
        rows.append(cells(
            row.arm.change, row.interval, fmt.interval(one.low, one.high, decimals) if one.low is not None else one.refused,
            one.holds or fmt.DASH, fmt.percent(one.example_share), *map(fmt.figure, counts), fmt.p_value(p_value),
        ))  # fmt: skip
    return Section(
        key="examples",
        title="New examples",
        answer=fmt.typeset(f"{result.scope[:1].upper()}{result.scope[1:]}."),
        tables=(Table(head=_EXAMPLES_HEAD, rows=tuple(rows), words=frozenset({3})),),
        notes=tuple(Note(text=fmt.typeset(one.sentence) + ".") for one in result.contrasts if one.low is not None),
        reading=_EXAMPLES_READING,
    )


# Cadence: the same runs, recorded less often.

_LEVELS_HEAD = ("value", "points", "first point", "decrease before it", "per seed")
_CADENCE_HEAD = ("every", "points", "first", "before", "peak", "verdicts")
_CADENCE_READING = (
    "Every arm is resampled as a run at that cadence would have recorded it: evaluations at the same samples in every arm; "
    "log rows after a number of an arm's own steps, with the mean loss since the previous row and the last gradient norm. "
    "Before: decrease before the first point, in the arm where it is largest. Peak: the highest gradient norm that is "
    "shown, as a share of the highest recorded. A cadence is adequate where no verdict differs from the record's and at most a "
    "tenth of the decrease happens before its first point; the coarsest adequate cadence is the last one up to which all are."
)


def cadence(view: View, _folder: Path | None = None) -> Section | None:
    """Build what a coarser cadence would have shown: of each observation axis, and of every curve with its verdicts."""
    curves, finished = view.analysis.adequacy, any(run.status == "finished" for run in view.analysis.runs)
    if not curves and not view.replays and not finished:
        return None
    coarsest = coarsest_cadences(curves)
    return Section(
        key="cadence",
        title="Cadence",
        answer=f"{coarsest[:1].upper()}{coarsest[1:]}." if coarsest else "",
        plot="cadence",
        tables=(
            *(_levels_table(axis, levels) for axis, levels in view.replays.items()),
            *(replace(_cadence_table(curve), folded=True) for curve in curves),
        ),
        reading=_CADENCE_READING if curves else "",
    )


def _levels_table(axis: str, levels: Sequence[ResampledCadence]) -> Table:
    rows = tuple(
        cells(
            show(level.value),
            str(level.evaluations),
            f"step {fmt.plain(level.first_eval_step)}",
            fmt.percent(level.share_decrease_before_first_eval),
            ", ".join(fmt.percent(share) for share in level.shares),
        )
        for level in levels
    )
    return Table(head=_LEVELS_HEAD, rows=rows, title=f"{axis}, read from the baseline's runs", folded=True)


def cadence_tables(curves: Sequence[Adequacy]) -> tuple[Table, ...]:
    """Return the table of every curve by itself."""
    return tuple(_cadence_table(curve) for curve in curves)


def coarsest_cadences(curves: Iterable[Adequacy]) -> str:
    """Return `coarsest adequate cadence: eval loss every 20 steps, grad norm every step`."""
    named = [f"{one.curve} {every(one.coarsest) if one.coarsest else _no_cadence(one)}" for one in curves]
    return f"coarsest adequate cadence: {', '.join(named)}" if named else ""


def _no_cadence(one: Adequacy) -> str:
    record = one.rungs[0]
    where = f"{record.latest}'s" if record.latest else "the"
    return f"none ({fmt.percent(record.before_first)} of {where} decrease happens before its first recorded point)"


def _cadence_table(one: Adequacy) -> Table:
    rows = []
    for rung in one.rungs:
        same = "the same" if rung.truthful else "too late"
        verdicts = fmt.typeset(fmt.joined(rung.flips)) if rung.flips else same
        first = f"step {fmt.plain(rung.first_step)}"
        figures = (rung.every, fmt.plain(rung.points), first, fmt.percent(rung.before_first), fmt.percent(rung.peak))
        rows.append((*cells(*figures), Cell(text=verdicts, strong=not rung.truthful)))
    return Table(
        head=_CADENCE_HEAD,
        rows=tuple(rows),
        words=frozenset({5}),
        title=f"{one.curve}, judged by {one.metric}",
        intro=fmt.typeset(" ".join(f"{text}." for text in (one.sentence, one.advice) if text)),
    )


# Imported runs.


def imported(view: View, _folder: Path | None = None) -> Section | None:
    """Build the origin of imported runs and the cadence of every curve in their logs."""
    result = view.analysis.imported
    if result is None:
        return None
    head = ("arm", "curve", "rows", "cadence", "first", "last", "decrease before the first evaluation", "read from")
    rows = tuple(_imported_row(one) for one in result.curves)
    lines = [fmt.typeset(f"{fmt.joined(arms)}: {sentence}") for sentence, arms in _alike(result)]
    return Section(
        key="imported",
        title="Logging cadence of imported runs",
        tables=(Table(head=head, rows=rows, words=frozenset({1, 7})),) if rows else (),
        notes=(
            *(Note(text=line) for line in lines),
            *(Note(label="source", text=fmt.typeset(line)) for line in result.sources),
        ),
    )


def _alike(result: Imported) -> Iterator[tuple[str, list[str]]]:
    """Arms that were logged alike share a sentence."""
    alike: dict[str, list[str]] = {}
    for one in result.curves:
        alike.setdefault(one.sentence.removeprefix(f"{one.arm}: "), []).append(one.arm)
    yield from alike.items()


def _imported_row(one: LoggedCurve) -> tuple[Cell, ...]:
    figures = (fmt.plain(one.points), one.every, f"step {fmt.plain(one.first_step)}", fmt.plain(one.last_step))
    return cells(one.arm, one.curve, *figures, fmt.percent(one.before_first), one.measured_on or fmt.DASH)

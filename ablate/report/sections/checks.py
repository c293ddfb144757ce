"""Checks of the verdicts: interim analyses, new examples, how often the runs were evaluated, and runs from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ablate import formatting as fmt
from ablate.analysis.eval_cadence import every
from ablate.analysis.results import Adequacy, Imported, InterimAnalyses, InterimAnalysis, LoggedCurve
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
    "change", "effect", "95% over seeds", "95% over seeds and examples", "the verdict holds for", "examples' share",
    "only baseline right", "only this arm right", "exact p",
)  # fmt: skip
_EXAMPLES_READING = (
    "The second interval is about new seeds and new examples of this kind; a verdict is about the evaluation set of the "
    "study. Examples' share: of the second interval's squared error. Only right: examples per seed that one arm gets right "
    "and the other does not; p: exact over the examples, of these runs."
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
        rows.append(cells(
            row.arm.change, row.effect, row.interval,
            fmt.interval(one.low, one.high, decimals) if one.low is not None else one.refused,
            one.holds or fmt.DASH, fmt.percent(one.example_share),
            *(fmt.figure(count) for count in counts), fmt.p_value(paired.p_value if paired else None),
        ))  # fmt: skip
    return Section(
        key="examples",
        title="Generalization to new examples",
        answer=fmt.typeset(f"{result.scope[:1].upper()}{result.scope[1:]}."),
        tables=(Table(head=_EXAMPLES_HEAD, rows=tuple(rows), words=frozenset({4})),),
        reading=_EXAMPLES_READING,
        brief=tuple(Note(text=fmt.typeset(one.sentence) + ".") for one in result.contrasts if one.low is not None),
    )


# Observation axes: the same runs, evaluated less often.


def observation_axes(view: View, _folder: Path | None = None) -> Section | None:
    """Build one table per observation axis: what a coarser cadence would have missed."""
    if not view.replays:
        return None
    tables = []
    for axis, levels in view.replays.items():
        arm = next((arm for arm in view.arms if arm.axis == axis), None)
        rows = tuple(
            (
                Cell(text=show(level.value), swatch=f"level l{number % 4 + 1}"),
                *cells(str(level.evaluations), f"step {fmt.plain(level.first_eval_step)}"),
                Cell(
                    text=fmt.percent(level.share_decrease_before_first_eval),
                    gauge=level.share_decrease_before_first_eval,
                ),
                Cell(text=", ".join(fmt.percent(share) for share in level.shares)),
            )
            for number, level in enumerate(levels)
        )
        head = ("value", "evaluations", "first evaluation", "decrease before the first evaluation", "per seed")
        tables.append(Table(head=head, rows=rows, title=axis, intro=arm.question if arm else ""))
    return Section(
        key="replays",
        title="Same runs, evaluated less often",
        tables=tuple(tables),
        reading="Read from the record of the baseline runs; nothing was trained again.",
    )


# Evaluation cadence.

_CADENCE_HEAD = ("every", "points", "first", "before", "peak", "verdicts")
_CADENCE_READING = (
    "Every arm is resampled as a run at that cadence would have recorded it: evaluations at the same samples in every arm; "
    "log rows after a number of an arm's own steps, with the mean loss since the previous row and the last gradient norm. "
    "Before: decrease before the first point, in the arm where it is largest. Peak: the highest gradient norm that is "
    "shown, as a share of the highest recorded. A cadence is adequate where no verdict differs from the record's and at most a "
    "tenth of the decrease happens before its first point; the coarsest adequate cadence is the last one up to which all are."
)


def evaluation_cadence(view: View, _folder: Path | None = None) -> Section | None:
    """Build one table per curve: the coarsest cadence that gives the same verdicts."""
    return cadence_section(view.analysis.adequacy)


def cadence_section(curves: Sequence[Adequacy]) -> Section | None:
    """Build the section from the curves alone."""
    if not curves:
        return None
    return Section(
        key="adequacy",
        title="Evaluation cadence",
        tables=tuple(_cadence_table(curve) for curve in curves),
        reading=_CADENCE_READING,
        brief=(Note(text=coarsest_cadences(curves)),),
    )


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
        rows.append((*cells(*figures), Cell(text=verdicts, tone="good" if rung.truthful else "open")))
    return Table(
        head=_CADENCE_HEAD,
        rows=tuple(rows),
        words=frozenset({5}),
        title=f"{one.curve}, judged by {one.metric}",
        intro=f"{fmt.typeset(one.sentence)}.",
        outro=fmt.typeset(f"{one.advice}.") if one.advice else "",
    )


# Imported runs.


def imported(view: View, _folder: Path | None = None) -> Section | None:
    """Build the origin of imported runs and the cadence of every curve in their logs."""
    result = view.analysis.imported
    if result is None:
        return None
    head = ("arm", "curve", "rows", "cadence", "first", "last", "decrease before the first evaluation", "read from")
    rows = tuple(_imported_row(one) for one in result.curves)
    alarms = " ".join(sentence for _, sentence in view.alarms)
    lines = [(fmt.typeset(f"{fmt.joined(arms)}: {sentence}"), sentence) for sentence, arms in _alike(result)]
    return Section(
        key="imported",
        title="Logging cadence of imported runs",
        tables=(Table(head=head, rows=rows, words=frozenset({1, 7})),) if rows else (),
        notes=(
            *(Note(text=line) for line, _ in lines),
            *(Note(label="source", text=fmt.typeset(line)) for line in result.sources),
        ),
        brief=tuple(
            Note(label="cadence", text=line) for line, sentence in lines if fmt.typeset(sentence) not in alarms
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

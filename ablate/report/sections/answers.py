"""Answers of designs that ask for more than contrasts with the baseline: shares, a mediator, effects, variance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablate import formatting as fmt
from ablate.analysis import mediation as mediation_shares
from ablate.analysis.cells import SIGNIFICANT
from ablate.analysis.design_results import CellEffect, Effects, HeldEffect, KeyMoved, Mediated, PartRead, VariancePart
from ablate.design.axis import show
from ablate.report.headline import MEDIATION_VERDICTS
from ablate.report.section import Cell, Note, Section, Table, cells
from ablate.report.view_model import View, interval_head
from ablate.stats.shapley import Contribution

# Which suspects remove the irregularity of the eval curve.

_KINDS = {"training": "changes the training", "observation": "changes only what is shown"}


def irregularity(view: View, _folder: Path | None = None) -> Section | None:
    """Build one row per suspect: how irregular the curve is without and with it, and the spread of the gradient norm."""
    result = view.analysis.irregularity
    if result is None or not result.suspects:
        return None
    rows = []
    for one in result.suspects:
        decimals = 2 if one.effect is None else fmt.effect_decimals(one.effect, one.low, one.high)
        rows.append((
            Cell(text=fmt.typeset(one.change), swatch=view.style(view.arm(one.arm))),
            Cell(text=one.outcome, strong=one.outcome in ("removes", "reduces", "worsens")),
            *cells(_moved(one.before, one.after), fmt.percent(one.removed), fmt.interval(one.low, one.high, decimals)),
            Cell(text=_moved(one.grad_norm_before, one.grad_norm_after), detail=one.grad_norm_verdict),
            Cell(text=_KINDS[one.kind]),
        ))  # fmt: skip
    head = ("suspect", "result", "irregularity", "removed", interval_head(view), "norm p95/p5", "how")
    return Section(
        key="irregularity",
        title=f"Irregularity: {result.metric}, evaluated every {result.cadence}",
        answer=fmt.typeset(result.answer),
        tables=(Table(head=head, rows=tuple(rows), words=frozenset({1, 6}), optional=1),),
        reading=fmt.typeset(" ".join(result.sentences)),
        in_terminal=(result.metric, result.cadence) != (view.analysis.metric, result.record),  # else the result says it
    )


def _moved(before: float | None, after: float | None) -> str:
    return fmt.DASH if after is None else f"{fmt.figure(before, 2)} → {fmt.figure(after, 2)}"


# Shares of the difference between two configs.

SHARES_READING = (
    "Alone: from the first config, only this key moved to the second's value. Interaction: what the keys do only "
    "together. Both columns of shares add up to 100%; the second divides the interaction evenly among the keys (Shapley). "
    "Intervals: 95%, over seeds, of each figure by itself."
)


def attribution(view: View, _folder: Path | None = None) -> Section | None:
    """Build the shares of every config key in the difference between two configs."""
    result = view.analysis.attribution
    if result is None:
        return None
    even = {part.name: part for part in result.shapley}
    rows = []
    for part in (*result.alone, *(part for part in (result.interaction, result.total) if part is not None)):
        whole = part is result.total and not result.refused
        shares = ("100%", "100%") if whole else (_share(part), _share(even[part.name]) if part.name in even else "")
        rows.append(cells(part.name, *_effect(part), *shares))
    table = Table(head=("", "alone", "95% interval", "share", "divided evenly"), rows=tuple(rows))
    return Section(
        key="shares",
        in_terminal=True,
        title=f"Shares of the difference in {result.metric}",
        answer=fmt.typeset(result.sentence),
        refused=bool(result.refused),
        tables=(table,) if result.total is not None else (),
        notes=(
            *(Note(label="key", text=_moved_key(key)) for key in result.keys),
            *(Note(label="seeds", text=line, alarm=True) for line in result.left_out),
        ),
        reading=f"{SHARES_READING} {fmt.typeset(result.shapley_sentence)}".rstrip(),
        num_seeds=len(result.seeds),
    )


def _effect(part: Contribution | None) -> tuple[str, str]:
    """Effect and interval with shared decimals."""
    if part is None:
        return fmt.DASH, fmt.DASH
    decimals = fmt.effect_decimals(part.effect, part.low, part.high)
    return fmt.number(part.effect, decimals), fmt.interval(part.low, part.high, decimals)


def _share(part: Contribution) -> str:
    """`92% (80 to 104)`: below 0 or above 100 where keys work against each other."""
    if part.share is None:
        return fmt.DASH
    share, low, high = (
        fmt.number(None if value is None else 100 * value, 0) for value in (part.share, part.share_low, part.share_high)
    )
    return f"{share}%" + (f" ({low} to {high})" if part.share_low is not None else "")


def _moved_key(key: KeyMoved) -> str:
    """`batch_size: data.batch_size 8 → 64; derived changes: total_steps 128 → 16`."""
    moves = ", ".join(f"{name} {show(before)} → {show(after)}" for name, (before, after) in key.moves.items())
    derived = ", ".join(f"{name} {_plain(before)} → {_plain(after)}" for name, (before, after) in key.brings.items())
    return f"{key.name}: {moves}" + (f"; derived changes: {derived}" if derived else "")


def _plain(value: object) -> str:
    return fmt.plain(value) if isinstance(value, int | float) else str(value)


# A treatment whose mediator was held.

MEDIATION_INTERVALS = (
    "95% each (paired t); with several levels held, simultaneous over all their conclusions (Bonferroni)"
)
MEDIATION_READING = (
    "Effect left: the treatment's effect between two arms that both hold the mediator at this level. Goes through: the total "
    "minus that, as a share of the total with Fieller's interval."
)


def mediation(view: View, _folder: Path | None = None) -> Section | None:
    """Build the total effect and, for each level held, what is left of it."""
    result = view.analysis.mediated
    if result is None:
        return None
    rows = [cells("total", *_effect(result.total), "", "")] if result.total is not None else []
    for held in result.held:
        verdict = Cell(text=MEDIATION_VERDICTS[held.verdict], strong=True)
        rows.append((*cells(held.label, *_effect(held.left), _through(held)), verdict))
    head = ("held", "effect left", "95% interval", "goes through", "verdict")
    table = Table(head=head, rows=tuple(rows), words=frozenset({4}))
    return Section(
        key="mediation",
        in_terminal=True,
        title=f"Mediation of the effect on {result.metric}",
        answer=fmt.typeset(result.sentence),
        refused=bool(result.refused),
        tables=(table,) if result.total is not None and result.held else (),
        notes=tuple(_mediation_notes(result)),
        reading=f"{MEDIATION_READING} Intervals: {MEDIATION_INTERVALS}." if result.held else "",
        num_seeds=len(result.seeds),
    )


def _through(held: HeldEffect) -> str:
    """Share that goes through; a dash where the mediator was not held, because it would be a share of something else."""
    if held.through is None or held.verdict == "not held":
        return fmt.DASH
    return fmt.typeset(mediation_shares.share(held.through))


def _mediation_notes(result: Mediated) -> Iterator[Note]:
    for held in result.held:
        yield Note(label="held", text=fmt.typeset(held.sentence), alarm=held.verdict == "not held")
    for held in result.held:
        for one in held.measures:
            values = (one.baseline, one.treated, one.first, one.second)
            before, after, first, second = (fmt.figure(value) for value in values)
            text = f"{held.label}: {one.what} {before} → {after} unchanged, {first} → {second} with it held"
            yield Note(label="measured", text=text)
    if result.limits:
        yield Note(label="limits", text=fmt.typeset(result.limits))
    for line in result.left_out:
        yield Note(label="seeds", text=line, alarm=True)
    if result.labels and not result.refused:
        yield Note(label="seeds", text=f"{', '.join(result.labels)}: {fmt.counted(len(result.seeds), 'seed')}")


# Several axes moved together.

EFFECTS_HEAD = ("effect of", "effect", "95% interval", "verdict", "p")
PARTS_HEAD = ("part", "result", "alone", "95% interval", "largest effect, next to another part")
_EFFECTS_TITLES = {
    "factorial": "Main effects and interactions",
    "fractional": "Main effects and interactions (aliased)",
    "pairwise": "Dead, redundant and useful parts",
}


def effects(view: View, _folder: Path | None = None) -> Section | None:
    """Build the effects of a design that moves several axes together."""
    result = view.analysis.effects
    if result is None:
        return None
    rows = tuple(effect_row(effect) for effect in result.effects)
    tables: tuple[Table, ...] = ()
    if result.parts:
        parts = Table(head=PARTS_HEAD, rows=tuple(part_row(part) for part in result.parts), words=frozenset({1, 4}))
        title = f"All {len(rows)} effects, alone and combined"
        tables = (parts, Table(head=EFFECTS_HEAD, rows=rows, words=frozenset({3}), title=title, folded=True))
    elif result.effects:
        tables = (Table(head=EFFECTS_HEAD, rows=rows, words=frozenset({3})),)
    return Section(
        key="effects",
        in_terminal=True,
        title=f"{_EFFECTS_TITLES[result.kind]}: {result.metric}",
        tables=tables,
        notes=tuple(_effects_notes(result)),
        reading=fmt.typeset(_effects_reading(result)),
        num_seeds=len(result.seeds),
    )


def effect_row(effect: CellEffect) -> tuple[Cell, ...]:
    """Return the row of one main effect or interaction; p last."""
    decimals = _decimals(effect)
    needed = effect.verdict == "inconclusive" and effect.seeds_needed
    remarks = [f"{effect.seeds_needed} seeds would settle the smallest effect of interest"] if needed else []
    remarks += [*effect.labels, *(["an average"] if effect.average else [])]
    verdict = Cell(text=_word(effect.verdict), strong=effect.verdict in SIGNIFICANT, detail=", ".join(remarks))
    number, interval = fmt.number(effect.effect, decimals), fmt.interval(effect.low, effect.high, decimals)
    return (*cells(fmt.typeset(effect.name), number, interval), verdict, Cell(text=fmt.p_value(effect.p_value)))


def part_row(part: PartRead) -> tuple[Cell, ...]:
    """Return the row of one part of a pairwise design."""
    alone, most = part.alone, part.most
    decimals = _decimals(alone)
    combined = fmt.DASH
    if most is not None:
        figure = fmt.signed(fmt.number(most.effect, _decimals(most)))
        combined = f"{figure} with {most.axes[1]}: {_word(most.verdict)}"
    found = "no result" if part.word == "none" else part.word
    word = Cell(text=found, strong=part.word in ("matters", "redundant"), detail=", ".join(alone.labels))
    number, interval = fmt.number(alone.effect, decimals), fmt.interval(alone.low, alone.high, decimals)
    return (Cell(text=part.name), word, *cells(number, interval, combined))


def _word(verdict: str) -> str:
    return "no verdict" if verdict == "none" else verdict


def _decimals(effect: CellEffect) -> int:
    return 2 if effect.effect is None else fmt.effect_decimals(effect.effect, effect.low, effect.high)


def _effects_notes(result: Effects) -> Iterator[Note]:
    """Averages, higher interactions, aliases, and what is missing."""
    if result.refused:
        yield Note(label="none", text=f"no effects, because {fmt.typeset(result.refused)}", alarm=True)
    for effect in result.effects:
        if effect.average and effect.verdict not in SIGNIFICANT:  # the conclusions name those that are significant
            yield Note(label="average", text=fmt.typeset(f"{effect.name} is {effect.average}"))
    high: Sequence[CellEffect] = [effect for effect in result.effects if len(effect.axes) > 2]
    if rest := sum(effect.verdict != "interact" for effect in high):
        yield Note(label="higher", text=f"{fmt.counted(rest, 'interaction')} of three or more axes not significant")
    yield from (Note(label="aliased", text=fmt.typeset(sentence)) for sentence in result.aliases)
    yield from (Note(label="seeds", text=fmt.typeset(sentence), alarm=True) for sentence in result.left_out)


def _effects_reading(result: Effects) -> str:
    intervals = (
        f"Intervals: 95%, simultaneous over all {result.family} effects; seed-blocked model of all {len(result.cells)} arms, "
        "and the seeds' own values must agree. "
    )
    if result.kind == "pairwise":
        return intervals + (
            "Alone: this arm against the baseline. Largest effect: what the same change does where another part is already "
            "changed. Dead: no effect alone and none next to any other part. Redundant: none alone, and one next to another "
            "part. `equivalent` takes two one-sided tests within the smallest effect of interest."
        )
    return intervals + (
        "Main effect: an axis's value against the baseline's, over all values of the other axes. Interaction of axes with two "
        "values: how far the effect of one axis, at either value of the other, is from its main effect."
    )


# Random streams.

VARIANCE_READING = (
    "Shares of the variance between runs of one config, with 95% intervals (generalized; wide with few draws). Both "
    "together: what neither stream makes by itself, and whatever does not repeat. Significant: F test of the stream at 5%, "
    "one metric at a time."
)


def variance(view: View, _folder: Path | None = None) -> Section | None:
    """Build the share of each random stream in the variance between runs."""
    result = view.analysis.variance
    if result is None:
        return None
    rows = tuple(
        cells(one.metric, fmt.figure(one.sd, 2), *(_variance_share(part) for part in one.parts), one.shown or fmt.DASH)
        for one in result.of
    )
    head = ("metric", "sd", *result.streams, "both together", "significant")
    table = Table(head=head, rows=rows, words=frozenset({len(head) - 1}), most=6)
    return Section(
        key="variance",
        in_terminal=True,
        title="Sources of variance between runs",
        answer=fmt.typeset(result.sentence),
        refused=bool(result.refused),
        tables=(table,) if rows else (),
        notes=(Note(label="advice", text=fmt.typeset(result.advice)),) if result.advice else (),
        reading=VARIANCE_READING,
    )


def _variance_share(part: VariancePart) -> str:
    low, high = (fmt.number(100 * value, 0) for value in (part.share_low, part.share_high))
    return f"{fmt.percent(part.share)} ({low} to {high})"

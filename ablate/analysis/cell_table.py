"""The cells of a crossed design and their runs' values, and one claim about them as it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.blocked_power import seeds_to_decide
from ablate.analysis.claims import Claims
from ablate.analysis.contrasts import DECIDED, WITHIN_FLOOR
from ablate.analysis.effect_values import CellEffect, EffectKind
from ablate.analysis.floors import largest
from ablate.analysis.guard import ENOUGH_SEEDS
from ablate.analysis.judge import LOW_POWER, LOW_POWER_POOLED_ONLY, POOLED_ONLY
from ablate.analysis.values import Control, Floor, MetricInfo, RunReading
from ablate.analysis.words import change, counted, joined
from ablate.design.cells import Cells
from ablate.design.plan import Plan

Values = NDArray[np.float64]

TOLD = (*DECIDED, "interact")
"""Verdicts of an effect that is told from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellTable:
    """values: [cells, seeds], NaN where a run has none. failed: {arm: why} of cells whose control failed.

    floor: an effect that is no larger has no verdict; None where none was measured. waiting: runs that have not ended.
    num_runs: of all cells.
    """

    cells: Cells
    metric: MetricInfo
    margin: float
    seeds: tuple[int, ...]
    values: Values
    left_out: tuple[str, ...]
    lost: tuple[str, ...]
    failed: dict[str, str]
    floor: float | None
    waiting: int
    num_runs: int

    @property
    def whole(self) -> tuple[int, ...]:
        """Seeds with a value in every cell."""
        every = np.all(np.isfinite(self.values), axis=0)
        return tuple(seed for seed, one in zip(self.seeds, every, strict=True) if one)

    @property
    def empty(self) -> tuple[str, ...]:
        """Cells without any value."""
        none = ~np.any(np.isfinite(self.values), axis=1)
        return tuple(arm for arm, one in zip(self.cells.arms, none, strict=True) if one)

    def described(self) -> tuple[dict[str, Any], ...]:
        """What is in which cell, and its mean over seeds."""
        found = []
        for arm, place, row in zip(self.cells.arms, self.cells.places, self.values, strict=True):
            words = {
                name: words[number]
                for name, words, number in zip(self.cells.names, self.cells.levels, place, strict=True)
            }
            mean = float(np.mean(row[np.isfinite(row)])) if np.any(np.isfinite(row)) else None
            found.append({"arm": arm, "levels": words, "mean": mean})
        return tuple(found)

    def nothing_yet(self) -> str:
        """Why no effect is told at all; '' where some may be."""
        if self.empty and self.waiting:
            return f"not every arm has a finished run yet ({self.waiting} of {counted(self.num_runs, 'run')} to go)"
        if len(self.seeds) < 2 or np.max(np.sum(np.isfinite(self.values), axis=1)) < 2:
            return "one seed has no interval: two are the least"
        return ""


def cell_table(
    plan: Plan,
    cells: Cells,
    metric: MetricInfo,
    readings: Sequence[RunReading],
    checks: Sequence[Control],
    floors: Sequence[Floor],
) -> CellTable:
    """From the readings of the primary metric."""
    known: dict[tuple[str, int], RunReading] = {(run.arm, run.seed): run for run in readings}
    values = np.full((len(cells.arms), len(plan.seeds)), np.nan)
    for i, arm in enumerate(cells.arms):
        for k, seed in enumerate(plan.seeds):
            run = known.get((arm, seed))
            value = run.values.get(metric.name) if run else None
            values[i, k] = value if value is not None and math.isfinite(value) else np.nan
    lost = [run for run in readings if run.arm in cells.arms and run.status in ("diverged", "failed", "unreadable")]
    failed: dict[str, str] = {}
    for check in checks:
        if check.status == "failed" and check.arm in cells.arms:
            failed.setdefault(check.arm, f"the control `{check.name}` failed: {check.sentence}")
    mine = [run for run in readings if run.arm in cells.arms]
    return CellTable(
        cells=cells,
        metric=metric,
        margin=plan.smallest_effect,
        seeds=plan.seeds,
        values=values,
        left_out=tuple(_left_out(cells, plan.seeds, values, known)),
        lost=tuple(f"seed {run.seed} of {run.arm}" for run in lost),
        failed=failed,
        floor=largest(floors, metric.name),
        waiting=sum(run.status in ("missing", "running", "interrupted") for run in mine),
        num_runs=len(mine),
    )


def _left_out(
    cells: Cells, seeds: Sequence[int], values: Values, known: dict[tuple[str, int], RunReading]
) -> list[str]:
    said = []
    for k, seed in enumerate(seeds):
        without = [arm for arm, row in zip(cells.arms, values, strict=True) if not math.isfinite(row[k])]
        if without:
            ended = [f"{arm} ({run.status if (run := known.get((arm, seed))) else 'missing'})" for arm in without[:3]]
            more = [f"{len(without) - 3} more"] if len(without) > 3 else []
            said.append(f"seed {seed} has no value in {joined([*ended, *more])}; its other runs still count")
    return said


def shown(
    table: CellTable,
    claims: Claims,
    number: int,
    *,
    kind: EffectKind,
    name: str,
    axes: tuple[str, ...],
    levels: tuple[str, ...],
    needs: Sequence[str],
    mixed_with: tuple[str, ...] = (),
    withheld: str = "",
) -> CellEffect:
    """One claim with its verdict. needs: the arms that it rests on. withheld: a label that takes its verdict away."""
    effect, seeds = _known(claims.effects[number]), int(claims.seeds[number])
    refused = any(arm in table.failed for arm in needs)
    labels = [f"{seeds} of {len(table.seeds)} seeds"] if seeds < len(table.seeds) else []
    only_pooled = bool(claims.only_pooled[number])
    if seeds < ENOUGH_SEEDS:
        labels.append(LOW_POWER_POOLED_ONLY if only_pooled else LOW_POWER)
    elif only_pooled:
        labels.append(POOLED_ONLY)
    verdict = "undecided"
    if refused:
        verdict = "none"
    elif claims.within[number]:
        verdict = "no effect"
    elif claims.differs[number] and effect is not None:
        small = table.floor is not None and abs(effect) <= table.floor
        why = WITHIN_FLOOR if small else withheld
        labels += [why] if why else []
        verdict = "undecided" if why else _direction(kind, effect, table.metric.lower_is_better)
    open_ = verdict == "undecided" and not claims.differs[number]
    return CellEffect(
        kind=kind,
        name=name,
        axes=axes,
        levels=levels,
        effect=effect,
        low=_known(claims.low[number]),
        high=_known(claims.high[number]),
        inner_low=_known(claims.inner_low[number]),
        inner_high=_known(claims.inner_high[number]),
        p_value=_known(claims.p_value(number)),
        own_p=_known(claims.own_p_values[number]),
        seeds=seeds,
        verdict=verdict,
        seeds_needed=_needed(table, claims, number) if open_ else None,
        labels=tuple(labels),
        mixed_with=mixed_with,
    )


def _direction(kind: EffectKind, effect: float, lower_is_better: bool | None) -> str:
    if kind == "interaction":
        return "interact"
    if lower_is_better is None:
        return "raises" if effect > 0 else "lowers"
    return "hurts" if (effect > 0) == lower_is_better else "helps"


def _needed(table: CellTable, claims: Claims, number: int) -> int | None:
    """Seeds that would decide it: those of a contrast of two arms with this error, among as many."""
    error, seeds = float(claims.errors[number]), int(claims.seeds[number])
    if not (error > 0 and seeds > 1):
        return None
    needed = _decided_by(float(f"{error * math.sqrt(seeds / 2):.9g}"), table.margin, len(claims.effects))
    return None if needed is None else max(needed, seeds + 1)


_decided_by = lru_cache(maxsize=256)(seeds_to_decide)
"""The claims of a complete layout have two errors or three."""


def figures(one: CellEffect) -> str:
    """`+0.116, 95 % interval 0.085 .. 0.147`."""
    if one.effect is None or one.low is None or one.high is None:
        return "no interval"
    return change(one.effect, one.low, one.high)


def measured(one: CellEffect, unit: str) -> str:
    """`+0.116 nats (95 % interval 0.085 .. 0.147)`."""
    head, _, rest = figures(one).partition(", ")
    return f"{head}{f' {unit}' if unit else ''}{f' ({rest})' if rest else ''}"


def needed_words(one: CellEffect) -> str:
    """`; about 12 seeds needed`, or what took the verdict away."""
    if WITHIN_FLOOR in one.labels:
        return "; no larger than what chance alone makes"
    return f"; about {one.seeds_needed} seeds needed" if one.seeds_needed else ""


def signed(value: float, like: CellEffect) -> str:
    """A difference with as many decimals as the effect's interval bears."""
    half = ((like.high or 0.0) - (like.low or 0.0)) / 2
    decimals = max(0, 1 - math.floor(math.log10(half))) if half > 0 else 3
    text = f"{value:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def margin_words(table: CellTable) -> str:
    """`inside plus or minus 0.01`."""
    return f"inside plus or minus {table.margin:g}"


def _known(value: float | np.float64) -> float | None:
    return float(value) if math.isfinite(value) else None
